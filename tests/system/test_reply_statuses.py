"""A provider may answer with any status line: the client gets a whole, well-formed reply, once."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from tests.rig import Rig
from tests.wire import wire_to

pytestmark = pytest.mark.shared_rig

CHAT = b'{"id":"c","object":"chat.completion","model":"m","choices":[]}'
LENGTH = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(CHAT), CHAT)
CHUNKED = (
    b"content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
    % (len(CHAT), CHAT)
)
BARE = b"\r\n"


class Provider:
    """A server that answers each request with the bytes it was told to, and hangs up never."""

    def __init__(self) -> None:
        self.answer = b""
        self.url = ""
        self.writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length or 0))
                writer.write(self.answer)
                await writer.drain()


@pytest.fixture
async def provider(rig: Rig) -> AsyncIterator[Provider]:
    made = Provider()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    await rig.add_provider_key(endpoints={"openai_chat": made.url})
    yield made
    server.close()
    for writer in made.writers:
        writer.transport.abort()
    await asyncio.sleep(0)


async def _ask(rig: Rig, provider: Provider, answer: bytes) -> tuple[int, str | None, bytes]:
    """The status, our error's code and the body that a client gets; it sends another request behind
    the first, whose reply shows that the first one's ended where it said."""
    provider.answer = answer
    rig.house.health._keys.clear()  # An earlier failure keeps no key away.
    body = json.dumps({"model": "m", "messages": []}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer "
    head += f"{rig.key}\r\ncontent-length: {len(body)}\r\n\r\n"
    wire = wire_to(rig)
    wire.send(head.encode() + body + b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    first, second = await wire.answered(2)
    assert (second.status, second.body) == (200, b'{"status":"alive"}'), answer
    wire.leave()
    if first.status == 205:
        assert first.headers["content-length"] == "0"
    if first.status == 204:
        assert not {"content-length", "transfer-encoding"} & first.headers.keys()
    return first.status, first.code, first.body


ODD = [
    b"000", b"001", b"099", b"101", b"300", b"302", b"304", b"399", b"600", b"777", b"999", b"1000",
    b"", b"2", b"20", b"abc", b"-20", b"2 0",
]  # fmt: skip


@pytest.mark.parametrize("status", ODD, ids=[repr(status.decode()) for status in ODD])
async def test_what_is_no_reply_is_502(rig: Rig, provider: Provider, status: bytes):
    for reason in (b" Reason", b""):
        for rest in (LENGTH, CHUNKED, BARE):
            answer = b"HTTP/1.1 " + status + reason + b"\r\n" + rest
            found = await _ask(rig, provider, answer)
            assert found[:2] == (502, "upstream_unreachable"), answer


@pytest.mark.parametrize("status", [200, 201, 202, 203, 204, 205, 206, 207, 226, 250, 299])
async def test_a_success_passes_with_the_body_that_it_may_have(
    rig: Rig, provider: Provider, status: int
):
    for reason in (b" Reason", b" ", b""):
        for rest in (LENGTH, CHUNKED, b"content-length: 0\r\n\r\n"):
            answer = b"HTTP/1.1 %d%b\r\n%b" % (status, reason, rest)
            may = status not in (204, 205) and CHAT in rest
            assert await _ask(rig, provider, answer) == (status, None, CHAT if may else b"")


async def test_interim_replies_are_passed_over_until_they_are_too_many(
    rig: Rig, provider: Provider
):
    final = b"HTTP/1.1 200 OK\r\n" + LENGTH
    for status in (100, 102, 103, 199):
        one = b"HTTP/1.1 %d x\r\n\r\n" % status
        assert await _ask(rig, provider, one * 9 + final) == (200, None, CHAT)
        flood = await _ask(rig, provider, one * 20_000 + final)
        assert flood[:2] == (502, "upstream_unreachable")
