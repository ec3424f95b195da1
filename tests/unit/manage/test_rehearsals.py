"""Rehearsals wait in one queue, with one place for each owner."""

import asyncio

import pytest

from xairouter.errors import ManageError
from xairouter.manage.rehearsals import Rehearsals


async def test_one_runs_at_a_time_and_an_owner_has_one_place():
    rehearsals, running, most, order = Rehearsals(), 0, 0, list[str]()
    go_on = asyncio.Event()

    async def rehearse(owner: str) -> None:
        nonlocal running, most
        async with rehearsals.turn(owner):
            running += 1
            most = max(most, running)
            order.append(owner)
            await go_on.wait()
            running -= 1

    tasks = [asyncio.create_task(rehearse(owner)) for owner in ("a", "a", "b", "b", "c")]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert order == ["a"]
    go_on.set()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert (most, order) == (1, ["a", "b", "c"])
    refused = [one for one in ended if isinstance(one, ManageError)]
    assert [one.code for one in refused] == ["conflict", "conflict"]
    await rehearse("a")


async def test_who_leaves_the_queue_gives_the_place_back():
    rehearsals = Rehearsals()
    async with rehearsals.turn("a"):
        waiting = asyncio.create_task(_pass(rehearsals, "b"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(ManageError):
            await _pass(rehearsals, "a")
    await _pass(rehearsals, "a")
    await _pass(rehearsals, "b")


async def _pass(rehearsals: Rehearsals, owner: str) -> None:
    async with rehearsals.turn(owner):
        pass
