"""``xairouter demo``: the whole product in one process, with no provider account and no network.

Router and stand-in start on loopback, an owner is made, a demo key added, and calls go through in
three dialects; then everything stays up to be tried out. What was stored goes at the end.
"""

import asyncio
import json
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from xairouter.app import House, make_server
from xairouter.errors import ConfigError
from xairouter.manage.owners import create_owner
from xairouter.settings import load
from xairouter.standin.server import StandIn
from xairouter.upstream.egress import Egress
from xairouter.upstream.http_client import HttpClient, opened
from xairouter.upstream.interface import Limits, WireRequest, whole

SECRET = "demo-key-that-the-stand-in-accepts"  # noqa: S105 -- the stand-in takes any
MODELS = ["demo-large", "demo-small", "demo-embed", "fault-*"]
OPENAI_DIALECTS = (
    "openai_chat",
    "openai_completions",
    "openai_responses",
    "openai_embeddings",
)
Say = Callable[[str], None]

CALLS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (
        "OpenAI chat",
        "/v1/chat/completions",
        {"model": "demo-large", "messages": [{"role": "user", "content": "Hello from OpenAI"}]},
    ),
    (
        "Anthropic messages",
        "/v1/messages",
        {
            "model": "demo-large",
            "max_tokens": 64,
            "messages": [{"role": "user", "content": "Hello from Anthropic"}],
        },
    ),
    (
        "Gemini",
        "/v1beta/models/demo-large:generateContent",
        {"contents": [{"role": "user", "parts": [{"text": "Hello from Gemini"}]}]},
    ),
)


@dataclass(frozen=True, slots=True)
class Demo:
    """A running demo: where it is, the key that opens it, and the server, which a signal ends."""

    url: str
    api_key: str
    serving: asyncio.Task[None]


async def start(stack: AsyncExitStack, port: int, say: Say) -> Demo:
    """Start everything, make the calls, and say what happens; ``stack`` ends it all."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="xairouter-demo-")))
    settings = load(data_dir=folder, port=port, allow_private_providers=True)
    standin = StandIn()
    standin_port = await standin.start()
    stack.push_async_callback(standin.stop)
    say(f"A stand-in provider listens on http://127.0.0.1:{standin_port}.")
    house = House(settings)
    await house.start()
    stack.push_async_callback(house.stop)
    try:
        server, bound = make_server(house, partial(house.running.drain, 1))
    except OSError as error:
        raise ConfigError([f"Cannot listen on port {port}: {error.strerror}."]) from None
    serving = asyncio.create_task(server.serve(sockets=[bound]))

    async def end() -> None:
        server.should_exit = True
        await serving

    stack.push_async_callback(end)
    demo_url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    say(f"The router listens on {demo_url}.")
    owner = await create_owner(
        house.database, house.room.witness, "demo", None, seen_by_operator=True
    )
    say(f"Owner “demo” has the XAI API key {owner.api_key}")
    demo = Demo(demo_url, owner.api_key, serving)
    await _try_out(demo, standin_port, say)
    await house.drain.drain()
    return demo


async def _try_out(demo: Demo, standin_port: int, say: Say) -> None:
    base = f"http://127.0.0.1:{standin_port}"
    endpoints = {
        **dict.fromkeys(OPENAI_DIALECTS, f"{base}/v1"),
        "anthropic_messages": base,
        "gemini_generate": base,
    }
    prices = {"demo-*": {"input": 2.5, "cached_input": 0.5, "output": 10}}
    async with opened(Egress(allow_private=True)) as client:
        ask = partial(_ask, client, demo)
        key = await ask(
            "POST",
            "/api/v1/provider-keys",
            {"name": "stand-in", "secret": SECRET, "endpoints": endpoints, "models": MODELS},
        )
        say(
            f"Its vault keeps the provider key {key['id']}, ending in {key['last4']}; the check-up "
            f"found {key['checkup']['models_found']} models."
        )
        await ask("PUT", "/api/v1/prices", prices)
        for title, path, body in CALLS:
            await ask("POST", path, body)
            say(f"{title}: POST {path} was served.")
        await asyncio.sleep(0.5)
        page = await ask("GET", "/api/v1/usage/records", None)
    for record in reversed(page["items"]):
        say(
            f"  recorded: {record['dialect']:18} {record['input_tokens']} tokens in, "
            f"{record['output_tokens']} out, {record['cost_usd']:.6f} USD, {record['outcome']}"
        )


async def _ask(
    client: HttpClient, demo: Demo, method: str, path: str, body: dict[str, Any] | None
) -> Any:
    data = b"" if body is None else json.dumps(body).encode()
    headers = (("authorization", f"Bearer {demo.api_key}"), ("content-type", "application/json"))
    request = WireRequest(method, f"{demo.url}{path}", headers, data)
    reply = await client.send("demo", request, Limits(connect=5, first_byte=30))
    shown = await whole(reply)
    if reply.status >= 400:
        raise ConfigError([f"The demo failed at {path}: {shown.decode('utf-8', 'replace')}"])
    return json.loads(shown)


async def run(port: int, say: Say, *, once: bool) -> None:
    """Run the demo until interrupted, or with ``once`` only to its end."""
    async with AsyncExitStack() as stack:
        demo = await start(stack, port, say)
        say("")
        say(
            "Try it: " + f"curl {demo.url}/v1/chat/completions -H 'Authorization: Bearer "
            f"{demo.api_key}' -d '{json.dumps(CALLS[0][2])}'"
        )
        say("A model named fault-429, fault-reset-after … shows what happens when things go wrong.")
        if not once:
            say("Ctrl-C ends the demo and forgets everything.")
            await demo.serving
            say("The demo is over; nothing of it was kept.")
