"""A request's link to its connection: its body once that is whole, and the writer of its reply."""

from collections.abc import Callable, Iterable, MutableMapping
from typing import Any, Protocol

from xairouter.clock import fresh_id
from xairouter.dialects.openai import refuse
from xairouter.domain.calls import Refusal
from xairouter.errors import ERRORS, ErrorCode
from xairouter.gateway.browser import SAFE_LINES
from xairouter.gateway.framing import METHODS
from xairouter.gateway.serving import STATUS_LINE, RequestResponseCycle

_BEGINNINGS = {status: line + SAFE_LINES for status, line in STATUS_LINE.items()}
"""A reply's status line, and the headers of every reply of the data plane."""
LINK = "xairouter.link"
"""Key in the ASGI scope under which a request finds its ``Link``."""
_NO_CONTENT = (204, 205, 304)
_REASONS = {
    400: "Bad Request",
    405: "Method Not Allowed",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}


class Server(Protocol):
    """What a link needs of the protocol of its connection."""

    cycle: RequestResponseCycle
    is_kept: bool

    @property
    def is_leaving(self) -> bool:
        """Whether every reply is to be the last one of its connection."""

    def widen(self) -> None:
        """Read more at once: the body that comes is wanted."""

    def finish(self) -> None:
        """The last reply of the connection is out."""

    def cut(self) -> None:
        """End the connection now."""


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

    def __init__(self, protocol: Server) -> None:
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

    @property
    def is_kept(self) -> bool:
        """Whether its connection has served a request before, without a word that it would end."""
        return self._protocol.is_kept

    @property
    def has_started(self) -> bool:
        """Whether the reply's head has been given."""
        return bool(self._cycle.response_started)

    def take_body(self) -> bytes:
        """The body of a request that ``is_whole``."""
        cycle = self._cycle
        body = bytes(cycle.body)
        cycle.body = bytearray()
        return body

    def widen(self) -> None:
        """Whoever sends this body may: it is read in larger pieces."""
        self._protocol.widen()

    def start(
        self, status: int, headers: Iterable[tuple[bytes, bytes]], *, is_page: bool = False
    ) -> None:
        """The reply's head, and its framing; a page has its own headers against misuse.

        It goes out with the first piece of the body, in one system call, or by ``flush``.
        """
        cycle = self._cycle
        if cycle.disconnected:
            return
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        if cycle.more_body or self._protocol.is_leaving:
            # Nobody will read the rest of the body, so no request can follow it; or whoever keeps
            # connections open is to open the next one elsewhere.
            cycle.keep_alive = False
        fields = [*cycle.default_headers, *headers]
        values = dict(fields)
        if b"connection" in values:
            cycle.keep_alive = cycle.keep_alive and values[b"connection"] != b"close"
            fields = [field for field in fields if field[0] != b"connection"]
        if status in (204, 205):  # RFC 9110 §8.6 and §15.3.6: no length, and none but 0.
            fields = [field for field in fields if field[0] != b"content-length"]
            fields += [(b"content-length", b"0")] * (status == 205)
        length = int(values[b"content-length"]) if b"content-length" in values else None
        self._left = length
        if not self._has_body or status in _NO_CONTENT:
            self._left = None
            self._has_body = False
        elif length is None and cycle.scope["http_version"] == "1.1":
            self._chunked = True
            fields.append((b"transfer-encoding", b"chunked"))
        elif length is None:
            cycle.keep_alive = False  # HTTP/1.0 knows no chunks: the reply ends with the connection
        if not cycle.keep_alive:
            fields.append((b"connection", b"close"))
        lines = b"\r\n".join([*map(b": ".join, fields), b"\r\n"])
        if lines.count(b"\n") != len(fields) + 1:
            raise RuntimeError("A reply's header would break out of its line.")
        beginning = STATUS_LINE[status] if is_page else _BEGINNINGS[status]
        self._head = beginning + lines

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
            self._protocol.finish()
        cycle.on_response()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """The same for an ASGI application beside the data plane, as messages."""
        if self.is_full:
            await self.drained()
        if message["type"] == "http.response.start":
            self.start(message["status"], message.get("headers", ()), is_page=True)
            return
        self.write(message.get("body", b""))
        if not message.get("more_body", False):
            self.end()

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


def refusal(code: ErrorCode, message: str, status: int | None = None) -> bytes:
    """The whole last reply of a connection whose request goes no further than the server; ``status``
    where it is not the one of the code."""
    row = ERRORS[code]
    status = status or row.status
    call_id = fresh_id("call")
    body = refuse(row, Refusal(code, message), call_id)
    allow = f"allow: {', '.join(METHODS)}\r\n" if status == 405 else ""
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\n"
        f"{SAFE_LINES.decode('ascii')}"
        "content-type: application/json\r\n"
        f"content-length: {len(body)}\r\n{allow}"
        f"x-xairouter-call-id: {call_id}\r\nx-request-id: {call_id}\r\n"
        f"x-xairouter-origin: gateway\r\nx-xairouter-error: {code}\r\n"
        "x-should-retry: false\r\nconnection: close\r\n\r\n"
    )
    return head.encode("ascii") + body
