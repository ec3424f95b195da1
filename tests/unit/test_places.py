"""Places are shared out among owners: who waits gets one in turn, and nobody takes all of them."""

import asyncio

from xairouter.turns import Places


async def _begun(places: Places, *names: str) -> tuple[list[str], list[asyncio.Task[None]]]:
    """Tasks that hold a place until they are cancelled, begun one after another; who has one."""
    held: list[str] = []

    async def hold(name: str) -> None:
        async with places.place(name):
            held.append(name)
            await asyncio.Event().wait()

    tasks = [asyncio.create_task(hold(name)) for name in names]
    await asyncio.sleep(0)
    return held, tasks


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
    await asyncio.sleep(0)


async def test_with_one_place_a_hundred_of_one_owner_delay_another_by_one():
    held, tasks = await _begun(Places(1, 1), *["a"] * 100, "b")
    assert held == ["a"]
    await _end(tasks[0])
    assert held == ["a", "b"]
    await _end(tasks[100])
    await _end(tasks[1])
    assert held == ["a", "b", "a", "a"]
    for task in reversed(tasks):
        await _end(task)
    assert held.count("a") == 3, "whoever is cancelled while it waits gets no place"


async def test_an_owner_holds_as_many_places_as_one_may_and_no_more():
    held, tasks = await _begun(Places(10, 2), *"aaaabb")
    assert held == ["a", "a", "b", "b"]
    await _end(tasks[0])
    assert held == ["a", "a", "b", "b", "a"]
    for task in tasks:
        await _end(task)


async def test_when_the_common_places_are_taken_one_is_for_who_has_none():
    places = Places(6, 4, common=4)
    held, tasks = await _begun(places, *"aaaaaabbcc")
    assert held == ["a"] * 4 + ["b", "c"]
    await _end(tasks[0])  # One of a's: five are taken, and all three have some.
    assert held == ["a"] * 4 + ["b", "c"]
    await _end(tasks[1])
    await _end(tasks[2])  # Three are taken now, a place is common again.
    assert len(held) == 7
    for task in tasks:
        await _end(task)


async def test_a_place_that_comes_to_one_who_was_just_cancelled_goes_on_to_the_next():
    places = Places(1, 1)
    held, tasks = await _begun(places, "a", "b", "c")
    tasks[0].cancel()
    await asyncio.sleep(0)  # Its place has gone to b, which has not run since.
    tasks[1].cancel()
    await asyncio.wait(tasks[:2])
    await asyncio.sleep(0)
    assert held == ["a", "c"]
    await _end(tasks[2])
    async with asyncio.timeout(60), places.place("d"):
        pass
