"""What calls used, on its way to Valkey: settling never waits, what is not taken is sent again, and the
server counts a call once."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from xairouter.accounting.counts import Counts
from xairouter.counters.interface import Held
from xairouter.counters.line import Line
from xairouter.counters.named import tag_of

SETTLE_SECONDS = 0.005
_UNKNOWN = 2
"""The server's answer to a call of which it knows nothing: it has lost its data since."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A call that has ended. ``further`` are counters that it concerns beside those that it reserved
    something of; ``held`` is None of a call of another process."""

    owner_id: str
    call_id: str
    used: Counts
    further: tuple[str, ...] = ()
    held: Held | None = None
    is_late: bool = False

    @property
    def arguments(self) -> list[Any]:
        """The script's."""
        used, late = self.used, int(self.is_late)
        return [self.call_id, used.requests, used.tokens, used.nano, late, *self.further]


class Settlements:
    """``concerned`` tells all counters of a call, as scripts take them; ``forget`` has an owner's
    counters begin anew."""

    def __init__(
        self,
        line: Line,
        concerned: Callable[[Held], list[str]],
        forget: Callable[[str], None],
    ) -> None:
        self._line = line
        self._concerned = concerned
        self._forget = forget
        self._queue: list[Settled] = []
        self._due: asyncio.TimerHandle | None = None

    def add(self, one: Settled) -> None:
        """Settle in a moment: mostly another call is on its way to the server by then."""
        self._queue.append(one)
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(SETTLE_SECONDS, self.send)

    def send(self) -> "list[asyncio.Future[Any]]":
        """What has ended takes its place in line, so that whatever is asked next finds it settled."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        sent = []
        for one in self._queue:
            answer = self._line.run("SETTLE", tag_of(one.owner_id), one.arguments)
            answer.add_done_callback(partial(self._answered, one))
            sent.append(answer)
        self._queue = []
        return sent

    async def finish(self) -> None:
        """Wait until all is counted; raises ValkeyAwayError where it is not."""
        while self._queue:
            for answer in self.send():
                await answer

    def _answered(self, one: Settled, answer: "asyncio.Future[Any]") -> None:
        if answer.cancelled() or answer.exception() is not None:
            self._queue.append(one)
        elif answer.result() != _UNKNOWN:
            return
        elif one.held is None:
            # Its record is stored; whether the counters began with it is not known.
            self._forget(one.owner_id)
        elif one.used != Counts():
            self.add(replace(one, further=tuple(self._concerned(one.held)), is_late=True))
