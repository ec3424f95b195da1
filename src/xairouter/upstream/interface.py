"""What an upstream client is: sends one request, hands back a reply whose body is read in pieces.

Every driver passes the same contract suite (tests/contract/test_upstream.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from xairouter.domain.unshown import Unshown

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: to connect, and until the reply's head has come."""

    connect: float
    first_byte: float


class WireRequest(Unshown):
    """A request as it goes out, credential included. ``key_id`` is the provider key whose
    connections it may use."""

    __slots__ = ("body", "headers", "key_id", "method", "url")

    def __init__(
        self, method: str, url: str, headers: Headers, body: bytes, key_id: str = ""
    ) -> None:
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.key_id = key_id


class Reply(Protocol):
    """A provider's reply: head known, body to be read.

    Header names are in lower case. ``read`` returns the next bytes as they came (compressed if
    the provider compressed), b"" at a clean end; it raises UpstreamError when the reply breaks
    off. A function given to ``on_piece`` gets each piece that comes while ``read`` waits, and says
    whether it took it; what it did not take, and the end, ``read`` returns. ``on_piece`` itself says
    whether ``read`` would return at once. ``close`` gives the connection back if the body was read
    to a clean end, else ends it.
    """

    status: int
    headers: Headers

    async def read(self) -> bytes: ...

    def on_piece(self, take: Callable[[bytes], bool]) -> bool: ...

    async def close(self) -> None: ...


class Client(Protocol):
    """Sends requests. A connection serves one (pool, provider key, origin) and never another."""

    async def send(
        self, pool: str, request: WireRequest, limits: Limits, *, is_fresh: bool = False
    ) -> Reply:
        """Send a request once; ``is_fresh`` – on a new connection.

        Raises UpstreamError if no reply's head came, StaleConnectionError if that is most likely
        because the kept connection had been closed by the provider.
        """

    async def close(self) -> None: ...


def header_of(reply: Reply, name: str) -> str:
    """A reply header's value, "" if absent."""
    for key, value in reply.headers:
        if key == name:
            return value
    return ""


async def whole(reply: Reply) -> bytes:
    """A reply's whole body; raises UpstreamError where it breaks off."""
    parts = []
    try:
        while chunk := await reply.read():
            parts.append(chunk)
    finally:
        await reply.close()
    return b"".join(parts)
