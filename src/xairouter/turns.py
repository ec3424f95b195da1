"""Turns of the event loop, and places for work that takes longer: who waits for one, owner by owner."""

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
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
