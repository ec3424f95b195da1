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
    assert await in_slices(_work("a", 9, turns.SLICE_SECONDS / 10, ticks, done)) == "a"
    await in_slices(_work("b", 0, 1, ticks, done))
    assert done == ["a"] * 9


async def test_of_many_long_works_one_runs_in_a_round_of_the_loop(ticks: list[float]):
    """An owner's one after another owner's; who else waits for the loop waits for a single step."""
    done: list[str] = []
    works = [
        asyncio.create_task(in_slices(_work("a", 5, 1, ticks, done), "a")) for _ in range(40)
    ] + [asyncio.create_task(in_slices(_work("b", 5, 1, ticks, done), "b"))]
    await asyncio.sleep(0)
    first = len(done)
    assert first == 41  # Each begins with a step.
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
