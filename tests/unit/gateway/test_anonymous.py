"""Requests of nobody known have one share of the event loop's turns, counted in turns."""

import asyncio
import itertools

import pytest

from xairouter.gateway.admission import Admission
from xairouter.gateway.anonymous import BESIDE_CALLS, AnonymousTurns


async def _turns_of(turns: AnonymousTurns, *addresses: str) -> dict[str, list[int]]:
    """In which turns of the loop the requests of each address begin that come together."""
    began: dict[str, list[int]] = {address: [] for address in addresses}
    now = 0

    async def request(address: str) -> None:
        await turns.turn(address)
        began[address].append(now)

    tasks = [asyncio.create_task(request(address)) for address in addresses]
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        now += 1
    return began


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside calls"])
async def test_one_begins_in_a_turn_and_fewer_beside_calls(beside: bool):
    began = await _turns_of(AnonymousTurns(lambda: beside), *["10.0.0.1"] * 50)
    gap = BESIDE_CALLS if beside else 1
    at = began["10.0.0.1"]
    assert len(at) == 50
    assert all(after - before >= gap for before, after in itertools.pairwise(at))
    assert at[-1] <= 50 * gap + 5


async def test_addresses_take_turns():
    few = ["10.0.0.2", "2001:db8::1"]
    began = await _turns_of(AnonymousTurns(), *["10.0.0.1"] * 300, *few)
    assert [len(began[address]) for address in few] == [1, 1]
    assert all(began[address][0] <= 6 for address in few)


async def test_all_addresses_of_one_network_wait_for_each_other():
    many = [f"2001:db8::{number:x}" for number in range(1, 200)]
    began = await _turns_of(AnonymousTurns(), *many, "10.0.0.2")
    assert began["10.0.0.2"][0] <= 5


async def test_one_that_is_cut_while_it_waits_takes_nobodys_turn():
    turns = AnonymousTurns()
    tasks = [asyncio.create_task(turns.turn("10.0.0.1")) for _ in range(200)]
    await asyncio.sleep(0)
    for task in tasks[1:-1]:
        task.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert tasks[-1].done()
    await asyncio.wait(tasks)


async def test_nobody_takes_the_turns_of_probes_or_of_owners():
    admission = Admission(10_000)
    assert admission.enter("a")
    waiting = [asyncio.create_task(admission.anonymous.turn("10.0.0.1")) for _ in range(500)]
    for _ in range(3):
        await asyncio.sleep(0)
    await asyncio.wait_for(admission.turn("a"), 60)
    await asyncio.wait_for(admission.probes.turn("10.0.0.1"), 60)
    begun = sum(task.done() for task in waiting)
    assert 1 <= begun <= 3
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
