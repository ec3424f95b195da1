"""Attacks over HTTP: bytes that two parsers could read differently, paths and names that try to get
around rules, providers that lie, and clients that take without end."""

import asyncio
import contextlib
import json
import os
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.rig import SECRET, Rig
from tests.system.process import create_owner, start_router

pytestmark = pytest.mark.shared_rig

CALL = b'{"model":"demo-large","messages":[{"role":"user","content":"hi"}]}'
SECOND = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.fixture
async def ready(rig: Rig) -> Rig:
    await rig.add_provider_key()
    return rig


def _post(rig: Rig, *lines: str, target: str = "/v1/chat/completions") -> bytes:
    head = [
        f"POST {target} HTTP/1.1",
        "host: x",
        f"authorization: Bearer {rig.key}",
        "content-type: application/json",
        *lines,
        "",
        "",
    ]
    return "\r\n".join(head).encode("latin-1")


# --- framing: every one of these has been read differently by two servers in a row


SMUGGLING: dict[str, tuple[list[str], bytes]] = {
    "lengths in a list": ([f"content-length: {len(CALL)}, {len(CALL)}"], CALL),
    "lengths that differ in a list": ([f"content-length: 0, {len(CALL)}"], CALL),
    "length with a plus": ([f"content-length: +{len(CALL)}"], CALL),
    "length in hexadecimal": ([f"content-length: 0x{len(CALL):x}"], CALL),
    "length with inner space": (["content-length: 6 6"], CALL),
    "length in other digits": (["content-length: \xb2"], CALL),
    "length beyond 64 bits": (["content-length: 99999999999999999999999"], CALL),
    "length and chunks": (
        [f"content-length: {len(CALL)}", "transfer-encoding: chunked"],
        b"0\r\n\r\n" + SECOND,
    ),
    "chunks and length": (["transfer-encoding: chunked", "content-length: 4"], b"0\r\n\r\n"),
    "chunked twice": (["transfer-encoding: chunked", "transfer-encoding: identity"], b"0\r\n\r\n"),
    "chunked is not last": (["transfer-encoding: chunked, identity"], b"0\r\n\r\n"),
    "chunked in quotes": (['transfer-encoding: "chunked"'], b"0\r\n\r\n"),
    "chunked behind a vertical tab": (["transfer-encoding: \x0bchunked"], b"0\r\n\r\n"),
    "folded header": (["x-a: b\r\n transfer-encoding: chunked"], b"0\r\n\r\n"),
    "folded framing": (["transfer-encoding:\r\n chunked"], b"0\r\n\r\n"),
    "line feeds alone": (["x-a: b\nx-b: c"], CALL),
    "carriage return alone": (["x-a: b\rtransfer-encoding: chunked"], CALL),
    "zero byte in a name": (["content\x00-length: 5"], CALL),
    "name with a space": (["content length: 5"], CALL),
    "name with a tab behind it": (["content-length\t: 5"], CALL),
    "chunk size with a sign": (["transfer-encoding: chunked"], b"+1\r\na\r\n0\r\n\r\n"),
    "chunk size with a prefix": (["transfer-encoding: chunked"], b"0x1\r\na\r\n0\r\n\r\n"),
    "chunk longer than it says": (["transfer-encoding: chunked"], b"1\r\nabc\r\n0\r\n\r\n"),
    "chunk with line feeds alone": (["transfer-encoding: chunked"], b"1\na\n0\n\n"),
    "chunk size beyond 64 bits": (["transfer-encoding: chunked"], b"f" * 17 + b"\r\na\r\n"),
    "chunk extension without end": (["transfer-encoding: chunked"], b"1;" + b"a" * 200_000),
}


QUICK = pytest.mark.own_rig(body_idle_seconds=0.3)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=QUICK if name == "chunk extension without end" else ())
        for name in SMUGGLING
    ],
)
async def test_an_ambiguous_request_gets_one_answer_and_reaches_nobody(ready: Rig, name: str):
    lines, body = SMUGGLING[name]
    reply = await ready.raw(_post(ready, *lines) + body, wait=3)
    assert reply.count(b"HTTP/1.1 ") <= 1, reply
    assert reply == b"" or reply.startswith(b"HTTP/1.1 400"), reply[:300]
    assert ready.standin.requests == []
    # And the server is as well as before.
    assert (await ready.chat()).status == 200


@pytest.mark.parametrize(
    "first",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /v1/models\r\n\r\n",
        b"GET http://evil.example/v1/models HTTP/1.1\r\nhost: x\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nhost: evil.example:443\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 200,
        b"GET /v1/models HTTP/9.9\r\nhost: x\r\n\r\n",
        b"G" * 100_000,
    ],
)
async def test_what_is_no_request_of_ours_is_answered_once_and_tunnels_nowhere(
    ready: Rig, first: bytes
):
    reply = await ready.raw(first + SECOND, wait=3)
    assert reply.count(b"HTTP/1.1 200") == 0, reply[:400]
    assert ready.standin.requests == []


async def test_the_body_of_one_request_is_never_the_next_request(ready: Rig):
    """A GET with a body: what stands in its body is not answered as a request."""
    hidden = _post(ready, f"content-length: {len(CALL)}") + CALL
    head = f"GET /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: {len(hidden)}\r\n\r\n".encode()
    reply = await ready.raw(head + hidden, wait=1)
    assert reply.count(b"HTTP/1.1 ") == 1, reply
    assert ready.standin.requests == []


async def test_a_trailer_changes_nothing(ready: Rig):
    chunks = b"%x\r\n%b\r\n0\r\nauthorization: Bearer sk-other\r\ncontent-length: 9\r\n\r\n"
    body = chunks % (len(CALL), CALL)
    reply = await ready.raw(_post(ready, "transfer-encoding: chunked", "connection: close") + body)
    assert reply.startswith((b"HTTP/1.1 200", b"HTTP/1.1 400")), reply[:200]
    for request in ready.standin.requests:
        assert request.secret == SECRET


# --- names and paths


EVIL_NAMES = [
    "m\r\nx-evil: 1",
    "m\nx-evil: 1",
    "m\x00",
    "../../v1/files",
    "m?key=other",
    "m#fragment",
    "m/../../admin",
    "m HTTP/1.1\r\nhost: evil",
    "\u0000\u2028\u2029",
    "a" * 5000,
    "<script>alert(1)</script>",
    "${jndi:ldap://evil}",
    "%0d%0ax-evil:%201",
]


@pytest.mark.parametrize("name", EVIL_NAMES)
async def test_a_model_s_name_injects_nothing_anywhere(ready: Rig, name: str):
    """In the body it passes or is refused as a name; in a path it stays one segment."""
    from urllib.parse import quote

    answers = [await ready.chat(name)]
    for target in (
        f"/v1beta/models/{quote(name, safe='')}:generateContent",
        f"/v1/models/{quote(name, safe='')}",
    ):
        method = "POST" if "generate" in target else "GET"
        reply = await ready.raw(
            f"{method} {target} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ready.key}\r\n"
            "content-length: 2\r\nconnection: close\r\n\r\n{}".encode()
        )
        assert b"\r\nx-evil" not in reply.split(b"\r\n\r\n")[0].lower(), reply
        assert b"HTTP/1.1 500" not in reply
    for answer in answers:
        assert answer.status in (200, 400, 404), answer.body
        assert "x-evil" not in answer.headers
    for request in ready.standin.requests:
        assert "x-evil" not in request.headers
        assert request.path.startswith(("/v1/chat/completions", "/v1beta/models/")), request.path
        assert "/../" not in request.path
        assert request.path.count("?") <= 1
    for row in await ready.records():
        assert len(row["model_asked"] or "") <= 512


PATHS = [
    "/v1/chat/completions",
    "/chat/completions",
    "/V1/chat/completions",
    "/v1/CHAT/completions",
    "//v1/chat/completions",
    "/v1//chat/completions",
    "/v1/chat//completions",
    "/v1/./chat/completions",
    "/v1/embeddings/../chat/completions",
    "/v1/embeddings/%2e%2e/chat/completions",
    "/v1/embeddings%2f..%2fchat/completions",
    "/v1/chat%2fcompletions",
    "/v1/chat/completions?x=/v1/embeddings",
    "/v1/chat/completions#/v1/embeddings",
    "/v1/chat/completions;/v1/embeddings",
    "/v1/chat/completions/",
    "/v1/chat/completions%20",
    "/v1/%63hat/completions",
    "/v1/chat\\completions",
    "/v1/messages",
    "/messages",
    "/v1beta/models/m:generateContent",
    "/v1/models/m:generateContent",
    "/models/m%3AgenerateContent",
    "/v1/responses",
    "/responses",
]


@pytest.mark.parametrize("path", PATHS)
async def test_no_spelling_of_a_path_gets_around_the_allowed_ones(ready: Rig, path: str):
    made = await ready.ask(
        "POST",
        "/api/v1/accounts",
        {"name": "narrow", "rules": {"allow_paths": ["/v1/embeddings"]}},
    )
    key = made.json()["api_key"]
    head = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
        f"content-length: {len(CALL)}\r\nconnection: close\r\n\r\n"
    )
    reply = await ready.raw(head.encode() + CALL)
    assert reply.startswith((b"HTTP/1.1 403", b"HTTP/1.1 404", b"HTTP/1.1 400")), reply[:200]
    assert ready.standin.requests == []


# --- providers that lie


Script = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def _provider(rig: Rig, script: Script) -> AsyncIterator[None]:
    """A provider that does what ``script`` says as soon as a request's head has come."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            await script(writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await rig.add_provider_key(name="liar", endpoints={"openai_chat": f"http://127.0.0.1:{port}"})
    try:
        yield
    finally:
        server.close()


def _json(body: bytes) -> Script:
    """A provider that answers 200 with this body, as JSON."""

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        await writer.drain()

    return script


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _pour(writer: asyncio.StreamWriter, piece: bytes, total: int) -> None:
    for _ in range(total // len(piece)):
        writer.write(piece)
        await writer.drain()


async def _endless_headers(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    await _pour(writer, b"x-a: " + b"b" * 1000 + b"\r\n", 50_000_000)


async def _endless_header_line(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nx-a: ")
    await _pour(writer, b"b" * 65536, 50_000_000)


async def _endless_status(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 ")
    await _pour(writer, b"O" * 65536, 50_000_000)


async def _endless_chunk_size(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;")
    await _pour(writer, b"a" * 65536, 50_000_000)


async def _early_hints(writer: asyncio.StreamWriter) -> None:
    await _pour(writer, b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n", 2_000_000)


@pytest.mark.parametrize(
    "script",
    [_endless_headers, _endless_header_line, _endless_status, _endless_chunk_size, _early_hints],
)
async def test_a_reply_without_end_before_its_body_is_given_up(rig: Rig, script: Script):
    async with _provider(rig, script):
        before = _resident()
        # A body that breaks off is cut for the client too.
        with contextlib.suppress(aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError):
            answer = await asyncio.wait_for(rig.chat(), 120)
            assert (answer.status, answer.code) == (502, "upstream_unreachable")
        assert _resident() - before < 40_000_000
        (row,) = await rig.records(expect=1)
        assert row["outcome"] == "upstream_error"


async def test_a_line_of_a_hundred_megabytes_passes_and_is_not_kept(rig: Rig):
    size = 100_000_000

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\ndata: "
        )
        await _pour(writer, b"x" * 100_000, size)
        writer.write(b"\n\n")
        await writer.drain()

    async with _provider(rig, script):
        before, most, seen = _resident(), 0, 0
        body = {"model": "m", "stream": True, "messages": []}
        async with rig.session.post(
            rig.url + "/v1/chat/completions",
            json=body,
            headers={"authorization": f"Bearer {rig.key}"},
        ) as reply:
            assert reply.status == 200
            async for piece in reply.content.iter_any():
                seen += len(piece)
                most = max(most, _resident() - before)
        assert seen == size + len("data: \n\n")
        # Both ends are in this process, and a busy machine leaves more on the way between them.
        assert most < 80_000_000, most
        (row,) = await rig.records(expect=1)
        assert (row["outcome"], row["input_tokens"]) == ("completed", None)


LIES: list[Any] = [
    {"prompt_tokens": -5, "completion_tokens": -1},
    {"prompt_tokens": 10**30, "completion_tokens": 10**30},
    {"prompt_tokens": 2**63, "completion_tokens": 1},
    {"prompt_tokens": "7", "completion_tokens": "many"},
    {"prompt_tokens": 1.5, "completion_tokens": True},
    {"prompt_tokens": [1], "completion_tokens": {"a": 1}},
    {"prompt_tokens": None},
    "lots",
    [],
    {"prompt_tokens": 1, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 10**9}},
]


@pytest.mark.parametrize("lie", LIES, ids=range(len(LIES)))
async def test_a_lie_about_usage_breaks_no_sum_and_no_limit(rig: Rig, lie: Any):
    text = json.dumps({"id": "x", "choices": [], "model": "m", "usage": lie}).encode()

    async with _provider(rig, _json(text)):
        rules = {"limits": {"rpm": 100, "tpm": 10**9}, "budget": {"day_usd": 1000}}
        await rig.ask("PATCH", "/api/v1/settings", {"unpriced": "allow"})
        await rig.ask("PUT", f"/api/v1/accounts/{rig.owner_id}/rules", rules)
        answer = await rig.chat("m")
        assert (answer.status, answer.body) == (200, text)
        (row,) = await rig.records(expect=1)
        for name in ("input_tokens", "output_tokens", "cached_input_tokens"):
            assert row[name] is None or 0 <= row[name] < 2**63, row
        usage = await rig.ask("GET", "/api/v1/usage")
        assert usage.status == 200
        assert usage.json()["totals"]["calls"] == 1
        # Nobody is locked out by what was said once, nor given room.
        me = (await rig.ask("GET", "/api/v1/me")).json()
        assert all(one["used"] >= 0 for one in me["limits"]), me["limits"]


@pytest.mark.parametrize(
    "body",
    [b"\xff\xfe\x00", b'{"usage": {"prompt_tokens": ' + b"[" * 100_000, b"", b"\x00" * 1000],
    ids=["no utf-8", "deep", "nothing", "zeros"],
)
async def test_a_body_that_is_no_json_passes_as_it_came(rig: Rig, body: bytes):
    async with _provider(rig, _json(body)):
        answer = await rig.chat()
        assert (answer.status, answer.body) == (200, body)
        (row,) = await rig.records(expect=1)
        assert row["usage_source"] == "none"


# --- clients that take without end


@pytest.mark.slow
async def test_ten_thousand_connections_leave_room_for_others(tmp_path: Path):
    """From ten addresses, a thousand each; every address has its own share."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 11_000:
        pytest.skip(f"this machine allows {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (11_000, hard))
    data_dir = tmp_path / "data"
    key = await create_owner(data_dir)
    router = await start_router(data_dir, XAIROUTER_HEADER_SECONDS="300")
    held: list[asyncio.StreamWriter] = []
    try:
        for number in range(1, 11):
            made = await asyncio.gather(
                *(
                    asyncio.open_connection(
                        "127.0.0.1", router.port, local_addr=(f"127.0.1.{number}", 0)
                    )
                    for _ in range(1000)
                )
            )
            held += [writer for _, writer in made]
        # Connections are accepted in the order in which they were made.
        reader, one_more = await asyncio.open_connection(
            "127.0.0.1", router.port, local_addr=("127.0.1.1", 0)
        )
        refused = await asyncio.wait_for(reader.readline(), 120)
        assert refused.startswith(b"HTTP/1.1 503")
        one_more.close()
        status, me = await router.ask("GET", "/api/v1/me", key)
        assert status == 200, me
        memory = Path(f"/proc/{router.process.pid}/statm").read_text().split()[1]
        assert int(memory) * os.sysconf("SC_PAGE_SIZE") < 500_000_000
    finally:
        for writer in held:
            writer.transport.abort()
        await router.kill()
