"""Counters are compared with the records: what is missing is added, whatever runs meanwhile, and nothing
that is right is touched."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest

from tests.contract.test_counters import (
    DRIVERS,
    NUMBERS,
    OWNER,
    UTC,
    Clock,
    call,
    demand,
    in_valkey,
    memory,
)
from tests.rig import Rig
from tests.servers import valkey_url
from tests.system.test_limits import PRICES
from tests.waiting import until
from xairouter.accounting.counts import Counts
from xairouter.counters import comparing
from xairouter.counters.interface import Correction, Counted, Counters, Held, Past
from xairouter.counters.memory import MemoryCounters
from xairouter.counters.reconciling import Reconciler, Times
from xairouter.counters.shared import SharedCounters
from xairouter.counters.valkey import ValkeyCounters
from xairouter.errors import StorageError
from xairouter.observe import Metrics
from xairouter.policy.limits import Demand, Key
from xairouter.policy.windows import LONG, WINDOWS

NAMES = sorted(LONG)
AMOUNTS = {"requests": 1, "tokens": 60, "money": 500}
ASKED = [demand(name, 10**9, AMOUNTS[WINDOWS[name].unit]) for name in NAMES]
KEYS = [one.key for one in ASKED]


async def _never() -> None:
    """Nothing happens meanwhile."""


class World:
    """Calls, and what is recorded of them; ``happens`` is awaited wherever something may happen while
    counters and records are compared."""

    def __init__(self, clock: Clock, driver: str) -> None:
        self.clock = clock
        self.recorded: dict[str, tuple[Counted, Counts]] = {}
        self.running: list[Held] = []
        self.happens: Callable[[], Awaitable[None]] = _never
        self.extra = dict.fromkeys(NAMES, 0)
        self.is_long = False
        self.reads = 0
        self.counters: Counters = memory(clock) if driver == "memory" else in_valkey(clock, self)
        if isinstance(self.counters, MemoryCounters):
            self.counters._history = self
        self.counters.lag_seconds = 0
        self.metrics = Metrics()
        self.reconciler = self.another(self.counters)

    def another(self, counters: Counters) -> Reconciler:
        return Reconciler(counters, self, self, self.metrics, times=Times(60, 0), clock=self.clock)

    async def begin(self) -> None:
        held = await self.counters.reserve(call(self.clock), ASKED)
        assert isinstance(held, Held)
        self.running.append(held)

    def end(self, used: Counts, place: int = 0) -> None:
        held = self.running.pop(place)
        self.counters.settle(held, used)
        self.recorded[held.call.call_id] = held.call, used

    async def correct(self, place: int, after: Counts) -> None:
        counted, before = list(self.recorded.values())[place]
        self.recorded[counted.call_id] = counted, after
        await self.counters.correct(Correction(counted, tuple(KEYS), before, after))

    def said(self, name: str, without: frozenset[str] = frozenset()) -> int:
        unit = WINDOWS[name].unit
        found = self.extra[name]
        for one, used in self.recorded.values():
            if one.call_id not in without:
                amounts = {"requests": used.requests, "tokens": used.tokens, "money": used.nano}
                found += amounts[unit]
        return found

    async def used(self) -> dict[str, int]:
        """What counts, without what is reserved."""
        found = await self.counters.used(OWNER[0], ASKED, UTC)
        return {
            one.name: used - len(self.running) * one.amount
            for one, used in zip(ASKED, found, strict=True)
        }

    def records_say(self) -> dict[str, int]:
        return {name: self.said(name) for name in NAMES}

    def told(self, side: str) -> dict[str, float]:
        """What the metric says, money in nano-dollars."""
        found: dict[str, float] = {}
        for line in self.metrics.text().decode().splitlines():
            if line.startswith("xairouter_counters_difference_total") and f'side="{side}"' in line:
                unit = line.partition('unit="')[2].partition('"')[0]
                amount = float(line.rpartition(" ")[2])
                found[unit] = round(amount * 10**9) if unit == "usd" else amount
        return found

    async def compare(self) -> None:
        await self.reconciler.compare(asyncio.Event())

    # What the reconciler asks for.

    def owners(self) -> list[str]:
        return [OWNER[0]]

    async def keys_of(self, owner_id: str) -> tuple[Sequence[Key], ZoneInfo]:
        await self.happens()
        return KEYS, UTC

    async def is_short(self, owner_id: str, now_ms: int, zone: ZoneInfo) -> bool:
        return not self.is_long

    async def __call__(
        self, owner: str, keys: Sequence[Key], now: int, zone: Any, without: frozenset[str]
    ) -> Mapping[Key, Past]:
        self.reads += 1
        await self.happens()
        found = {key: Past([(self.clock.at, self.said(key[2], without))]) for key in keys}
        await self.happens()
        return found


@pytest.fixture(params=DRIVERS)
async def world(request: pytest.FixtureRequest) -> Any:
    OWNER[0] = f"acc_{next(NUMBERS)}"
    made = World(Clock(), request.param)
    yield made
    await made.counters.close()


async def _some_calls(world: World) -> None:
    for number in range(4):
        await world.begin()
        world.end(Counts(1, 40 + number, 300))
    await world.begin()


async def _lose(world: World, names: Sequence[str], amount: int) -> None:
    """What counters lack from now on that calls have used."""
    for name in names:
        await _change(world, demand(name, 0), -amount)


async def _change(world: World, one: Demand, amount: int) -> None:
    counters = world.counters
    if isinstance(counters, MemoryCounters):
        counters._counters[OWNER[0]]["acc"][one.key].usage.add(world.clock.at, amount)
    else:
        valkey = cast(ValkeyCounters, counters)
        [name] = [name for name in valkey._known[OWNER[0]]["acc"] if name.endswith(f"|{one.name}")]
        await valkey._client.hincrby(f"{{xr:{OWNER[0]}}}:c:{name}", "v", amount)


async def test_what_counters_lack_is_added_and_told(world: World):
    await _some_calls(world)
    await _lose(world, NAMES, 1)
    await _lose(world, ["day", "month", "total"], 249)
    assert await world.used() != world.records_say()
    await world.compare()
    assert await world.used() == world.records_say()
    assert world.told("below") == {"requests": 1, "tokens": 1, "usd": 3 * 250}
    assert world.told("above") == {"requests": 0, "tokens": 0, "usd": 0}
    world.reconciler = world.another(world.counters)
    await _later(world)
    assert await world.used() == world.records_say()
    assert world.told("below")["requests"] == 1


async def _later(world: World) -> None:
    """The next round: whoever compared has had its time."""
    if isinstance(world.counters, ValkeyCounters):
        await world.counters._client.delete(f"{{xr:{OWNER[0]}}}:k")
    await world.compare()


async def test_a_difference_that_is_seen_once_changes_nothing(world: World):
    """Such as a record whose call's settlement is on its way."""
    await _some_calls(world)
    before = await world.used()
    reads = iter(range(10))

    async def differs_at_first() -> None:
        world.extra = dict.fromkeys(NAMES, 7 if next(reads, 9) < 5 else 0)

    world.happens = differs_at_first
    await world.compare()
    world.happens = _never
    assert world.extra == dict.fromkeys(NAMES, 0)
    assert world.reads > 3, "it was looked at again"
    assert await world.used() == before
    assert set(world.told("below").values()) == {0}


async def test_counters_above_the_records_are_told_once_and_stay(world: World):
    await _some_calls(world)
    before = await world.used()
    world.extra = dict.fromkeys(NAMES, -1)
    await world.compare()
    await _later(world)
    assert await world.used() == before
    assert world.told("above") == {"requests": 1, "tokens": 1, "usd": 3}
    assert set(world.told("below").values()) == {0}


@pytest.mark.parametrize("seed", range(25))
async def test_right_counters_stay_whatever_happens_while_they_are_compared(
    world: World, seed: int
):
    dice = random.Random(seed)

    async def happens() -> None:
        for _ in range(dice.randrange(4)):
            match dice.randrange(3):
                case 0:
                    await world.begin()
                case 1 if world.running:
                    used = Counts(1, dice.randrange(200), dice.randrange(900))
                    world.end(
                        dice.choice([used, used, Counts()]), dice.randrange(len(world.running))
                    )
                case 2 if world.recorded:
                    place = dice.randrange(len(world.recorded))
                    _, before = list(world.recorded.values())[place]
                    after = Counts(before.requests, dice.randrange(200), dice.randrange(900))
                    await world.correct(place, after)

    await _some_calls(world)
    world.happens = happens
    for _ in range(4):
        await _later(world)
    world.happens = _never
    assert await world.used() == world.records_say()
    assert set(world.told("below").values()) == {0}
    assert set(world.told("above").values()) == {0}


@pytest.mark.parametrize("seed", range(10))
async def test_what_is_added_while_calls_end_is_never_too_much(world: World, seed: int):
    dice = random.Random(seed)

    async def happens() -> None:
        await world.begin()
        world.end(Counts(1, dice.randrange(9), dice.randrange(9)))

    await _some_calls(world)
    await _lose(world, NAMES, 1)
    await _lose(world, ["tpd", "day", "month", "total"], 99)
    world.happens = happens
    await world.compare()
    world.happens = _never
    used, said = await world.used(), world.records_say()
    assert all(used[name] <= said[name] for name in NAMES), (used, said)
    assert all(said[name] - used[name] < 60 for name in NAMES), (used, said)
    await _later(world)
    assert await world.used() == said


async def test_a_counter_of_another_period_is_not_compared(world: World):
    await _some_calls(world)
    before = await world.used()

    async def midnight() -> None:
        world.happens = _never
        world.extra.update(month=before["month"], total=before["total"])
        world.clock.at += 86_400_000
        world.recorded.clear()

    world.happens = midnight
    await world.compare()
    assert set(world.told("below").values()) | set(world.told("above").values()) == {0}


async def test_a_day_of_many_calls_is_not_read_one_by_one(world: World):
    await _some_calls(world)
    await _lose(world, NAMES, 1)
    world.is_long = True
    await world.compare()
    assert world.told("below") == {"requests": 0, "tokens": 0, "usd": 3}


async def test_records_that_cannot_be_read_are_no_difference(world: World):
    await _some_calls(world)

    async def fails() -> None:
        if world.reads:
            raise StorageError("The database is away.")

    world.reads = 0
    world.happens = fails
    await world.compare()
    assert world.reads
    assert set(world.told("below").values()) | set(world.told("above").values()) == {0}


async def test_of_several_instances_one_compares_an_owner_s_counters():
    OWNER[0] = f"acc_{next(NUMBERS)}"
    world = World(Clock(), "valkey")
    await _some_calls(world)
    other = ValkeyCounters(valkey_url(), world, world.clock, lease_ms=10**12)
    await world.compare()
    reads = world.reads
    assert reads
    await world.another(other).compare(asyncio.Event())
    assert world.reads == reads
    await _later(world)
    assert world.reads > reads
    await other.close()
    await world.counters.close()


async def test_an_owner_with_many_calls_under_way_is_left_out(monkeypatch: pytest.MonkeyPatch):
    OWNER[0] = f"acc_{next(NUMBERS)}"
    world = World(Clock(), "valkey")
    await _some_calls(world)
    await world.begin()
    assert await world.counters.standing(OWNER[0], KEYS, UTC)
    monkeypatch.setattr(comparing, "MOST_RUNNING", 1)
    assert await world.counters.standing(OWNER[0], KEYS, UTC) == {}
    await world.counters.close()


async def test_nothing_is_compared_while_limits_are_shared_out():
    OWNER[0] = f"acc_{next(NUMBERS)}"
    world = World(Clock(), "valkey")
    valkey = cast(ValkeyCounters, world.counters)
    shared = SharedCounters(valkey, world, lambda: 2, _never, shares=True)
    await _some_calls(world)
    shared._lost("It is told so.")
    before = world.reads
    await world.another(shared).compare(asyncio.Event())
    assert world.reads == before
    await shared._return()
    await world.another(shared).compare(asyncio.Event())
    assert world.reads > before
    await shared.close()


async def test_every_owner_has_its_turn(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("xairouter.counters.reconciling.MOST_OWNERS", 3)
    world = World(Clock(), "memory")
    names = [f"acc_{place}" for place in range(8)]
    monkeypatch.setattr(world, "owners", lambda: names)
    rounds = [world.reconciler._next_owners() for _ in range(3)]
    assert {one for some in rounds for one in some} == set(names)
    assert [len(some) for some in rounds] == [3, 3, 3]


async def test_a_budget_that_was_gone_for_a_while_counts_what_was_spent_meanwhile(
    rig: Rig,
):
    """Where no rule counts a call, counters are not kept up; a rule that comes back finds the old one."""
    await rig.ask("PUT", "/api/v1/prices", PRICES)
    await rig.add_provider_key()
    budget = {"budget": {"total_usd": 50}}
    made = await rig.add_account(rules=budget)
    rules = f"/api/v1/accounts/{made['account']['id']}/rules"

    async def spent() -> tuple[float, Any]:
        me = (await rig.ask("GET", "/api/v1/me", key=made["api_key"])).json()
        [budget] = [one for one in me["budgets"] if one["name"] == "total"]
        cost = sum(one["cost_usd"] for one in await rig.records(key=made["api_key"]))
        return budget["used_usd"], pytest.approx(cost)

    assert (await rig.chat(key=made["api_key"])).status == 200
    assert (await rig.ask("PUT", rules, {"budget": None})).status == 200
    for _ in range(3):
        assert (await rig.chat(key=made["api_key"])).status == 200
    assert (await rig.ask("PUT", rules, budget)).status == 200
    assert (await rig.chat(key=made["api_key"])).status == 200
    used, cost = await spent()
    assert used != cost
    reconciler = rig.house.reconciler
    reconciler._times, rig.house.counters.lag_seconds = Times(300, 0), 0

    async def is_right() -> bool:
        # Asking makes the account known, which a change that is just being read may have dropped.
        await spent()
        await reconciler.compare(asyncio.Event())
        used, cost = await spent()
        return bool(used == cost)

    await until(is_right)
    metrics = (await rig.ask("GET", "/metrics", key=None)).body.decode()
    assert 'xairouter_counters_difference_total{side="below",unit="usd"} 0.0\n' not in metrics
