"""Works under way in the background, each by a name, so that nothing is begun twice and nobody has to
wait for the slowest."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable

from xairouter.observe import log

STOP_SECONDS = 2.0
"""So long a work may go on that is told to end."""


class UnderWay:
    """What one loop has begun; ``event`` is logged where a work fails."""

    def __init__(self, event: str) -> None:
        self._event = event
        self._tasks: dict[str, asyncio.Task[int]] = {}

    @property
    def names(self) -> Iterable[str]:
        """What is under way."""
        return self._tasks.keys()

    def begin(self, name: str, work: Callable[[], Coroutine[None, None, int]]) -> None:
        """Begin a work, unless it is under way."""
        if name not in self._tasks:
            self._tasks[name] = task = asyncio.create_task(work())
            task.add_done_callback(lambda task: self._ended(name, task))

    async def results(self) -> int:
        """Wait for all that is under way now; the sum of what the works return."""
        found = await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        return sum(one for one in found if isinstance(one, int))

    async def stop(self) -> None:
        """Let the works end, and cancel those that do not."""
        if not self._tasks:
            return
        tasks = list(self._tasks.values())
        _, late = await asyncio.wait(tasks, timeout=STOP_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, name: str, task: asyncio.Task[int]) -> None:
        del self._tasks[name]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.warning(self._event, reason=str(error))
