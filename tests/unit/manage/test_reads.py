"""Reads of much of the database: so many at a time, an owner's after another's."""

import asyncio
from collections import Counter

import pytest

from xairouter.errors import ManageError
from xairouter.manage.reads import MOST, MOST_OF_OWNER, MOST_WAITING, LongReads


class Reading:
    """Reads that go on until they are told to end, and how many there are."""

    def __init__(self) -> None:
        self.reads = LongReads()
        self.running: Counter[str] = Counter()
        self.order: list[str] = []
        self.ends: dict[str, list[asyncio.Event]] = {}

    def begin(self, owner: str) -> asyncio.Task[None]:
        return asyncio.create_task(self._read(owner))

    async def _read(self, owner: str) -> None:
        end = asyncio.Event()
        async with self.reads.turn(owner):
            self.order.append(owner)
            self.running[owner] += 1
            self.ends.setdefault(owner, []).append(end)
            assert self.running.total() <= MOST
            assert self.running[owner] <= MOST_OF_OWNER
            try:
                await end.wait()
            finally:
                self.running[owner] -= 1

    async def end(self, owner: str) -> None:
        """End the first one of an owner."""
        self.ends[owner].pop(0).set()
        await _settled()


async def _settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_owner_has_a_share_and_the_others_the_rest():
    reading = Reading()
    tasks = [reading.begin(owner) for owner in ("a", "a", "a", "a", "b", "c", "c")]
    await _settled()
    assert reading.running == {"a": 2, "b": 1, "c": 1}
    await reading.end("a")
    assert reading.running == {"a": 2, "b": 1, "c": 1}
    await reading.end("b")
    assert reading.running == {"a": 2, "b": 0, "c": 2}
    while sum(map(len, reading.ends.values())):
        for owner in list(reading.ends):
            if reading.ends[owner]:
                await reading.end(owner)
    await asyncio.gather(*tasks)
    assert reading.order.count("a") == 4


async def test_who_leaves_gives_the_place_back_whenever_that_is():
    reading = Reading()
    running = [reading.begin("a") for _ in range(2)]
    waiting = [reading.begin("a") for _ in range(3)]
    await _settled()
    waiting[0].cancel()
    await _settled()
    # Its turn comes in the same moment in which it leaves.
    reading.ends["a"].pop(0).set()
    await asyncio.sleep(0)
    waiting[1].cancel()
    await _settled()
    running[1].cancel()
    await _settled()
    reading.begin("a")
    await _settled()
    assert reading.running["a"] == 2
    assert await asyncio.gather(*waiting[:2], return_exceptions=True)
    for end in reading.ends["a"]:
        end.set()
    await _settled()
    assert reading.running.total() == 0
    assert not reading.reads._running


async def test_of_very_many_that_wait_further_ones_are_to_come_again():
    reading = Reading()
    tasks = [reading.begin("a") for _ in range(MOST_OF_OWNER + MOST_WAITING)]
    await _settled()
    with pytest.raises(ManageError) as refused:
        await reading._read("a")
    assert (refused.value.code, refused.value.retry_after) == ("rate_limited", 1)
    other = reading.begin("b")
    await _settled()
    assert reading.running["b"] == 1
    for task in (*tasks, other):
        task.cancel()
    await asyncio.gather(*tasks, other, return_exceptions=True)
    assert not reading.reads._running
