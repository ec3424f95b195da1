"""Fair shares of one process, by a clock that the test turns."""

import asyncio
import itertools

import pytest

from xairouter.gateway.admission import (
    LEAST_RATE,
    LOOK_SECONDS,
    STARTS_ALONE,
    Admission,
)

pytestmark = pytest.mark.usefixtures("product_times")


class Clock:
    at = 100.0

    def __call__(self) -> float:
        return self.at


def _second(admission: Admission, clock: Clock, late: float, **calls: int) -> dict[str, int]:
    """One second of calls spread evenly, each over at once: how many were admitted of whom."""
    admitted = dict.fromkeys(calls, 0)
    for _ in range(10):
        for owner, count in calls.items():
            for _ in range(count // 10):
                clock.at += LOOK_SECONDS / (sum(calls.values()) / 10)
                if admission.enter(owner):
                    admitted[owner] += 1
                    admission.leave(owner)
        admission.look(late)
    return admitted


def test_below_half_of_the_places_nobody_is_held():
    admission = Admission(100)
    assert all(admission.enter("a") for _ in range(50))


def test_an_owner_that_takes_places_leaves_shares_for_the_others():
    admission = Admission(100)
    taken = sum(admission.enter("flood") for _ in range(1000))
    assert taken == 50
    assert sum(admission.enter("b") for _ in range(1000)) == 33
    assert sum(admission.enter("c") for _ in range(5)) == 5
    for _ in range(taken):
        admission.leave("flood")
    assert admission.enter("flood")


def test_all_places_are_a_bound_for_everybody():
    admission = Admission(10)
    for owner in range(100):
        admission.enter(f"acc_{owner}")
    assert admission._total <= 10


def test_who_floods_a_late_loop_is_held_and_nobody_else():
    clock = Clock()
    admission = Admission(10_000, clock)
    first = _second(admission, clock, 0.2, flood=2000, quiet=20)
    later = _second(admission, clock, 0.2, flood=2000, quiet=20)
    much_later = _second(admission, clock, 0.2, flood=2000, quiet=20)
    assert first["quiet"] == later["quiet"] == much_later["quiet"] == 20
    assert first["flood"] > later["flood"] > much_later["flood"]
    assert much_later["flood"] < 2000 * 0.1
    assert admission.held_back == 1


def test_nobody_is_held_below_a_least_rate():
    clock = Clock()
    admission = Admission(10_000, clock)
    for _ in range(30):
        last = _second(admission, clock, 1.0, flood=2000, quiet=20)
    assert LEAST_RATE * 0.5 <= last["flood"] <= LEAST_RATE * 1.5


def test_a_loop_in_time_lets_everybody_go_again():
    clock = Clock()
    admission = Admission(10_000, clock)
    for _ in range(3):
        _second(admission, clock, 0.2, flood=2000, quiet=20)
    for _ in range(90):
        last = _second(admission, clock, 0.0, flood=200, quiet=20)
    assert last == {"flood": 200, "quiet": 20}
    assert admission.held_back == 0


def test_an_owner_alone_is_never_held_to_a_rate():
    clock = Clock()
    admission = Admission(10_000, clock)
    for _ in range(5):
        assert _second(admission, clock, 1.0, flood=2000) == {"flood": 2000}


def test_equals_are_not_held():
    clock = Clock()
    admission = Admission(10_000, clock)
    for _ in range(5):
        assert _second(admission, clock, 1.0, a=500, b=500) == {"a": 500, "b": 500}


async def _begun(admission: Admission, *owners: str) -> tuple[list[str], list[asyncio.Task[None]]]:
    """The order in which calls begin that come together; and their tasks."""
    order: list[str] = []

    async def call(owner: str) -> None:
        await admission.turn(owner)
        order.append(owner)

    tasks = [asyncio.create_task(call(owner)) for owner in owners]
    return order, tasks


async def test_a_call_waits_for_its_own_owners_calls_alone():
    admission = Admission(10_000)
    order, tasks = await _begun(admission, *["flood"] * 300, "quiet", "quiet")
    await asyncio.gather(*tasks)
    assert order.count("flood") == 300
    first, second = (place for place, owner in enumerate(order) if owner == "quiet")
    assert first <= STARTS_ALONE + 1
    assert second <= first + 2


async def test_few_calls_begin_at_once():
    order, tasks = await _begun(Admission(10_000), *["a"] * STARTS_ALONE)
    await asyncio.sleep(0)
    assert len(order) == STARTS_ALONE
    await asyncio.gather(*tasks)


async def test_a_turn_of_the_loop_begins_few_calls_of_many():
    order, tasks = await _begun(Admission(10_000), "b", *["a"] * 500)
    seen = []
    while len(order) < 501:
        await asyncio.sleep(0)
        seen.append(len(order))
    steps = [after - before for before, after in itertools.pairwise(seen)]
    assert max(steps) <= 2
    await asyncio.gather(*tasks)


async def test_a_call_that_is_cut_while_it_waits_takes_nobodys_turn():
    admission = Admission(10_000)
    order, tasks = await _begun(admission, *["a"] * 300)
    await asyncio.sleep(0)
    for task in tasks[STARTS_ALONE:-1]:
        task.cancel()
    await asyncio.wait(tasks)
    assert len(order) == STARTS_ALONE + 1
