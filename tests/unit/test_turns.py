"""Long work waits for its turn of the event loop, by a clock that the test sets."""

import asyncio
import time

import pytest

from xairouter import turns
from xairouter.domain.steps import Steps
from xairouter.turns import in_slices


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands until a work moves it."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def _work(name: str, steps: int, seconds: float, ticks: list[float], done: list[str]) -> Steps[str]:
    for _ in range(steps):
        ticks[0] += seconds
        done.append(name)
        yield
    return name


async def test_short_work_is_done_without_a_pause(ticks: list[float]):
    done: list[str] = []
    assert await in_slices(_work("a", 9, turns.SLICE_SECONDS / 10, ticks, done), "a") == "a"
    await in_slices(_work("b", 0, 1, ticks, done), "b")
    assert done == ["a"] * 9


async def test_of_many_long_works_one_runs_in_a_round_of_the_loop(ticks: list[float]):
    """An owner's one after another owner's; who else waits for the loop waits for a single step, and
    at first for one of each owner, however many works of an owner begin at once."""
    done: list[str] = []
    works = [
        asyncio.create_task(in_slices(_work("a", 5, 1, ticks, done), "a")) for _ in range(40)
    ] + [asyncio.create_task(in_slices(_work("b", 5, 1, ticks, done), "b"))]
    await asyncio.sleep(0)
    first = len(done)
    assert sorted(done) == ["a", "b"]
    rounds = 0
    while not all(work.done() for work in works):
        before = len(done)
        await asyncio.sleep(0)
        rounds += 1
        assert len(done) <= before + 1
    assert len(done) == 41 * 5
    # The lone work of the other owner is through after twice its steps, and not after forty times.
    assert max(at for at, name in enumerate(done) if name == "b") <= first + 2 * 5
    assert [work.result() for work in works] == ["a"] * 40 + ["b"]


async def test_work_that_is_given_up_holds_no_turn(ticks: list[float]):
    done: list[str] = []
    given_up = asyncio.create_task(in_slices(_work("a", 9, 1, ticks, done), "a"))
    other = asyncio.create_task(in_slices(_work("b", 3, 1, ticks, done), "b"))
    await asyncio.sleep(0)
    given_up.cancel()
    assert await other == "b"
    assert done.count("a") <= 2


async def test_what_began_as_short_work_counts_for_its_owner(ticks: list[float]):
    """Works that end within their first slice count together: what is beyond it waits."""
    done: list[str] = []
    works = [
        asyncio.create_task(in_slices(_work("a", 1, turns.SLICE_SECONDS * 0.6, ticks, done), "a"))
        for _ in range(9)
    ]
    before = 0
    while not all(work.done() for work in works):
        await asyncio.sleep(0)
        assert len(done) - before <= 2
        before = len(done)
    assert done == ["a"] * 9


async def test_who_used_little_waits_for_nobody(ticks: list[float]):
    """Neither for its own turn nor for that of an owner who has used much."""
    done: list[str] = []
    works = [asyncio.create_task(in_slices(_work("a", 9, 1, ticks, done), "a")) for _ in range(9)]
    await asyncio.sleep(0)
    for _ in range(20):
        turns.count("b", turns.FREE_SECONDS * 2)
        assert not turns.must_wait("b")
        await asyncio.sleep(0)
    assert turns.must_wait("a")
    await asyncio.gather(*works)


async def test_nothing_is_kept_of_owners_whose_turn_is_over(ticks: list[float]):
    done: list[str] = []
    for owner in ("a", "b", "c"):
        await in_slices(_work(owner, 3, 1, ticks, done), owner)
    for _ in range(4):
        await asyncio.sleep(0)
    assert asyncio.get_running_loop() not in turns.BUSY
