"""Requests of the applications beside the data plane: none outlives its client, its deadline, or the
router.

One that only reads is given up when its client leaves; one that changes something is not, because a
client that leaves does not know what became of it. A reply that has begun may take as long as its client
reads: exports and live figures are longer than any deadline.
"""

import asyncio
from dataclasses import dataclass

from xairouter.domain.calls import Refusal
from xairouter.errors import ErrorCode
from xairouter.gateway.bodies import App, Receive, Refuse, Scope, Send
from xairouter.gateway.link import LINK, Link

DEADLINE_SECONDS = 150.0
"""Longer than a rehearsal may take, which is the longest of them."""
GRACE_SECONDS = 5.0
_READING = frozenset({"GET", "HEAD"})
_LATE = Refusal(ErrorCode.OVERLOADED, "This took too long and was given up; ask for less.")
_ENDING = Refusal(ErrorCode.DRAINING, "The router is shutting down.")


@dataclass(eq=False, slots=True)
class _Request:
    """One request under way."""

    scope: Scope
    receive: Receive
    send: Send
    link: Link
    task: asyncio.Task[None]
    why: Refusal = _ENDING

    @property
    def is_reading(self) -> bool:
        return self.scope["method"] in _READING

    def cut(self, why: Refusal) -> None:
        self.why = why
        self.task.cancel()


class Beside:
    """The register of these requests of one process."""

    def __init__(self) -> None:
        self._running: set[_Request] = set()

    def bounded(self, app: App, refuse: Refuse) -> App:
        """The application with its requests in the register; finds a request's link in its scope."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            link: Link = scope.pop(LINK)
            task: asyncio.Task[None] = asyncio.ensure_future(app(scope, receive, send))
            one = _Request(scope, receive, send, link, task)
            if await self._to_its_end(one):
                await refuse(scope, receive, send, one.why)

        return serve

    async def _to_its_end(self, one: _Request) -> bool:
        """Run a request; whether it was ended and its client is to be told."""
        self._running.add(one)
        try:
            if one.is_reading:
                one.link.when_gone(lambda: one.cut(_ENDING))
            await asyncio.wait({one.task}, timeout=DEADLINE_SECONDS)
            if not one.task.done() and not one.link.has_started:
                one.cut(_LATE)
            await asyncio.wait({one.task})
        finally:
            one.link.when_gone(None)
            one.task.cancel()
            self._running.discard(one)
        if not one.task.cancelled():
            one.task.result()
        elif not one.link.has_started:
            return not one.link.is_gone
        elif not one.link.is_gone:
            one.link.abort()
        return False

    async def end(self) -> None:
        """The router ends: what only reads and has nothing to show yet at once, the rest after a moment."""
        for one in list(self._running):
            if one.is_reading and not one.link.has_started:
                one.cut(_ENDING)
        if self._running:
            await asyncio.wait({one.task for one in self._running}, timeout=GRACE_SECONDS)
        for one in list(self._running):
            one.cut(_ENDING)
