"""The server protocol, on uvicorn's: one request of a connection at a time, and limits on what may
come before anybody knows whose it is.

What a connection holds before its key is accepted is bounded: a head of ``HEADER_BYTES`` and
``MOST_FIELDS``, ``READ_BYTES`` of a body twice, and one read of what follows it. The rest stays in the
socket: a request that is pipelined behind another is not even parsed before that one is answered.

uvicorn's parser would go on to the next message by itself, so it is fed up to where a message can end:
heads and chunked bodies end with an empty line, others after ``content-length`` bytes.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import httptools

from xairouter.errors import ErrorCode
from xairouter.gateway.framing import problem_of
from xairouter.gateway.link import LINK, Link, refusal
from xairouter.gateway.resting import Resting
from xairouter.gateway.serving import NOWHERE, HeldFlow

HEADER_BYTES = 64 * 1024
"""Of a head, and of what frames a chunked body between two pieces of it, trailers included."""
MOST_FIELDS = 500
READ_BYTES = 16 * 1024
"""The most that is read at once for a request whose key nobody has accepted yet; a body waits in the
socket when this much of it waits here."""
WIDE_BYTES = 256 * 1024
"""The same for the body of a request whose sender is known."""
LINGER_SECONDS = 2.0
"""How long what a client still sends is thrown away after the last reply. Closing at once would reset
the connection, and the client could lose the reply."""
MOST_TARGET, MOST_ARGUMENTS = 16 * 1024, 256
"""Bytes of a request's path and query, and its arguments: they are decoded before a key is read."""
WEBSOCKET = b"websocket"
_SECTION_END = b"\r\n\r\n"
_BEGINS_REQUEST = re.compile(rb"[\r\n]*([A-Z]|\Z)")
_HEAD, _BODY, _WHOLE = range(3)
"""Where the parser stands: before the end of a head, within a body, behind a whole request that is not
answered yet."""

_READ_BUFFER = memoryview(bytearray(WIDE_BYTES))
"""Bytes just read, of whichever connection: an event loop fills it and hands it over in one step."""
_NARROW_BUFFER = _READ_BUFFER[:READ_BYTES]


class Limits:
    """What one server allows; shared by its connections."""

    def __init__(
        self,
        *,
        header_seconds: float,
        connections_per_address: int,
        is_leaving: Callable[[], bool] = lambda: False,
    ) -> None:
        self.header_seconds = header_seconds
        self.is_leaving = is_leaving
        self.connections_per_address = connections_per_address
        self.connections: Counter[str] = Counter()


UNLIMITED = Limits(header_seconds=3600, connections_per_address=1 << 30)


class _RefusedError(Exception):
    """Stops the parser within a head that has been refused."""


class _BodyOnly:
    """Callbacks of a parser that reads a body whose head another parser has read."""

    def __init__(self, protocol: "EdgeProtocol") -> None:
        self.on_body = protocol.on_body
        self.on_message_complete = protocol.on_message_complete


def protocol_class(limits: Limits) -> type[asyncio.Protocol]:
    """The protocol for uvicorn's ``http=`` setting, bound to the limits of one server."""

    class BoundEdgeProtocol(EdgeProtocol):
        edge_limits = limits

    return BoundEdgeProtocol


class EdgeProtocol(Resting, asyncio.BufferedProtocol):
    """uvicorn's httptools protocol with limits. Reads and sets uvicorn's own fields, hence the pinned
    version and the self-test at start (serving.py)."""

    edge_limits: Limits

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.headers: Any = []
        self._fields: dict[bytes, bytes] = {}
        self._stage = _HEAD
        # A message has begun whose head is not whole.
        self._is_in_head = False
        # Since the last piece of a body, or the end of a message.
        self._section_bytes = 0
        # The end of what was fed, where an empty line may have begun.
        self._tail = b""
        self._body_left = 0
        self._is_wide = False
        # What came behind a request that is not answered yet.
        self._unread = b""
        self._timer: asyncio.TimerHandle | None = None
        self._link: Link | None = None
        self._is_counted = False
        # Nothing more is read from this connection.
        self._is_deaf = False
        self._has_body_parser = False

    # --- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = self._flow = HeldFlow(transport)
        address = self.client[0] if self.client else ""
        limits = self.edge_limits
        if limits.connections[address] >= limits.connections_per_address:
            self._is_deaf = True
            self.transport.write(
                refusal(ErrorCode.OVERLOADED, "There are too many connections from this address.")
            )
            self.transport.close()
            return
        limits.connections[address] += 1
        self._is_counted = True
        self._start_header_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._is_counted:
            self._is_counted = False
            address = self.client[0] if self.client else ""
            self.edge_limits.connections[address] -= 1
            if not self.edge_limits.connections[address]:
                del self.edge_limits.connections[address]
        super().connection_lost(exc)
        self._unread = b""
        link, self._link = self._link, None
        if link is not None:
            link.leave()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the event loop puts the next bytes, no more than may be taken in now."""
        return _READ_BUFFER if self._is_wide else _NARROW_BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(_READ_BUFFER[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Take in what came, up to the end of the first request in it."""
        if self._is_deaf:
            return
        self._unset_keepalive_if_required()
        start, size = 0, len(data)
        while start < size:
            if self._stage == _WHOLE:
                self._keep_unread(data[start:])
                return
            if self._body_left:
                end = min(size, start + self._body_left)
                self._body_left -= end - start
            else:
                end = self._end_of_section(data, start)
                self._section_bytes += end - start
            try:
                self.parser.feed_data(data[start:end])
            except httptools.HttpParserUpgrade:
                if not self._ignore_upgrade():
                    return
            except httptools.HttpParserError:
                self._refuse(400, "These bytes are no HTTP request.")
                return
            if self._section_bytes > HEADER_BYTES:
                self._refuse_size()
                return
            start = end
        if self._stage == _HEAD:
            self._wait_for_head()

    def _wait_for_head(self) -> None:
        """Part of a head is there. Nearly every one comes in one piece, and needs no timer."""
        if self._is_in_head and len(self.headers) > MOST_FIELDS:
            self._refuse_size()
        elif self._timer is None:
            self._start_header_timer()

    def _end_of_section(self, data: bytes, start: int) -> int:
        """Where a message can end: behind the next empty line, which may have begun before."""
        tail = self._tail
        if tail:
            found = (tail + data[start : start + 3]).find(_SECTION_END)
            if found >= 0:
                self._tail = b""
                return start + found + 4 - len(tail)
        found = data.find(_SECTION_END, start)
        if found >= 0:
            self._tail = b""
            return found + 4
        self._tail = (tail + data[max(start, len(data) - 3) :])[-3:]
        return len(data)

    def _keep_unread(self, data: bytes) -> None:
        """What follows a request waits until that is answered; what begins no request, or follows the
        last one, is not read."""
        self._unread += data
        if not self.cycle.keep_alive or not _BEGINS_REQUEST.match(self._unread):
            self._is_deaf = True
            self._unread = b""
            self.cycle.keep_alive = False
        self.flow.pause_reading()
        self._flow.is_held = True

    def _ignore_upgrade(self) -> bool:
        """Go on behind a head that asks for an upgrade; False if nothing more is read.

        No upgrade is served, so each is ignored (RFC 9110 §7.8) and the request answered as it
        stands. A WebSocket's handshake alone gets an answer of its own (426), since nothing that its
        client says next is HTTP.

        The parser has stopped behind the head, without a look at the body: another one goes on.
        """
        cycle = self.cycle
        headers = self._fields
        if headers[b"upgrade"].lower() == WEBSOCKET:
            self._is_deaf = True
            cycle.keep_alive = False
            return False
        self.parser = httptools.HttpRequestParser(self)
        if self._stage == _BODY:
            self.parser = httptools.HttpRequestParser(_BodyOnly(self))
            self._has_body_parser = True
            framing = b"transfer-encoding: chunked"
            if b"content-length" in headers:
                framing = b"content-length: " + headers[b"content-length"]
            self.parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n\r\n")
        return True

    # --- the parser's callbacks

    def on_message_begin(self) -> None:
        if self._stage == _WHOLE:
            raise _RefusedError  # Not to be: the parser saw an end where this module saw none.
        self._is_in_head = True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._stop_timer()
        headers = self.headers
        if self._section_bytes > HEADER_BYTES or len(headers) > MOST_FIELDS:
            self._refuse_size()
            raise _RefusedError
        if len(self.url) > MOST_TARGET or self.url.count(b"&") >= MOST_ARGUMENTS:
            self._refuse(400, "The request's path and query are too long.")
            raise _RefusedError
        self._section_bytes = 0
        fields = self._fields = dict(headers)
        parser = self.parser
        problem = problem_of(parser.get_http_version(), parser.get_method(), headers, fields)
        if problem is not None:
            self._refuse(*problem)
            raise _RefusedError
        if b"expect" in fields:
            self.expect_100_continue = fields[b"expect"].lower() == b"100-continue"
        self._body_left = int(fields.get(b"content-length", 0))
        self._stage = _BODY
        super().on_headers_complete()
        # Nothing may be said behind a body that was not said before it: a trailer goes nowhere.
        self.headers = NOWHERE
        # The application begins in a later turn of the loop, and finds its link.
        link = self._link = Link(self)
        cast("dict[str, Any]", self.scope)[LINK] = link

    def on_body(self, body: bytes) -> None:
        self._section_bytes = 0
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) >= (WIDE_BYTES if self._is_wide else READ_BYTES):
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade() and self._passes_over_body():
            return
        self._section_bytes = 0
        self._stage = _WHOLE
        self.cycle.more_body = False
        self.cycle.message_event.set()
        if self._link is not None:
            self._link.is_whole = True
        if self._has_body_parser:
            self._has_body_parser = False
            self.parser = httptools.HttpRequestParser(self)

    def _passes_over_body(self) -> bool:
        """Whether the parser says so early that a request with an upgrade is whole: before its body."""
        fields = self._fields
        has_body = self._body_left > 0 or b"transfer-encoding" in fields
        return has_body and fields[b"upgrade"].lower() != WEBSOCKET

    # --- replies

    def on_response_complete(self) -> None:
        self._link = None
        self._is_wide = False
        if self._stage == _WHOLE:
            self._stage = _HEAD
        self._flow.is_held = False
        super().on_response_complete()
        unread, self._unread = self._unread, b""
        if unread and not self.transport.is_closing():
            self.data_received(unread)

    @property
    def is_leaving(self) -> bool:
        return self.edge_limits.is_leaving()

    def widen(self) -> None:
        """Read more at once: whoever sends this body is known."""
        self._is_wide = True

    def finish(self) -> None:
        """The last reply of the connection is out."""
        self._is_deaf = True
        self._stop_timer()
        if self._stage == _WHOLE or not self.transport.can_write_eof():
            self.transport.close()
            return
        self._flow.is_held = False
        self.flow.resume_reading()
        self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def cut(self) -> None:
        """End the connection now; what was not sent is dropped."""
        if self.cycle is not None:
            self.cycle.disconnected = True
        self.transport.abort()

    def _start_header_timer(self) -> None:
        self._timer = self.loop.call_later(self.edge_limits.header_seconds, self._headers_late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _headers_late(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self._is_in_head:
            self._refuse(400, "The request's headers did not arrive in time.")
        else:
            # Nothing was asked: a client would take an answer for that to its next request.
            self.transport.close()

    def _refuse_size(self) -> None:
        self._refuse(
            400, f"The request's headers are larger than 64 KB or more than {MOST_FIELDS}."
        )

    def _refuse(self, status: int, message: str) -> None:
        """Answer below the application, and read no more from this connection.

        A reply that an earlier request on the connection is still owed goes out first and alone:
        an answer in its middle could be taken for a part of it.
        """
        if self._is_deaf:
            return
        self._is_deaf = True
        self._stop_timer()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.keep_alive = False
            if not cycle.more_body or cycle.response_started:
                return
            # The broken bytes belong to this request's own body.
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.write(refusal(ErrorCode.INVALID_REQUEST, message, status))
        self.finish()
