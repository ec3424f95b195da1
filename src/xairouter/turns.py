"""Turns of the event loop, and places for work that takes longer: who waits for one, owner by owner.

What an owner's calls make the loop do for long is counted as that owner's, however many connections
it comes from: an owner whose works have run for ``SLICE_SECONDS`` waits for its turn with all of them,
and in a round of the loop one owner has its turn. So a call of somebody else waits in each of its rounds
for one slice of those who wait, and at most for the first slice of each who does not yet.
"""

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")

SLICE_SECONDS = 0.002
"""So long an owner's long works run between two of its turns, and their last step."""
FREE_SECONDS = 0.0002
"""A step that takes no longer counts for nothing. Nearly all do."""


class RoundRobin:
    """Those who wait, by whose they are: one owner's (or address's) goes after another's."""

    def __init__(self) -> None:
        self.queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        """Empty where nobody waits."""

    async def wait(self, whose: str) -> None:
        """Wait until ``let_next_go`` comes to this one."""
        await self.join(whose)

    def join(self, whose: str) -> asyncio.Future[None]:
        """What to await for that."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.queues.setdefault(whose, deque()).append(waiter)
        return waiter

    def let_next_go(self) -> bool:
        """Let the one go whose turn it is; False if nobody waits."""
        while self.queues:
            whose = next(iter(self.queues))
            self.queues.move_to_end(whose)
            if self.let_go(whose):
                return True
        return False

    def let_go(self, whose: str) -> bool:
        """Let the first of an owner's go; False if none waits."""
        queue = self.queues.get(whose, ())
        while queue:
            waiter = queue.popleft()
            if not queue:
                del self.queues[whose]
            if not waiter.done():  # Else it was cancelled meanwhile.
                waiter.set_result(None)
                return True
        return False


class Places:
    """Places for work of many owners at once: ``most`` in all, ``each`` for one owner.

    Of those who wait, one owner's goes after another's, and whoever just had a place comes last.
    While ``common`` or more are taken, an owner gets a place only if it has none, so that a few
    owners whose work does not end leave something to the others.
    """

    def __init__(self, most: int, each: int, common: int | None = None) -> None:
        self._most = most
        self._each = each
        self._common = most if common is None else common
        self._held: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def place(self, whose: str) -> AsyncIterator[None]:
        """A place from now on until the end of the block."""
        await self.take(whose)
        try:
            yield
        finally:
            self.give_back(whose)

    async def take(self, whose: str) -> None:
        """Wait for a place, which is held until ``give_back``."""
        if self._may_have(whose):
            self._held[whose] += 1
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(whose, deque()).append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():  # It had its place already.
                self.give_back(whose)
            raise

    def give_back(self, whose: str) -> None:
        """A place of this owner is free again."""
        self._held[whose] -= 1
        if not self._held[whose]:
            del self._held[whose]
        if whose in self._waiting:
            self._waiting.move_to_end(whose)
        while self._let_next_go():
            pass

    def _may_have(self, whose: str) -> bool:
        taken, own = self._held.total(), self._held.get(whose, 0)
        return taken < self._most and own < self._each and (not own or taken < self._common)

    def _let_next_go(self) -> bool:
        """Give a place to whoever is next of those that may have one; False if there is nobody."""
        whose = next((one for one in self._waiting if self._may_have(one)), None)
        if whose is None:
            return False
        queue = self._waiting[whose]
        waiter = queue.popleft()
        self._waiting.move_to_end(whose)
        if not queue:
            del self._waiting[whose]
        if not waiter.done():  # Else it was cancelled meanwhile.
            self._held[whose] += 1
            waiter.set_result(None)
        return True


class _LoopTime:
    """The time of one event loop that owners' long works have used since each owner's last turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting = RoundRobin()
        self._used: OrderedDict[str, float] = OrderedDict()
        """By owner, in the order of their turns."""
        loop.call_soon(self._next_turn)

    def must_wait(self, whose: str) -> bool:
        return self._used.get(whose, 0.0) >= SLICE_SECONDS

    def count(self, whose: str, seconds: float) -> None:
        self._used[whose] = self._used.get(whose, 0.0) + seconds

    async def turn(self, whose: str) -> None:
        await self._waiting.wait(whose)

    def _next_turn(self) -> None:
        """Of the owner whose turn it is one work goes on; if none waits, what it used is forgotten.
        Who used little takes no turn."""
        while self._used:
            whose, used = next(iter(self._used.items()))
            if self._waiting.let_go(whose):
                # What goes on now uses this turn; others of the same owner wait for the next one.
                self._used[whose] = SLICE_SECONDS
                self._used.move_to_end(whose)
                break
            del self._used[whose]
            if used >= SLICE_SECONDS:
                break
        if self._used:
            self._loop.call_soon(self._next_turn)
        else:
            BUSY.pop(self._loop, None)


BUSY: dict[asyncio.AbstractEventLoop, _LoopTime] = {}
"""The event loops in which some owner has used time that counts; empty at nearly all times."""


def must_wait(whose: str) -> bool:
    """Whether an owner has used so much of the loop that its next work has to wait for a ``turn``."""
    used = BUSY.get(asyncio.get_running_loop())
    return used is not None and used.must_wait(whose)


def count(whose: str, seconds: float) -> None:
    """An owner's work has taken so long."""
    if seconds <= FREE_SECONDS:
        return
    loop = asyncio.get_running_loop()
    used = BUSY.get(loop)
    if used is None:
        for one in [one for one in BUSY if one.is_closed()]:
            del BUSY[one]
        used = BUSY[loop] = _LoopTime(loop)
    used.count(whose, seconds)


async def turn(whose: str) -> None:
    """Wait for the owner's turn if it has to."""
    used = BUSY.get(asyncio.get_running_loop())
    if used is not None and used.must_wait(whose):
        await used.turn(whose)


async def in_slices(steps: Generator[None, None, T], whose: str) -> T:
    """An owner's long work in short steps. Whenever the owner's works have run for ``SLICE_SECONDS``
    they wait for its next turn. Returns what the steps return at their end."""
    if BUSY:
        await turn(whose)
    began = time.perf_counter()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            count(whose, time.perf_counter() - began)
            result: T = end.value
            return result
        used = time.perf_counter() - began
        if used >= SLICE_SECONDS:
            count(whose, used)
            await turn(whose)
            began = time.perf_counter()
