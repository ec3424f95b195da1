"""Queries: what official clients send reaches the provider as it came, all else is refused."""

import json
from typing import Any

import pytest

from tests.rig import Rig

CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "x"}]}]}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
PATHS: dict[str, tuple[str, Any, tuple[str, ...]]] = {
    "openai_chat": ("/v1/chat/completions", CHAT, ("api-version=2024-10-21",)),
    "openai_completions": (
        "/v1/completions",
        {"model": "m", "prompt": "x"},
        ("api-version=2023-07-01-preview",),
    ),
    "openai_embeddings": (
        "/v1/embeddings",
        {"model": "m", "input": "x"},
        ("api-version=preview",),
    ),
    "openai_responses": (
        "/v1/responses",
        {"model": "m", "input": "x"},
        ("beta=true", "api-version=preview"),
    ),
    "anthropic_messages": ("/v1/messages", {**CHAT, "max_tokens": 9}, ("beta=true",)),
    "gemini_generate": (
        "/v1beta/models/m:generateContent",
        CONTENTS,
        ("alt=json", "%24alt=json&prettyPrint=false"),
    ),
    "gemini_stream": (
        "/v1beta/models/m:streamGenerateContent",
        CONTENTS,
        ("alt=sse", "a%6Ct=sse&alt=sse"),
    ),
}
HOSTILE = {
    "fields=candidates": "fields",
    "%66ields=candidates": "fields",
    "$fields=candidates": "$fields",
    "alt=proto": "alt",
    "$alt=json;enum-encoding=int": "$alt",
    "$httpMethod=GET": "$httpMethod",
    "callback=f": "callback",
    "access_token=a": "access_token",
    "quotaUser=a": "quotaUser",
    "upload_protocol=resumable": "upload_protocol",
    "KEY=a": "KEY",
    "model=other": "model",
    "x=1;key=a": "x",
}


async def _send(rig: Rig, method: str, target: str, body: Any = None) -> tuple[int, str]:
    """Status and reply to a request line as it is written: HTTP clients spell queries anew."""
    data = json.dumps(body).encode() if body is not None else b""
    head = (
        f"{method} {target} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {rig.key}\r\n"
        f"content-length: {len(data)}\r\nconnection: close\r\n\r\n"
    )
    reply = await rig.raw(head.encode() + data)
    return int(reply.split(b" ", 2)[1]), reply.decode()


@pytest.mark.parametrize("dialect", PATHS)
async def test_known_arguments_pass_as_they_came_and_all_others_are_refused(rig: Rig, dialect: str):
    await rig.add_provider_key()
    path, body, known = PATHS[dialect]
    for query in known:
        assert (await _send(rig, "POST", f"{path}?{query}", body))[0] == 200, query
        assert rig.standin.requests[-1].query == query
    asked = len(rig.standin.requests)
    for query, name in HOSTILE.items():
        status, reply = await _send(rig, "POST", f"{path}?{query}", body)
        assert status == 400, query
        assert "x-xairouter-error: invalid_request" in reply, query
        assert f"“{name}”" in reply, query
    assert len(rig.standin.requests) == asked


async def test_the_arguments_of_stored_responses_pass(rig: Rig):
    await rig.add_provider_key()
    made = (await rig.ask("POST", "/v1/responses", {"model": "m", "input": "x"})).json()["id"]
    for path, query in (
        (f"/v1/responses/{made}", "include[]=a.b&include[]=c&include_obfuscation=false"),
        (f"/v1/responses/{made}", "stream=false&beta=true"),
        (f"/v1/responses/{made}", "starting_after=3&stream=true"),
        (f"/v1/responses/{made}/input_items", "limit=9&order=asc&after=msg_1&before=msg_2"),
    ):
        await _send(rig, "GET", f"{path}?{query}")
        assert rig.standin.requests[-1].query == query
    asked = len(rig.standin.requests)
    for query in ("fields=id", "limit=1&limit=2", "model=m"):
        status, reply = await _send(rig, "GET", f"/v1/responses/{made}/input_items?{query}")
        assert status == 400, query
        assert "x-xairouter-error: invalid_request" in reply, query
    assert len(rig.standin.requests) == asked
