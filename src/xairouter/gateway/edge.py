"""The server protocol's limits, which uvicorn does not have: size and time of headers,
connections per address, answers to bytes that are no request, and word of a client that left.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from xairouter.clock import fresh_id
from xairouter.dialects.openai import refuse
from xairouter.domain.calls import Refusal
from xairouter.errors import ERRORS

HEADER_BYTES = 64 * 1024
LINK = "xairouter.link"
"""Key in the ASGI scope under which a request finds its ``Link``."""


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


class Link:
    """A request's link to its connection: its body once that is whole, the reply's bytes, whether
    the client has left, and how to cut it off.

    It writes what uvicorn's own cycle would, without a message and a check for each header: names
    are in lower case, and names and values are checked where they come from (dialects/headers.py).
    """

    __slots__ = (
        "_chunked",
        "_cycle",
        "_has_body",
        "_head",
        "_left",
        "_listener",
        "_protocol",
        "flow",
        "is_gone",
        "is_whole",
    )

    def __init__(self, protocol: "EdgeProtocol") -> None:
        self._protocol = protocol
        # The request's cycle in uvicorn, whose state is kept as uvicorn would.
        self._cycle: RequestResponseCycle = protocol.cycle
        self._has_body = self._cycle.scope["method"] != "HEAD"
        # ``write_paused`` while the client reads so slowly that more should wait.
        self.flow = self._cycle.flow
        self._listener: Callable[[], None] | None = None
        self._chunked = False
        self._head = b""
        self._left: int | None = None
        self.is_gone = False
        self.is_whole = False

    def take_body(self) -> bytes:
        """The body of a request that ``is_whole``."""
        cycle = self._cycle
        body = bytes(cycle.body)
        cycle.body = bytearray()
        return body

    def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """The reply's head, and its framing. It goes out with the first piece of the body, in one
        system call, or by ``flush``."""
        cycle = self._cycle
        if cycle.disconnected:
            return
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        lines = [STATUS_LINE[status]]
        length: int | None = None
        for name, value in (*cycle.default_headers, *headers):
            if name == b"content-length":
                length = int(value)
            elif name == b"connection":
                cycle.keep_alive = cycle.keep_alive and value != b"close"
                continue
            lines.append(b"%b: %b\r\n" % (name, value))
        self._left = length
        if not self._has_body or status in (204, 304):
            self._left = None
        elif length is None and cycle.scope["http_version"] == "1.1":
            self._chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        elif length is None:
            cycle.keep_alive = False  # HTTP/1.0 knows no chunks: the reply ends with the connection
        if not cycle.keep_alive:
            lines.append(b"connection: close\r\n")
        head = b"".join(lines)
        if head.count(b"\n") != len(lines):
            raise RuntimeError("A reply's header would break out of its line.")
        self._head = head + b"\r\n"

    def flush(self) -> None:
        """The head alone: who waits for the body is to see it."""
        head, self._head = self._head, b""
        if head and not self._cycle.disconnected:
            self._cycle.transport.write(head)

    def write(self, data: bytes) -> None:
        """Write a piece of the body."""
        cycle = self._cycle
        if cycle.disconnected or not data or not self._has_body:
            self.flush()
            return
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        elif self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                raise RuntimeError("A reply is longer than its head says.")
        if self._head:
            data, self._head = self._head + data, b""
        cycle.transport.write(data)

    def end(self) -> None:
        """The body is whole: the connection may serve its next request."""
        cycle = self._cycle
        if cycle.disconnected:
            return
        self.flush()
        if self._chunked:
            cycle.transport.write(b"0\r\n\r\n")
        elif self._left:
            raise RuntimeError("A reply is shorter than its head says.")
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()

    @property
    def is_full(self) -> bool:
        """Whether the client reads so slowly that more should wait for ``drained``."""
        return self.flow.write_paused and not self._cycle.disconnected

    async def drained(self) -> None:
        """Wait until the client has read on."""
        await self.flow.drain()

    def when_gone(self, listener: Callable[[], None] | None) -> None:
        """Call ``listener`` once when the client leaves (at once if it has), None to stop."""
        self._listener = listener
        if self.is_gone and listener is not None:
            listener()

    def leave(self) -> None:
        """The connection is lost."""
        self.is_gone = True
        listener, self._listener = self._listener, None
        if listener is not None:
            listener()

    def abort(self) -> None:
        """Cut the connection in the middle of a reply, so that nobody takes it for whole."""
        self._listener = None
        self._protocol.cut()


def protocol_class(limits: Limits) -> type[asyncio.Protocol]:
    """The protocol for uvicorn's ``http=`` setting, bound to the limits of one server."""

    class BoundEdgeProtocol(EdgeProtocol):
        edge_limits = limits

    return BoundEdgeProtocol


class EdgeProtocol(HttpToolsProtocol):
    """uvicorn's httptools protocol with limits. Reads uvicorn's own fields, hence the pinned
    version; tests/system/test_bad_input.py and test_attacks.py hold it to its word."""

    edge_limits: Limits

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_bytes = 0
        self._header_timer: asyncio.TimerHandle | None = None
        self._links: list[Link] = []
        self._is_counted = False
        self._is_deaf = False
        self._is_in_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        limits = self.edge_limits
        if limits.connections[address] >= limits.connections_per_address:
            self._refuse("overloaded", "There are too many connections from this address.")
            return
        limits.connections[address] += 1
        self._is_counted = True
        self._start_header_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_header_timer()
        if self._is_counted:
            self._is_counted = False
            address = self.client[0] if self.client else ""
            self.edge_limits.connections[address] -= 1
            if not self.edge_limits.connections[address]:
                del self.edge_limits.connections[address]
        super().connection_lost(exc)
        for link in self._links:
            link.leave()
        self._links.clear()

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # No upgrade is supported; the request itself was delivered and gets its answer (426).
            # What follows it in another protocol is not read.
            self._is_deaf = True
            if self.cycle is not None:
                self.cycle.keep_alive = False
        except httptools.HttpParserError:
            self._refuse("invalid_request", "These bytes are no HTTP request.")
        # Nearly every head comes in one piece, and needs no timer.
        if self._is_in_head and self._header_timer is None and not self._is_deaf:
            self._start_header_timer()

    def on_message_begin(self) -> None:
        self._header_bytes = 0
        self._is_in_head = True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._stop_header_timer()
        if self._is_deaf:
            return
        super().on_headers_complete()
        # The application begins in a later turn of the loop, and finds its link.
        link = Link(self)
        cast("dict[str, Any]", self.scope)[LINK] = link
        self._links.append(link)

    def on_body(self, body: bytes) -> None:
        if not self._is_deaf:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._is_deaf:
            super().on_message_complete()
            if self._links:
                self._links[-1].is_whole = True

    def on_response_complete(self) -> None:
        if self._links:
            self._links.pop(0)
        if self.edge_limits.is_leaving() and not self.pipeline:
            # A reply that began before the notice could not say so: the next call goes elsewhere.
            self.transport.close()
        super().on_response_complete()

    def cut(self) -> None:
        """End the connection now; what was not sent is dropped."""
        if self.cycle is not None:
            self.cycle.disconnected = True
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        self._refuse("invalid_request", "These bytes are no HTTP request.")

    def _count(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > HEADER_BYTES and not self._is_deaf:
            self._refuse("invalid_request", "The request's headers are larger than 64 KB.")

    def _start_header_timer(self) -> None:
        self._header_timer = self.loop.call_later(
            self.edge_limits.header_seconds, self._headers_late
        )

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _headers_late(self) -> None:
        self._header_timer = None
        if not self.transport.is_closing():
            self._refuse("invalid_request", "The request's headers did not arrive in time.")

    def _refuse(self, code: str, message: str) -> None:
        """Answer below the application, and read no more from this connection.

        A reply that an earlier request on the connection is still owed goes out first and alone:
        an answer in its middle could be taken for a part of it.
        """
        self._is_deaf = True
        self._stop_header_timer()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.keep_alive = False
            if cycle.more_body and not cycle.response_started:
                # The broken bytes belong to this request's own body.
                cycle.disconnected = True
                self._write_refusal(code, message)
                cycle.message_event.set()
            return
        self._write_refusal(code, message)

    def _write_refusal(self, code: str, message: str) -> None:
        row = ERRORS[code]
        call_id = fresh_id("call")
        body = refuse(row, Refusal(code, message), call_id)
        head = (
            f"HTTP/1.1 {row.status} {'Bad Request' if row.status == 400 else 'Unavailable'}\r\n"
            "content-type: application/json\r\n"
            f"content-length: {len(body)}\r\n"
            f"x-xairouter-call-id: {call_id}\r\nx-request-id: {call_id}\r\n"
            f"x-xairouter-origin: gateway\r\nx-xairouter-error: {code}\r\n"
            "x-should-retry: false\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()
