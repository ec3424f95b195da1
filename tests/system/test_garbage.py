"""A call leaves nothing behind: nothing that only the garbage collector would find, and nothing that
stays for ever."""

import asyncio
import gc
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests.rig import Rig

Way = Callable[[Rig], Awaitable[None]]


async def _whole(rig: Rig) -> None:
    assert (await rig.chat()).status == 200


async def _streamed(rig: Rig) -> None:
    assert (await rig.chat(stream=True)).status == 200


async def _refused(rig: Rig) -> None:
    assert (await rig.chat(key="xai-nothing")).status == 401
    assert (await rig.ask("GET", "/nowhere")).status == 404
    assert (await rig.chat(model=7)).status == 400  # type: ignore[arg-type]


async def _failed(rig: Rig) -> None:
    assert (await rig.chat(model="fault-400")).status == 400
    assert (await rig.chat(model="fault-500")).status >= 500


async def _broken_off(rig: Rig) -> None:
    body = json.dumps({"model": "demo-large", "stream": True, "messages": []}).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {rig.key}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(head.encode() + body)
    await reader.read(100)
    writer.transport.abort()
    while len(rig.house.running):
        await asyncio.sleep(0.01)


@pytest.fixture
def kept() -> Iterator[None]:
    """Whatever the collector finds is kept to be looked at."""
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


WAYS = (_whole, _streamed, _refused, _failed, _broken_off)


@pytest.mark.parametrize("way", WAYS)
async def test_a_call_is_freed_when_it_ends(rig: Rig, way: Way, kept: None):
    """Circles would stay in memory until the collector comes, and have it come in later calls."""
    await rig.add_provider_key()
    await way(rig)
    await asyncio.sleep(0.05)
    gc.collect()
    gc.disable()
    await way(rig)
    await asyncio.sleep(0.05)
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    ours = Counter(
        type(one).__name__ for one in gc.garbage if type(one).__module__.startswith("xairouter.")
    )
    assert not ours


async def _alive(rig: Rig) -> Counter[str]:
    """How many objects there are of each of our classes, and of those that calls are made of."""
    await rig.records()
    gc.collect()
    names = (
        f"{type(one).__module__}.{type(one).__name__}"
        for one in gc.get_objects()
        if str(type(one).__module__).startswith(("xairouter.", "uvicorn.", "_asyncio"))
    )
    return Counter(names)


async def test_calls_leave_no_object_behind(rig: Rig):
    """A leak check by counting: after so many calls of every kind there is not one object more of any
    class than before them, but for what is bounded and filled up by the first ones."""
    await rig.add_provider_key()
    count = 12
    for way in WAYS * 3:
        await way(rig)
    before = await _alive(rig)
    for way in WAYS * count:
        await way(rig)
    after = await _alive(rig)
    grown = {
        name: n - before[name]
        for name, n in after.items()
        # The stand-in remembers what it was asked, for tests.
        if n - before[name] >= count and not name.startswith("xairouter.standin.")
    }
    assert not grown
    assert after
