"""Request bodies: how many bytes of them are held for whom, how long one may take, and the bodies of the
applications beside the data plane.

A body is read after its sender is known, and counted for that owner. Who is not known may send
``UNKNOWN_BYTES``, which is enough for a form with a key or a code in it.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from xairouter.domain.calls import Refusal
from xairouter.errors import ErrorCode
from xairouter.gateway.link import LINK, Link

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Sender = Callable[[Scope], Awaitable["str | Refusal"]]
"""Whose a request is, by its head alone: an owner's id, "" for nobody's, or why it is refused."""
Refuse = Callable[[Scope, Receive, Send, Refusal], Awaitable[None]]
Begin = Callable[[Scope, str], Awaitable[None]]
"""Waits until a request of an owner, or of nobody (""), may begin."""

_CREDENTIALS = {b"authorization", b"x-api-key", b"x-goog-api-key", b"cookie"}
UNKNOWN_BYTES = 16 * 1024
KNOWN_BYTES = 4 * 1024 * 1024
"""The largest body of the management API and the console."""
TOO_MANY = Refusal(
    ErrorCode.OVERLOADED, "The router holds too many request bodies now.", retry_after=1
)
LATE = Refusal(ErrorCode.INVALID_REQUEST, "The request's body did not arrive in time.")


class ClientGoneError(Exception):
    """The client left before its request was whole."""


class BodyBudget:
    """The sum of request bodies in memory; shared by all calls of a process.

    An owner may hold as much as is free: half of all if it is alone, and however much others hold,
    something is left for the next (Choudhury and Hahne, "Dynamic queue length thresholds for
    shared-memory packet switches", 1998).
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_owner: dict[str, int] = {}
        self.held = 0

    def take(self, owner_id: str, size: int) -> bool:
        """Count ``size`` more bytes for an owner; False, and nothing counted, if that is too much."""
        own = self._by_owner.get(owner_id, 0) + size
        total = self.held + size
        if own > self._most - total:
            return False
        self._by_owner[owner_id] = own
        self.held = total
        return True

    def give_back(self, owner_id: str, size: int) -> None:
        """``size`` bytes of an owner are held no more."""
        if size:
            self.held -= size
            self._by_owner[owner_id] -= size
            if not self._by_owner[owner_id]:
                del self._by_owner[owner_id]


@dataclass(frozen=True, slots=True)
class BodyTimes:
    """How long a body may take: the longest silence between two pieces, and in all."""

    idle_seconds: float
    total_seconds: float


class Arrival:
    """The pieces of one body, as they arrive in time."""

    def __init__(self, receive: Receive, times: BodyTimes) -> None:
        self._receive = receive
        self._idle = times.idle_seconds
        self._now = asyncio.get_running_loop().time
        self._deadline = self._now() + times.total_seconds

    async def next(self) -> tuple[bytes, bool] | None:
        """The next piece, and whether more follow; None if it is late. Raises ClientGoneError."""
        left = self._deadline - self._now()
        if left <= 0:
            return None
        try:
            async with asyncio.timeout(min(self._idle, left)):
                message = await self._receive()
        except TimeoutError:
            return None
        if message["type"] != "http.request":
            raise ClientGoneError
        return message.get("body", b""), message.get("more_body", False)


NUL = Refusal(ErrorCode.INVALID_REQUEST, "A path and a query have no NUL characters.")


class Guarded:
    """An application beside the data plane, behind a limit on the bodies that it is sent.

    A body that is whole when its request begins is a small one (``edge.READ_BYTES``). Any other is
    read here, after its sender is known, and handed on whole. A request that is whole waits for its
    sender's turn (admission.py). The application finds the request's link in its scope.
    """

    def __init__(
        self,
        app: App,
        budget: BodyBudget,
        times: BodyTimes,
        sender: Sender,
        refuse: Refuse,
        begin: Begin,
    ) -> None:
        self._app = app
        self._begin = begin
        self._budget = budget
        self._times = times
        self._sender = sender
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send, link: Link) -> None:
        """Serve one request."""
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            await self._begin(scope, "")
            await self._refuse(scope, receive, send, NUL)
            return
        if link.is_whole:
            await self._begin(scope, await self._whose(scope))
            scope[LINK] = link
            if not link.is_gone:
                await self._app(scope, receive, send)
            return
        sender = await self._sender(scope)
        if isinstance(sender, Refusal):
            await self._begin(scope, "")
            await self._refuse(scope, receive, send, sender)
            return
        most = KNOWN_BYTES if sender else UNKNOWN_BYTES
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if int(declared) > most:
            await self._refuse(scope, receive, send, _too_large(most))
            return
        if sender:
            link.widen()
        held = bytearray()
        try:
            refused = await self._read(receive, sender, most, held)
            await self._begin(scope, sender)
            if refused is not None:
                await self._refuse(scope, receive, send, refused)
            else:
                scope[LINK] = link
                await self._app(scope, _handed_on(bytes(held), receive), send)
        except ClientGoneError:
            return
        finally:
            self._budget.give_back(sender, len(held))

    async def _whose(self, scope: Scope) -> str:
        """Whose a request is, "" where nobody knows."""
        if not any(name in _CREDENTIALS for name, _ in scope["headers"]):
            return ""
        sender = await self._sender(scope)
        return "" if isinstance(sender, Refusal) else sender

    async def _read(
        self, receive: Receive, sender: str, most: int, held: bytearray
    ) -> Refusal | None:
        arrival = Arrival(receive, self._times)
        more = True
        while more:
            piece = await arrival.next()
            if piece is None:
                return LATE
            data, more = piece
            if len(held) + len(data) > most:
                return _too_large(most)
            if not self._budget.take(sender, len(data)):
                return TOO_MANY
            held += data
        return None


def _too_large(most: int) -> Refusal:
    return Refusal(ErrorCode.BODY_TOO_LARGE, f"The body is larger than {most} bytes.")


def _handed_on(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that has the whole body in one message."""
    first: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": body, "more_body": False}
    ]

    async def handed_on() -> MutableMapping[str, Any]:
        return first.pop() if first else await receive()

    return handed_on
