"""Verifications of hash chains under way in this process: in the background, one of an owner at a time
and two in all, each told to whoever asks for it."""

import asyncio
from dataclasses import dataclass

from xairouter.errors import ErrorCode, ManageError
from xairouter.manage.reads import LongReads
from xairouter.manage.verifying import Checkpoint, Report, verify
from xairouter.storage.chain import Point
from xairouter.storage.database import Database

WAIT_SECONDS = 10.0
"""So long a request waits for the end; then it is told how far the verification has come."""
KEPT_SECONDS = 600.0
"""So long a result is kept for whoever asked for it and was told to ask again."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What to verify: a chain from a point on (None: from its beginning), against a checkpoint if one
    is given."""

    owner_id: str
    start: Point | None = None
    checkpoint: Checkpoint | None = None


@dataclass(slots=True)
class _UnderWay:
    report: Report
    task: asyncio.Task[Report]
    ended_at: float = 0.0


MOST_AT_ONCE = 2
MOST_OF_OWNER = 4
"""Verifications of one owner that are under way or wait: of the whole chain, from where it was verified
before, against checkpoints."""
AGAIN_SECONDS = 10


class Audits:
    """The verifications of one process."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, Checkpoint | None, bool], _UnderWay] = {}
        self._turns = LongReads(MOST_AT_ONCE, most_of_owner=1)

    async def report(self, database: Database, asked: Asked) -> Report:
        """The report of the verification that is under way, of a new one if none is: whole if it ends
        within a moment, otherwise as far as it has come; the same question asked again goes on. Raises
        ManageError ``rate_limited`` where too many of the owner's are under way."""
        now = asyncio.get_running_loop().time
        for key, one in list(self._of.items()):
            if one.ended_at and now() - one.ended_at > KEPT_SECONDS:
                del self._of[key]
        key = (asked.owner_id, asked.checkpoint, asked.start is None)
        if key not in self._of:
            self._refuse_more(asked.owner_id)
            self._of[key] = self._begin(database, asked)
        one = self._of[key]
        await asyncio.wait({one.task}, timeout=WAIT_SECONDS)
        if not one.task.done():
            return one.report
        self._of.pop(key, None)
        return one.task.result()

    def _refuse_more(self, owner_id: str) -> None:
        others = [one for (owner, *_), one in self._of.items() if owner == owner_id]
        if sum(not one.task.done() for one in others) >= MOST_OF_OWNER:
            raise ManageError(
                ErrorCode.RATE_LIMITED,
                "Other verifications of this owner are under way; ask again when they have ended.",
                retry_after=AGAIN_SECONDS,
            )

    def _begin(self, database: Database, asked: Asked) -> _UnderWay:
        report = Report(asked.owner_id)

        async def walk() -> Report:
            async with self._turns.turn(asked.owner_id):
                return await verify(database, report, asked.checkpoint, asked.start)

        one = _UnderWay(report, asyncio.create_task(walk()))

        def ended(task: asyncio.Task[Report]) -> None:
            one.ended_at = task.get_loop().time()
            if not task.cancelled():
                task.exception()  # Whoever asks again is told; nobody has to.

        one.task.add_done_callback(ended)
        return one

    async def stop(self) -> None:
        """The router ends, and so do they: nothing is lost but their way so far."""
        tasks = [one.task for one in self._of.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
