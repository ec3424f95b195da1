"""Turns of the event loop: who waits for one, and long work that runs a little in each."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Generator
from typing import TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

SLICE_SECONDS = 0.002
"""So long runs a long work in a round of the event loop, and its last step."""


class RoundRobin:
    """Those who wait, by whose they are: one owner's (or address's) goes after another's."""

    def __init__(self) -> None:
        self.queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        """Empty where nobody waits."""

    async def wait(self, whose: str) -> None:
        """Wait until ``let_next_go`` comes to this one."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.queues.setdefault(whose, deque()).append(waiter)
        await waiter

    def let_next_go(self) -> bool:
        """Let the one go whose turn it is; False if nobody waits."""
        while self.queues:
            whose, queue = next(iter(self.queues.items()))
            waiter = queue.popleft()
            self.queues.move_to_end(whose)
            if not queue:
                del self.queues[whose]
            if not waiter.done():  # Else it was cancelled meanwhile.
                waiter.set_result(None)
                return True
        return False


class _LongWork:
    """The long works of one event loop: in each of its rounds one of them runs for
    ``SLICE_SECONDS``."""

    def __init__(self) -> None:
        self._waiting = RoundRobin()
        self._is_turning = False

    @property
    def is_free(self) -> bool:
        """Whether nobody waits."""
        return not self._waiting.queues

    async def turn(self, whose: str) -> None:
        """Wait for a turn."""
        if not self._is_turning:
            self._is_turning = True
            asyncio.get_running_loop().call_soon(self._next_turn)
        await self._waiting.wait(whose)

    def _next_turn(self) -> None:
        self._is_turning = self._waiting.let_next_go()
        if self._is_turning:
            asyncio.get_running_loop().call_soon(self._next_turn)


_LONG_WORK: WeakKeyDictionary[asyncio.AbstractEventLoop, _LongWork] = WeakKeyDictionary()


async def in_slices(steps: Generator[None, None, T], whose: str = "") -> T:
    """Long work in short steps. Whenever it has run for ``SLICE_SECONDS`` it waits for its next turn:
    of all long works one runs in a round of the event loop. Returns what the steps return at their
    end."""
    until = time.perf_counter() + SLICE_SECONDS
    works: _LongWork | None = None
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        works = works or _LONG_WORK.setdefault(asyncio.get_running_loop(), _LongWork())
        if works.is_free and time.perf_counter() < until:
            continue
        await works.turn(whose)
        until = time.perf_counter() + SLICE_SECONDS
