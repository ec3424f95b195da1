"""A call leaves nothing behind that only the garbage collector would find."""

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


@pytest.mark.parametrize("way", [_whole, _streamed, _refused, _failed, _broken_off])
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
