"""Whose turn it is to read much of the database: so many at a time, so many of them an owner's, an
owner's after another's. Who waits holds no connection, and calls have the others."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from xairouter.errors import ErrorCode, ManageError
from xairouter.turns import RoundRobin

MOST, MOST_OF_OWNER = 4, 2
"""Reads at the same time: half of the connections, and half of these."""
MOST_WAITING = 50
"""Of one owner; further ones are to come again."""


class LongReads:
    """The reads of one process. All methods belong to the event loop's thread."""

    def __init__(self, most: int = MOST, most_of_owner: int = MOST_OF_OWNER) -> None:
        self._most = most
        self._most_of_owner = most_of_owner
        self._running: Counter[str] = Counter()
        self._waiting = RoundRobin()

    @asynccontextmanager
    async def turn(self, owner_id: str) -> AsyncIterator[None]:
        """Wait for the turn; raises ManageError ``rate_limited`` where very many of the owner wait."""
        waiting = sum(not one.done() for one in self._waiting.queues.get(owner_id, ()))
        if waiting >= MOST_WAITING:
            raise ManageError(
                ErrorCode.RATE_LIMITED,
                "Too many reads of this owner wait for the database; ask again in a moment.",
                retry_after=1,
            )
        turn = self._waiting.join(owner_id)
        self._let_go()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # It came in the same moment.
                self._leave(owner_id)
            raise
        try:
            yield
        finally:
            self._leave(owner_id)

    def _leave(self, owner_id: str) -> None:
        self._running[owner_id] -= 1
        if not self._running[owner_id]:
            del self._running[owner_id]
        self._let_go()

    def _let_go(self) -> None:
        """Let as many go as may, the next one of another owner first."""
        while self._running.total() < self._most and self._let_next_go():
            pass

    def _let_next_go(self) -> bool:
        for owner_id in list(self._waiting.queues):
            if self._running[owner_id] >= self._most_of_owner:
                continue
            self._waiting.queues.move_to_end(owner_id)
            if self._waiting.let_go(owner_id):
                self._running[owner_id] += 1
                return True
        return False
