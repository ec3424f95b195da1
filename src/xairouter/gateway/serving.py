"""The parts of uvicorn that the server and its protocol stand on, and the proof that they are as these
expect.

Most are private to uvicorn and may change with any release: the package's metadata admits only the
releases that were tried, and ``check_server`` tries what is installed, before the first connection.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from xairouter.errors import ConfigError

try:
    from uvicorn import Config, Server, __version__
    from uvicorn.protocols.http.flow_control import FlowControl
    from uvicorn.protocols.http.httptools_impl import (
        STATUS_LINE,
        HttpToolsProtocol,
        RequestResponseCycle,
    )
    from uvicorn.server import ServerState
except ImportError as error:
    raise ConfigError(
        [f"The installed `uvicorn` lacks what the server needs ({error.msg}); install 0.54."]
    ) from error

__all__ = [
    "NOWHERE",
    "STATUS_LINE",
    "Config",
    "HeldFlow",
    "HttpToolsProtocol",
    "RequestResponseCycle",
    "Server",
    "check_server",
]
TRIED = "0.54"
"""The minor release that the server was tried with; pyproject.toml admits no other."""
USED: Mapping[type, tuple[str, ...]] = {
    Server: ("handle_exit", "main_loop", "serve", "shutdown", "startup"),
    HttpToolsProtocol: (
        "_unset_keepalive_if_required",
        "connection_lost",
        "connection_made",
        "on_headers_complete",
        "on_message_begin",
        "on_response_complete",
        "shutdown",
        "timeout_keep_alive_handler",
    ),
    FlowControl: ("drain", "pause_reading", "resume_reading"),
}
"""What is called and overridden. Fields are tried by what the protocol answers, and ``_serves``."""
CHECK_SECONDS = 60.0
_BODY = b"check"
_REQUESTS = (
    b"POST /check HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\ncheck"
    b"GET /check HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
)


class HeldFlow(FlowControl):
    """Reading stays paused while bytes of a next request wait, whoever asks for more."""

    is_held = False

    def resume_reading(self) -> None:
        if not self.is_held:
            super().resume_reading()


class Nowhere:
    """Takes what is not kept, in the place of a list."""

    def append(self, item: object) -> None:
        """Keep nothing."""


NOWHERE = Nowhere()


async def check_server(protocol: type[asyncio.Protocol], link_key: str) -> None:
    """Have two requests, one behind the other, answered on a connection in memory, and a server
    started that listens nowhere.

    Raises ConfigError, with one sentence, if the installed uvicorn behaves otherwise than expected.
    """
    failed = _lacks()
    try:
        if not failed:
            async with asyncio.timeout(CHECK_SECONDS):
                written = await _exchange(protocol, link_key)
                await _serves()
            if written.count(b"HTTP/1.1 200 OK\r\n") != 2 or not written.endswith(_BODY):
                failed = "its replies are not the expected ones"
    except Exception as error:  # noqa: BLE001 -- whatever it is, the sentence is the same
        failed = f"{type(error).__name__}: {error}"
    if failed:
        raise ConfigError(
            [
                f"The server does not work with the installed uvicorn {__version__} "
                f"({failed}); install {TRIED}."
            ]
        )


def _lacks() -> str:
    """What is not as expected before anything is tried; empty if nothing."""
    if not __version__.startswith(f"{TRIED}."):
        return "it was never tried with it"
    missing = [
        f"{kind.__name__}.{name}"
        for kind, names in USED.items()
        for name in names
        if not hasattr(kind, name)
    ]
    return f"it has no {', '.join(missing)}" if missing else ""


async def _nowhere(scope: Any, receive: Any, send: Any) -> None:
    """An application that is never asked."""


async def _serves() -> None:
    """Start a server without a socket, and look at the fields that are used of it."""
    config = Config(_nowhere, ws="none", lifespan="off", log_config=None, access_log=False)
    config.load()
    server = Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[])
    if server.servers or server.should_exit or server.force_exit:
        raise RuntimeError("a server that listens nowhere did not start")


async def _exchange(protocol: type[asyncio.Protocol], link_key: str) -> bytes:
    bodies: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        link = scope.pop(link_key)
        bodies.append(link.take_body() if link.is_whole else b"")
        link.start(200, [(b"content-length", b"5")])
        link.write(_BODY)
        link.end()

    config = Config(app, ws="none", lifespan="off", log_config=None, access_log=False)
    config.load()
    loop = asyncio.get_running_loop()
    transport = _Memory()
    made: Any = protocol(
        config=config,  # type: ignore[call-arg]
        server_state=ServerState(),
        app_state={},
        _loop=loop,
    )
    made.connection_made(transport)
    made.data_received(_REQUESTS)
    await transport.closed.wait()
    made.connection_lost(None)
    if bodies != [_BODY, b""]:
        raise RuntimeError("a request's body was not read")
    return bytes(transport.written)


class _Memory(asyncio.Transport):
    """A connection to nobody that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = asyncio.Event()

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def close(self) -> None:
        self.closed.set()

    abort = close

    def pause_reading(self) -> None:
        """Nothing more comes."""

    resume_reading = pause_reading
