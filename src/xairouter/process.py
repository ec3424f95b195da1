"""The process itself: what others may see of it, when it ends, and when its garbage is looked for."""

import asyncio
import contextlib
import gc
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable

YOUNG_OBJECTS = 5000
"""So many new objects have the collector look at them; Python's own number is 700."""
_NEVER = 1_000_000
LOOK_SECONDS = 10.0
FIRST_SECONDS = 30.0
EVERY_SECONDS = 600.0
WHOLE_SECONDS = 3600.0


def end_with_parent() -> None:
    """On Linux: get SIGTERM when the process that started this one ends, however it does."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1  # linux/prctl.h
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM, 0, 0, 0)


def harden_process() -> None:
    """No core dumps: memory holds opened vaults. On Linux also forbids other users' tracing."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        import ctypes

        pr_set_dumpable = 4  # linux/prctl.h
        ctypes.CDLL(None).prctl(pr_set_dumpable, 0, 0, 0, 0)


class Garbage:
    """When objects that refer to each other in a circle are looked for.

    By itself Python walks over all living objects now and then, in the middle of a call, and every
    other call waits: for a tenth of a second in a process that has served for a while. Calls make no
    circles (tests/system/test_garbage.py), the rest few. So only young objects are looked at by
    themselves; all of them at set times, and what stands then is set aside (``gc.freeze``), which
    makes the next time short. What was set aside is looked at again in a moment without calls, once
    an hour.
    """

    def __init__(
        self, running: Callable[[], int], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._running = running
        self._now = monotonic
        self._due = self._whole_due = 0.0

    def begin(self) -> None:
        """What the start made stays."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS, 10, _NEVER)
        # The first calls make more that stays: statements, models, pages.
        self._due = self._now() + FIRST_SECONDS
        self._whole_due = self._now() + WHOLE_SECONDS

    def look(self) -> bool:
        """Look for garbage if it is time to; whether it was."""
        now = self._now()
        if now < self._due:
            return False
        if now >= self._whole_due and not self._running():
            gc.unfreeze()
            self._whole_due = now + WHOLE_SECONDS
        gc.collect()
        gc.freeze()
        self._due = now + EVERY_SECONDS
        return True

    @contextlib.asynccontextmanager
    async def looked_for(self) -> AsyncIterator[None]:
        """From here on, as long as this lasts."""
        self.begin()
        looking = asyncio.create_task(self._run())
        try:
            yield
        finally:
            looking.cancel()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()
