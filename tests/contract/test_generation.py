"""A Valkey that loses its data, or comes back with older ones: calls under way are counted anew, and
what ended meanwhile counts, once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from tests.contract.test_counters import NUMBERS, OWNER, UTC, Clock, call, demand
from tests.servers import start_valkey
from xairouter.accounting.counts import Counts
from xairouter.clock import now_ms
from xairouter.counters.interface import Exceeded, Held, Past
from xairouter.counters.valkey import ValkeyCounters
from xairouter.policy.limits import Key

ASKED = [demand("rpd", 10), demand("total", 100, 6), demand("concurrency", 9)]


class _Records:
    """What is stored of calls, by the name of the limit that counts it."""

    def __init__(self) -> None:
        self.calls: dict[str, Counts] = {}
        self.on_read: Any = None

    async def __call__(
        self, owner: str, keys: Sequence[Key], now: int, zone: Any, without: frozenset[str]
    ) -> dict[Key, Past]:
        if self.on_read is not None:
            await self.on_read()
        known = [used for name, used in self.calls.items() if name not in without]
        return {
            key: Past([(now, one.requests if key[2] == "rpd" else one.nano) for one in known])
            for key in keys
        }


@pytest.fixture
async def server() -> AsyncIterator[Any]:
    started = start_valkey()
    OWNER[0] = f"acc_{next(NUMBERS)}"
    yield started
    started.terminate()


def _counters(server: Any, records: _Records) -> ValkeyCounters:
    return ValkeyCounters(f"valkey://127.0.0.1:{server.port}/0", records)


async def _reserve(counters: ValkeyCounters) -> Held:
    held = await counters.reserve(call(Clock(now_ms())), ASKED)
    assert isinstance(held, Held)
    return held


async def _lose(server: Any, counters: ValkeyCounters, way: str) -> None:
    if way == "flush":
        await counters._client.flushall()
    else:
        port = server.port
        server.terminate()
        server._desired_port = port
        await asyncio.to_thread(server.start, 60)


@pytest.mark.parametrize("way", ["flush", "restart"])
async def test_calls_under_way_of_every_instance_count_after_a_loss(server: Any, way: str):
    records = _Records()
    both = [_counters(server, records) for _ in range(2)]
    held = [(one, await _reserve(one)) for one in both for _ in range(3)]
    await _lose(server, both[0], way)
    # Each looks by itself, twice a second.
    looking = [asyncio.create_task(one.is_there()) for one in both]
    assert await both[1].used(OWNER[0], ASKED, UTC) == [6, 36, 6]
    assert await asyncio.gather(*looking) == [True, True]
    for one, mine in held[:4]:
        records.calls[mine.call.call_id] = Counts(1, 0, 9)
        one.settle(mine, Counts(1, 0, 9))
    for one in both:
        await one._settlements.finish()
    assert await both[0].used(OWNER[0], ASKED, UTC) == [6, 4 * 9 + 2 * 6, 2]
    for _ in range(4):
        await _reserve(both[1])
    assert isinstance(await both[0].reserve(call(Clock(now_ms())), ASKED), Exceeded)
    for one in both:
        await one.close()


@pytest.mark.parametrize("is_stored", [False, True], ids=["before its record", "with its record"])
async def test_a_call_that_ends_unknown_to_the_server_counts_once(server: Any, is_stored: bool):
    records = _Records()
    ends, other = _counters(server, records), _counters(server, records)
    held = await _reserve(ends)
    await other._client.flushall()
    if is_stored:
        records.calls[held.call.call_id] = Counts(1, 0, 9)
    # Counters begin anew before the instance of the call has looked.
    del ends._running[held.call.call_id]
    assert await other.used(OWNER[0], ASKED, UTC) == ([1, 9, 0] if is_stored else [0, 0, 0])
    ends._running[held.call.call_id] = held
    ends.settle(held, Counts(1, 0, 9))
    await ends._settlements.finish()
    for _ in range(2):
        assert await other.used(OWNER[0], ASKED, UTC) == [1, 9, 0]
        records.calls[held.call.call_id] = Counts(1, 0, 9)
        await other.begin_anew(OWNER[0])
    for one in (ends, other):
        await one.close()


async def test_a_call_that_ends_while_its_own_counters_are_read_counts_once(server: Any):
    records = _Records()
    counters = _counters(server, records)
    held = await _reserve(counters)
    await counters.begin_anew(OWNER[0])

    async def ends() -> None:
        records.on_read = None
        records.calls[held.call.call_id] = Counts(1, 0, 9)
        counters.settle(held, Counts(1, 0, 9))
        await counters._settlements.finish()

    records.on_read = ends
    assert await counters.used(OWNER[0], ASKED, UTC) == [1, 9, 0]
    await counters.close()


async def test_a_dead_instance_s_call_of_which_nothing_is_known_has_counters_begin_anew(
    server: Any,
):
    records = _Records()
    counters = _counters(server, records)
    assert await counters.used(OWNER[0], ASKED, UTC) == [0, 0, 0]
    records.calls["call_dead"] = Counts(1, 0, 9)
    counters.recover(OWNER[0], "call_dead", Counts(1, 0, 9))
    await counters._settlements.finish()
    await asyncio.sleep(0)
    assert await counters.used(OWNER[0], ASKED, UTC) == [1, 9, 0]
    await counters.close()


async def test_a_first_look_waits_for_the_others_once_and_not_again(
    server: Any, monkeypatch: pytest.MonkeyPatch
):
    counters = _counters(server, _Records())
    look, settled = counters._look, list[bool]()

    async def looked() -> bool:
        settled.append(await look())
        return settled[-1]

    monkeypatch.setattr(counters, "_look", looked)
    assert not await counters._look()
    await _reserve(counters)
    assert settled.count(True) == 1
    settled.clear()
    OWNER[0] = f"acc_{next(NUMBERS)}"
    await _reserve(counters)
    assert settled == [True], "it waits for nothing"
    await counters.close()
