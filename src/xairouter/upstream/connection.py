"""One connection to a provider and the reply that comes over it: HTTP/1.1 on httptools.

A connection serves one exchange after the other and goes back to its pool only when a reply ended
as its framing says (RFC 9112 §6.3), the whole request was taken, and nothing came behind it. In
every other case it is closed: what is left on it could be taken for the next reply. Before it serves
again, its socket is looked at: bytes or an end that the event loop has not delivered yet count, too.
"""

import asyncio
import select
from collections.abc import Callable
from typing import cast

import httptools

from xairouter.errors import ErrorCode, StaleConnectionError, UpstreamError
from xairouter.upstream.reply import HttpReply

HEAD_BYTES = 64 * 1024
"""Most bytes that may come without any of the body in them: heads, trailers, chunk extensions."""
READ_BYTES = 16 * 1024
"""Most bytes of a connection that are read, metered and passed on in one turn of the event loop."""
BUFFER_BYTES = READ_BYTES
"""How much may wait for the reply's reader before reading pauses."""
_READ_BUFFER = memoryview(bytearray(READ_BYTES))
# Shared: the event loop fills it and hands it over in one go.
BLOCK_BYTES = 256 * 1024
REPLAY_SECONDS = 1.0
"""How soon after a request a reused connection must end for it to count as stale: a provider that
had closed it says so within one round trip, one that worked on the request takes longer."""
UNREACHABLE, TIMEOUT = ErrorCode.UPSTREAM_UNREACHABLE, ErrorCode.UPSTREAM_TIMEOUT
_BODILESS = (204, 304)
_SWITCHING = 101
"""To another protocol, for which nobody has asked."""
_BROKE_OFF = "The exchange with the provider broke off."


class Connection(asyncio.BufferedProtocol):
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
        "_look",
        "_needs_end",
        "_on_free",
        "_parser",
        "_reply",
        "_sent_at",
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
        self._look: Callable[[int], list[tuple[int, int]]] | None = None
        self._sent_at = 0.0
        self.free_since = 0.0

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def is_clean(self) -> bool:
        """Whether it is open and nothing has come on it since its last reply, neither a byte nor
        its end. A TLS layer keeps nothing back that it could decrypt, so the socket tells all."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        return self._look is None or not self._look(0)

    async def exchange(self, head: bytes, body: bytes, seconds: float) -> HttpReply:
        """Send a request; the reply, once its head has come, which may take ``seconds``.

        Raises UpstreamError if there is none. After that, or if the caller is cancelled, the
        connection is closed.
        """
        transport = self._transport
        assert transport is not None
        if transport.is_closing():
            # The provider spoke or left before it was asked anything.
            raise UpstreamError(UNREACHABLE, _BROKE_OFF, sent=False)
        loop = asyncio.get_running_loop()
        self._head_bytes = 0
        waiter: asyncio.Future[HttpReply] = loop.create_future()
        self._head = waiter
        self._sent_at = sent_at = loop.time()
        timer = loop.call_at(sent_at + seconds, self._late)
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

    # -- asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._everyone.add(self)
        opened = transport.get_extra_info("socket")
        if opened is not None:
            poll = select.poll()
            poll.register(opened.fileno(), select.POLLIN)
            self._look = poll.poll

    def connection_lost(self, exc: Exception | None) -> None:
        self._spoiled = self._is_deaf = True
        self._everyone.discard(self)
        self.resume_writing()
        self._fail(_BROKE_OFF, kind=StaleConnectionError if self._is_stale() else UpstreamError)

    def pause_writing(self) -> None:
        self._drained = asyncio.Event()

    def resume_writing(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.set()

    def get_buffer(self, sizehint: int) -> memoryview:
        return _READ_BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        if self._is_deaf:
            return
        if self._reply is None and self._head is None:
            # Bytes that nobody asked for, on a connection at rest.
            self.abort()
            return
        self._head_bytes += nbytes
        try:
            self._parser.feed_data(_READ_BUFFER[:nbytes])
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
        else:
            reply = self._reply
            if reply is None:
                return
            reply.wake()
            if reply.chunks:
                self._pause_for_reader(reply, nbytes)
            if nbytes == READ_BYTES and not self.is_paused and self.is_open:
                self._pause_for_others()

    def _pause_for_reader(self, reply: HttpReply, nbytes: int) -> None:
        """What came, ``nbytes`` at most, waits; above ``BUFFER_BYTES`` the reader is to catch up
        first."""
        reply.size += nbytes
        if reply.size >= BUFFER_BYTES and not self.is_paused and self.is_open:
            self.is_paused = True
            assert self._transport is not None
            self._transport.pause_reading()

    def _pause_for_others(self) -> None:
        """More has come than one turn may take: the event loop would read on at once, dozens of
        times, while nobody else is served."""
        assert self._transport is not None
        self.is_paused = True
        self._transport.pause_reading()
        asyncio.get_running_loop().call_soon(self.resume)

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
        if self._is_whole or self._head is None:
            return
        if status < 200:
            if status < 100 or status == _SWITCHING:
                raise httptools.HttpParserError("neither a reply nor an interim one")
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

    def _fail(
        self, failure: str, code: ErrorCode = UNREACHABLE, kind: type[UpstreamError] = UpstreamError
    ) -> None:
        head, self._head = self._head, None
        if head is not None and not head.done():
            head.set_exception(kind(code, failure, sent=True))
        reply, self._reply = self._reply, None
        if reply is not None:
            reply.end(failure)

    def _is_stale(self) -> bool:
        """Whether a connection that served before ends so soon after a request, and without a byte
        of a reply, that it must have been closed already."""
        if self._head is None or not self.free_since or self._head_bytes:
            return False
        return asyncio.get_running_loop().time() - self._sent_at <= REPLAY_SECONDS
