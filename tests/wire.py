"""A client's connection in memory: the server's real protocol at one end, the test at the other.

No socket, no process, no clock: what the test sends is delivered as an event loop would deliver it,
one read a turn, no more than the protocol's buffer takes, nothing while the protocol has paused
reading. What it has not taken yet lies in ``unread``, as it would in a socket.

- ``wire_to(rig)`` is a connection to a whole running application, past its listening socket.
- ``Edge(app)`` is the protocol alone with any ASGI application behind it; ``Edge.connect()`` opens
  connections to it.

``Wire.send`` gives bytes; ``await wire.answered(2)`` waits for two whole replies and returns them;
``await wire.ended()`` waits for the end of the connection and returns all of them. ``taken`` counts
the bytes that the server has taken in, ``taken_before_reply`` those before its first word.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httptools
import uvicorn
from uvicorn.server import ServerState

from tests.rig import Rig
from xairouter.gateway.edge import Limits, protocol_class

PATIENCE = 30.0
"""Seconds after which a test gives up waiting for what should come at once."""
READ_BYTES = 256_000
"""What an event loop reads at once for a protocol without a buffer of its own (uvloop's number)."""


@dataclass
class WireReply:
    """One reply on a wire."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_whole: bool = False

    @property
    def code(self) -> str | None:
        return self.headers.get("x-xairouter-error")


class _Replies:
    """Parser callbacks that collect replies. 1xx replies count as any other."""

    def __init__(self) -> None:
        self.found: list[WireReply] = []
        self.parser = httptools.HttpResponseParser(self)

    def on_message_begin(self) -> None:
        self.found.append(WireReply())

    def on_header(self, name: bytes, value: bytes) -> None:
        self.found[-1].headers[name.decode().lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.found[-1].status = self.parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.found[-1].body += body

    def on_message_complete(self) -> None:
        self.found[-1].is_whole = True


class Wire(asyncio.Transport):
    """The transport that a server's protocol gets; the test holds the other end."""

    def __init__(self, protocol: Any, address: str = "127.0.0.1") -> None:
        super().__init__()
        self.protocol = protocol
        self._addresses = {"peername": (address, 50_000), "sockname": ("127.0.0.1", 8080)}
        self._is_paused = self._is_closing = self.is_lost = self.is_half_closed = False
        self._changed = asyncio.Event()
        self._delivery: asyncio.Handle | None = None
        self.unread = bytearray()
        self.taken = self.taken_before_reply = 0
        self.received = bytearray()
        protocol.connection_made(self)

    # --- the test's end

    def send(self, data: bytes) -> None:
        """Put bytes into the connection; the server reads them in the loop's next turns."""
        self.unread += data
        self._schedule()

    def leave(self) -> None:
        """The client is gone."""
        self._lose(ConnectionResetError())

    @property
    def has_ended(self) -> bool:
        """Whether the server sends nothing more."""
        return self.is_lost or self.is_half_closed

    @property
    def replies(self) -> list[WireReply]:
        """What the server has sent so far, read as HTTP."""
        read = _Replies()
        read.parser.feed_data(bytes(self.received))
        return read.found

    async def answered(self, count: int = 1) -> list[WireReply]:
        """Wait until ``count`` replies are whole."""
        await self.until(lambda: sum(reply.is_whole for reply in self.replies) >= count)
        return self.replies

    async def ended(self) -> list[WireReply]:
        """Wait until the server has closed the connection, or its end of it."""
        await self.until(lambda: self.has_ended)
        return self.replies

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition of this wire; every event on it has the condition looked at."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def settled(self) -> None:
        """Wait until the server takes no more of what was sent: it has all, has paused reading, or
        is gone."""
        await self.until(lambda: not self.unread or self._is_paused or self._is_closing)

    # --- the server's end: what asyncio's own transports do

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._addresses.get(name, default)

    def is_closing(self) -> bool:
        return self._is_closing

    def is_reading(self) -> bool:
        return not self._is_paused

    def pause_reading(self) -> None:
        self._is_paused = True
        self._changed.set()

    def resume_reading(self) -> None:
        self._is_paused = False
        self._schedule()

    def write(self, data: Any) -> None:
        if not self.is_lost:
            if not self.received:
                self.taken_before_reply = self.taken
            self.received += data
            self._changed.set()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.is_half_closed = True
        self._changed.set()

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._changed.set()
            asyncio.get_running_loop().call_soon(self._lose, None)

    def abort(self) -> None:
        self.close()

    def _lose(self, error: Exception | None) -> None:
        if not self.is_lost:
            self._is_closing = self.is_lost = True
            self.protocol.connection_lost(error)
            self._changed.set()

    def _schedule(self) -> None:
        if self._delivery is None:
            self._delivery = asyncio.get_running_loop().call_soon(self._deliver)

    def _deliver(self) -> None:
        """One read, as a loop does it where the socket is readable."""
        self._delivery = None
        if not self.unread or self._is_paused or self._is_closing:
            return
        if hasattr(self.protocol, "get_buffer"):
            buffer = memoryview(self.protocol.get_buffer(-1))
            data = bytes(self.unread[: len(buffer)])
            buffer[: len(data)] = data
            del self.unread[: len(data)]
            self.taken += len(data)
            self.protocol.buffer_updated(len(data))
        else:
            data = bytes(self.unread[:READ_BYTES])
            del self.unread[: len(data)]
            self.taken += len(data)
            self.protocol.data_received(data)
        self._changed.set()
        if self.unread:
            self._schedule()


def _connected(config: uvicorn.Config, state: ServerState, address: str) -> Wire:
    protocol = config.http_protocol_class(  # type: ignore[call-arg]
        config=config, server_state=state, app_state={}, _loop=asyncio.get_running_loop()
    )
    return Wire(protocol, address)


def wire_to(rig: Rig, address: str = "127.0.0.1") -> Wire:
    """A connection to a rig's router, from a client at ``address``."""
    return _connected(rig._server.config, rig._server.server_state, address)


class Edge:
    """The server protocol alone, with an ASGI application of the test's behind it."""

    def __init__(
        self, app: Any, *, header_seconds: float = 300, connections_per_address: int = 1000
    ) -> None:
        limits = Limits(
            header_seconds=header_seconds, connections_per_address=connections_per_address
        )
        self._config = uvicorn.Config(
            app, http=protocol_class(limits), ws="none", lifespan="off", log_config=None
        )
        self._config.load()
        self._state = ServerState()

    def connect(self, address: str = "127.0.0.1") -> Wire:
        return _connected(self._config, self._state, address)
