"""One connection to a provider and the reply that comes over it: HTTP/1.1 on httptools.

A connection serves one exchange after the other and goes back to its pool only when a reply ended
as its framing says (RFC 9112 §6.3), the whole request was taken, and nothing came behind it. In
every other case it is closed: what is left on it could be taken for the next reply.
"""

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

from xairouter.errors import UpstreamError
from xairouter.upstream.interface import Headers

HEAD_BYTES = 64 * 1024
"""Most bytes that may come without any of the body in them: heads, trailers, chunk extensions."""
BUFFER_BYTES = 64 * 1024
BLOCK_BYTES = 256 * 1024
UNREACHABLE, TIMEOUT = "upstream_unreachable", "upstream_timeout"
_BODILESS = (204, 304)


class HttpReply:
    """A reply under way; see ``interface.Reply``. Its connection adds to ``chunks``, ``size`` bytes
    together, and says ``wake`` or ``end``."""

    __slots__ = (
        "_connection",
        "_failure",
        "_has_ended",
        "_take",
        "_waiter",
        "chunks",
        "headers",
        "size",
        "status",
    )

    def __init__(self, connection: "Connection", status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers
        self._connection: Connection | None = connection
        self.chunks: list[bytes] = []
        self.size = 0
        self._has_ended = False
        self._failure: str | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._take: Callable[[bytes], bool] | None = None

    def __repr__(self) -> str:
        return f"<HttpReply {self.status}>"

    async def read(self) -> bytes:
        while True:
            if self.chunks:
                return self._take_all()
            if self._failure is not None:
                raise UpstreamError(UNREACHABLE, self._failure, sent=True)
            if self._has_ended:
                return b""
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def on_piece(self, take: Callable[[bytes], bool]) -> bool:
        if self._connection is None:
            return True
        self._take = take
        return bool(self.chunks)

    def _take_all(self) -> bytes:
        chunks = self.chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self.size = 0
        if self._connection is not None:
            self._connection.resume()
        return data

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        self._take = None
        if connection is not None:
            connection.abandon()

    def end(self, failure: str | None = None) -> None:
        """No more will come: the reply is whole, or broke off."""
        self._connection = None
        self._failure = failure
        self._has_ended = failure is None
        self.wake()
        self._take = None

    def wake(self) -> None:
        """There is something for the reader, or for who stands in for it while it waits."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        take, chunks = self._take, self.chunks
        if take is not None and chunks:
            data = chunks.pop() if len(chunks) == 1 else b"".join(chunks)
            chunks.clear()
            if take(data):
                self.size = 0
                connection = self._connection
                if connection is not None:
                    if connection.is_paused:
                        connection.resume()
                    return
            else:
                chunks.append(data)
        if chunks or self._has_ended or self._failure:
            waiter.set_result(None)


class Connection(asyncio.Protocol):
    """The protocol of one connection. ``on_free`` is called when it may serve again; whoever takes
    it from its pool calls ``exchange``. It is in ``everyone`` while it is open.

    ``is_paused`` – its reader is to catch up first. ``_spoiled`` – it serves no further exchange.
    ``_is_deaf`` – what still comes is not read.
    """

    __slots__ = (
        "_drained",
        "_everyone",
        "_head",
        "_head_bytes",
        "_headers",
        "_is_deaf",
        "_is_whole",
        "_needs_end",
        "_on_free",
        "_parser",
        "_reply",
        "_spoiled",
        "_transport",
        "_writing",
        "free_since",
        "is_paused",
    )

    def __init__(
        self, on_free: Callable[["Connection"], None], everyone: set["Connection"]
    ) -> None:
        self._on_free = on_free
        self._everyone = everyone
        self._parser = httptools.HttpResponseParser(self)
        # What every driver of browsers' kind lets pass in a reply's head; framing stays strict.
        self._parser.set_dangerous_leniencies(lenient_headers=True)
        self._transport: asyncio.Transport | None = None
        self._head: asyncio.Future[HttpReply] | None = None
        self._reply: HttpReply | None = None
        self._headers: list[tuple[str, str]] = []
        self._head_bytes = 0
        self.is_paused = False
        self._is_whole = False
        self._needs_end = False
        self._writing = False
        self._spoiled = False
        self._is_deaf = False
        self._drained: asyncio.Event | None = None
        self.free_since = 0.0

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def exchange(self, head: bytes, body: bytes, seconds: float) -> HttpReply:
        """Send a request; the reply, once its head has come, which may take ``seconds``.

        Raises UpstreamError if there is none. After that, or if the caller is cancelled, the
        connection is closed.
        """
        transport = self._transport
        assert transport is not None
        loop = asyncio.get_running_loop()
        self._head_bytes = 0
        waiter: asyncio.Future[HttpReply] = loop.create_future()
        self._head = waiter
        timer = loop.call_later(seconds, self._late)
        try:
            if len(body) <= BLOCK_BYTES:
                transport.write(head + body)
            else:
                await self._write(transport, head, body, waiter)
            return await waiter
        except asyncio.CancelledError:
            self._head = None
            self.abort()
            raise
        finally:
            timer.cancel()

    async def _write(
        self,
        transport: asyncio.Transport,
        head: bytes,
        body: bytes,
        waiter: "asyncio.Future[HttpReply]",
    ) -> None:
        """A large body in blocks, as the other side takes them, until it answers or leaves."""
        self._writing = True
        transport.write(head)
        view = memoryview(body)
        for at in range(0, len(body), BLOCK_BYTES):
            if self._drained is not None:
                drained = asyncio.ensure_future(self._drained.wait())
                try:
                    await asyncio.wait((drained, waiter), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    drained.cancel()
            if waiter.done() or transport.is_closing():
                # An early reply ends the request; the rest of the body is not sent.
                self._spoiled = True
                break
            transport.write(view[at : at + BLOCK_BYTES])
        self._writing = False

    def resume(self) -> None:
        """The reader has caught up."""
        if self.is_paused:
            self.is_paused = False
            if self.is_open:
                assert self._transport is not None
                self._transport.resume_reading()

    def abandon(self) -> None:
        """The reply's reader leaves before its end."""
        self._reply = None
        self.abort()

    def abort(self) -> None:
        """Close now."""
        self._spoiled = self._is_deaf = True
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._everyone.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._spoiled = self._is_deaf = True
        self._everyone.discard(self)
        self.resume_writing()
        self._fail("The exchange with the provider broke off.")

    def pause_writing(self) -> None:
        self._drained = asyncio.Event()

    def resume_writing(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.set()

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        if self._head is None and self._reply is None:
            # Bytes that nobody asked for, on a connection at rest.
            self.abort()
            return
        self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            # What had come whole before the break stays whole.
            self._spoiled = self._is_deaf = True
            if not self._is_whole:
                self._fail("The provider's reply is not valid HTTP.")
                self.abort()
                return
        if self._is_whole:
            self._finish()
        elif self._head_bytes > HEAD_BYTES:
            self._fail("The provider's reply has too large a head.")
            self.abort()
        elif self._reply is not None:
            self._reply.wake()

    def eof_received(self) -> bool:
        if self._reply is not None and self._needs_end:
            # Neither a length nor chunks: the reply ends with the connection.
            self._spoiled = True
            self._finish()
        return False

    # -- httptools

    def on_message_begin(self) -> None:
        if self._is_whole:
            self._spoiled = True
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._reply is None and not self._is_whole:
            self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200 or self._is_whole or self._head is None:
            return
        coding = length = None
        for name, value in self._headers:
            if name == "transfer-encoding":
                coding = value if coding is None else f"{coding}, {value}"
            elif name == "content-length":
                length = value
        if coding is not None and coding.strip().lower() != "chunked":
            raise httptools.HttpParserError("a coding that nobody asked for")
        self._needs_end = coding is None and length is None and status not in _BODILESS
        waiter, self._head = self._head, None
        if waiter.done():
            self._spoiled = True
            return
        self._reply = HttpReply(self, status, tuple(self._headers))
        waiter.set_result(self._reply)

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        reply = self._reply
        if reply is None or self._is_whole:
            return
        reply.chunks.append(body)
        reply.size += len(body)
        if reply.size >= BUFFER_BYTES and not self.is_paused and self.is_open:
            # The reader is to catch up first.
            self.is_paused = True
            assert self._transport is not None
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self._is_whole:
            self._spoiled = True
        elif self._reply is not None:
            self._is_whole = True
            # Only here: behind the message's end the parser knows no longer how it was framed.
            if not self._parser.should_keep_alive():
                self._spoiled = True
        # Else it was an interim reply (RFC 9110 §15.2); the reply proper follows.

    def _finish(self) -> None:
        """The reply is whole: let its reader know, and the connection serve again or go."""
        reply, self._reply = self._reply, None
        transport = self._transport
        assert transport is not None
        assert reply is not None
        self._is_whole = False
        reply.end()
        if (
            self._spoiled
            or self._writing
            or transport.is_closing()
            or transport.get_write_buffer_size()
        ):
            self._spoiled = self._is_deaf = True
            transport.close()
            return
        self.resume()
        self._on_free(self)

    def _late(self) -> None:
        if self._head is None:
            return
        self._fail("The provider did not answer in time.", TIMEOUT)
        self.abort()

    def _fail(self, failure: str, code: str = UNREACHABLE) -> None:
        head, self._head = self._head, None
        if head is not None and not head.done():
            head.set_exception(UpstreamError(code, failure, sent=True))
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.end(failure)
