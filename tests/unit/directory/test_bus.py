"""The bus ends when it is told to."""

import asyncio
import contextlib

import pytest

from xairouter.directory import bus
from xairouter.directory.bus import ValkeyBus


async def test_the_bus_ends_although_an_order_to_stop_is_lost(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bus, "RETRY_SECONDS", 0.01)
    made = ValkeyBus("valkey://127.0.0.1:1/0", "inst_a")
    hears = asyncio.Event()

    async def hear() -> None:
        hears.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    monkeypatch.setattr(made, "_hear", hear)
    stop = asyncio.Event()
    running = asyncio.create_task(made.run(stop))
    await hears.wait()
    stop.set()
    async with asyncio.timeout(20):
        await running
    await made.close()
