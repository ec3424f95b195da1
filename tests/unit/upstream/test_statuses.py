"""Whatever status a provider's reply has, the exchange ends with a reply or with a failure."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from xairouter.errors import UpstreamError
from xairouter.upstream.connection import HEAD_BYTES, Connection

BODIES = [
    b"",
    b"content-length: 0\r\n",
    b"content-length: 2\r\n",
    b"transfer-encoding: chunked\r\n",
]
FINAL = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfinal"


class Transport(asyncio.Transport):
    """The socket's end of a connection in memory: takes everything, says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.is_closed = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return self.is_closed

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: Any) -> None:
        """The provider gets the request."""

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = True

    def pause_reading(self) -> None:
        """Nobody reads faster than the test writes."""

    def resume_reading(self) -> None:
        """As above."""


async def answered(sent: bytes) -> tuple[int | None, bytes]:
    """The status of an exchange (None: it failed) and its body; the provider keeps the connection
    open and says nothing more."""
    made = Transport()
    free: list[Any] = []
    connection = Connection(free.append, set())
    connection.connection_made(made)
    exchange = asyncio.ensure_future(connection.exchange(b"POST / HTTP/1.1\r\n\r\n", b"", 3600))
    await asyncio.sleep(0)
    for at in range(0, len(sent), 8192):
        piece = sent[at : at + 8192]
        connection.get_buffer(-1)[: len(piece)] = piece
        connection.buffer_updated(len(piece))
    await asyncio.sleep(0)
    if not exchange.done():
        exchange.cancel()
        await asyncio.gather(exchange, return_exceptions=True)
        raise AssertionError(f"nothing came of {sent[:60]!r}")
    error = exchange.exception()
    if error is not None:
        assert isinstance(error, UpstreamError)
        assert error.sent
        assert made.is_closed
        assert free == []
        return None, b""
    reply = exchange.result()
    connection.eof_received()
    connection.connection_lost(None)
    return reply.status, await reply.read()


def _replies(line: bytes) -> Iterator[bytes]:
    for body in BODIES:
        content = b"2\r\nhi\r\n0\r\n\r\n" if b"chunked" in body else b"hi"
        yield line + body + b"\r\n" + content


@pytest.mark.parametrize("reason", [b" Reason", b" ", b""], ids=["reason", "empty", "missing"])
async def test_every_status_is_a_reply_or_a_failure(reason: bytes):
    for status in range(1101):
        line = b"HTTP/1.1 %03d%b\r\n" % (status, reason)
        if 100 <= status < 200 and status != 101:
            found = await answered(line + b"\r\n" + FINAL)
            assert found == (200, b"final"), status
            continue
        for sent in _replies(line):
            found = await answered(sent)
            if status < 200 or status > 999:
                assert found == (None, b""), sent
            else:
                assert found[0] == status, sent
                assert not found[1] or status not in (204, 304), sent


@pytest.mark.parametrize(
    "status", [b"", b"1", b"20", b"2 0", b"abc", b"-20", b"+200", b"0x0", b"2e2"]
)
async def test_what_is_no_status_is_a_failure(status: bytes):
    for sent in _replies(b"HTTP/1.1 " + status + b" OK\r\n"):
        assert await answered(sent) == (None, b"")


@pytest.mark.parametrize("status", [100, 102, 103, 150, 199])
@pytest.mark.parametrize("fields", BODIES, ids=["none", "no length", "length", "chunked"])
async def test_interim_replies_end(status: int, fields: bytes):
    one = b"HTTP/1.1 %d x\r\n%b\r\n" % (status, fields)
    few = await answered(one * 20 + FINAL)
    assert few in ((200, b"final"), (None, b"")), "with a body it is none"
    assert await answered(one * (HEAD_BYTES // len(one) + 9000 // len(one))) == (None, b"")
