"""What counters begin with: read once for all that begin together, and right for each of them."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
import sqlalchemy as sa

from tests.contract.test_storage import OWNER, record, store
from tests.servers import sqlite_database
from xairouter.accounting.cost import Cost
from xairouter.accounting.counts import Counts, settled
from xairouter.counters.history import RecordsHistory
from xairouter.counters.interface import Counted, Held
from xairouter.counters.memory import MemoryCounters
from xairouter.domain.accounts import Account, AccountStatus
from xairouter.domain.calls import Usage
from xairouter.domain.records import Settlement, UsageRecord
from xairouter.policy.limits import WHOLE, Demand, Key
from xairouter.policy.patterns import matches
from xairouter.policy.windows import BUCKETS, WINDOWS, period_of
from xairouter.storage import owners, records
from xairouter.storage.database import Database
from xairouter.storage.settling import settle_all
from xairouter.storage.tables import usage_records

pytestmark = pytest.mark.both
UTC = ZoneInfo("UTC")
NOW = 1_780_000_000_000
MODELS = ("gpt-4o", "gpt-4o-mini", "claude", None)
PARENTS = {"team": OWNER, "person": "team", "program": "person", "other": OWNER, "last": "other"}
PATTERNS = (WHOLE, "gpt-*", "claude", "*o*", "none")
READ = [name for name, window in WINDOWS.items() if window.unit != "running"]


@pytest.fixture
async def database(storage: str, tmp_path: Path) -> AsyncIterator[Database]:
    if not storage:
        sqlite_database(tmp_path / "x.db")
    made = Database(storage or f"sqlite:///{tmp_path}/x.db")
    owner = Account(OWNER, OWNER, None, "acme", None, AccountStatus.ACTIVE, True, 1)
    async with made.write() as connection:
        await owners.add_owner(connection, owner, seen_by_operator=False)
        for name, parent in PARENTS.items():
            await owners.add_account(connection, replace(owner, id=name, parent_id=parent))
    yield made
    await made.close()


def some_records(dice: random.Random) -> list[UsageRecord]:
    found = []
    ages = [0, 500, 70_000, 3_000_000, 86_400_000, 40 * 86_400_000]
    for number in range(150):
        attempts = dice.choice([0, 1, 2])
        counted = {
            "counted_tokens": dice.choice([None, dice.randrange(1000)]),
            "counted_nano": dice.randrange(1000),
        }
        found.append(
            record(
                number,
                account_id=dice.choice([OWNER, *PARENTS]),
                model_asked=dice.choice(MODELS),
                model_used=dice.choice(MODELS),
                attempts=attempts,
                started_at_ms=NOW - dice.choice(ages),
                **(counted if attempts else {"cost_nano": None}),
            )
        )
    return found


def line(account_id: str) -> list[str]:
    return [account_id, *(line(PARENTS[account_id]) if account_id in PARENTS else [])]


def expected(key: Key, rows: list[UsageRecord]) -> int:
    """What counts of a counter at ``NOW``, record by record."""
    account_id, pattern, name = key
    window, total = WINDOWS[name], 0
    for row in rows:
        model = row.model_used or row.model_asked
        if account_id not in line(row.account_id) or not row.attempts:
            continue
        if pattern != WHOLE and not (model and matches(pattern, model)):
            continue
        tokens = row.counted_tokens
        if tokens is None:
            tokens = (row.input_tokens or 0) + (row.output_tokens or 0)
        amount = {"requests": 1, "tokens": tokens, "money": row.counted_nano or 0}[window.unit]
        age = NOW - row.started_at_ms
        recent = (
            NOW // window.bucket_ms - row.started_at_ms // window.bucket_ms <= BUCKETS
            if (window.bucket_ms)
            else age < {"day": NOW % 86_400_000 + 1, "month": 27 * 86_400_000}.get(window.kind, NOW)
        )
        total += amount if recent else 0
    return total


async def nothing() -> None:
    """Everything is in storage already."""


async def test_counters_that_begin_together_begin_with_what_the_records_say(database: Database):
    rows = some_records(random.Random(7))
    await store(database, *rows)
    for accounts in ([OWNER, "team", "person", "program"], ["program", "team"], ["last"], [OWNER]):
        keys = [(a, pattern, name) for a in accounts for pattern in PATTERNS for name in READ]
        counters = MemoryCounters(RecordsHistory(database, nothing), lambda: NOW, lambda: 0)
        found = await counters.used(OWNER, [Demand(key, 10**9, 0) for key in keys], UTC)
        assert dict(zip(keys, found, strict=True)) == {key: expected(key, rows) for key in keys}


async def test_what_is_left_out_is_left_out_of_every_counter(database: Database):
    rows = some_records(random.Random(8))
    await store(database, *rows)
    gone = frozenset(row.call_id for row in rows[::3])
    keys = [(a, WHOLE, name) for a in (OWNER, "team", "program") for name in READ]
    pasts = await RecordsHistory(database, nothing)(OWNER, keys, NOW, UTC, gone)
    kept = [row for row in rows if row.call_id not in gone]
    found = {key: sum(amount for _, amount in past.amounts) for key, past in pasts.items()}
    assert found == {key: expected(key, kept) for key in keys}


ZONES = ("UTC", "Asia/Kolkata", "America/St_Johns", "Pacific/Chatham", "Pacific/Kiritimati")


async def _settled(database: Database, some: list[UsageRecord], dice: random.Random) -> None:
    """Settle background responses, each at a cost of its own."""

    async def price(begun: UsageRecord, end: Settlement) -> UsageRecord:
        nano = dice.randrange(5000)
        return settled(begun, end.usage, Cost(nano, {}, nano), "list")

    ends = [
        Settlement(
            owner_id=OWNER,
            object_id=str(begun.provider_object_id),
            call_id=begun.call_id,
            seen_by="call_later",
            seen_at_ms=NOW,
            usage=Usage(input_tokens=7, output_tokens=9),
        )
        for begun in some
    ]
    async with database.write() as connection:
        assert len(await settle_all(connection, ends, price, bytes)) == len(some)


async def test_money_of_any_calendar_s_periods_is_the_sum_of_the_records(database: Database):
    """Of hours, of the part of an hour before them, of settled records, and without some calls."""
    dice = random.Random(11)
    hour_ms, rows, open_rows = 3_600_000, list[UsageRecord](), list[UsageRecord]()
    for number, one in enumerate(some_records(dice)):
        age = dice.choice([dice.randrange(24) * hour_ms, dice.randrange(70 * 24) * hour_ms])
        at = NOW // hour_ms * hour_ms - age + dice.choice([0, 1, hour_ms // 2, hour_ms - 1])
        changed = {"call_id": f"call_{number}", "started_at_ms": min(at, NOW)}
        if number % 5 == 0:
            changed |= {"background": True, "usage_source": "estimated", "attempts": 1}
            changed |= {"provider_object_id": f"resp_{number}", "reserved_nano": 100}
        rows.append(msgspec.structs.replace(one, **changed))
        if number % 10 == 0:
            open_rows.append(rows[-1])
    objects = [
        records.ObjectRow(OWNER, str(o.provider_object_id), OWNER, "pk", "x", NOW, o.call_id)
        for o in open_rows
    ]
    async with database.write() as connection:
        await records.insert_all(connection, rows, objects, bytes)
    await _settled(database, open_rows, dice)
    async with database.read() as connection:
        stored = [records.record_of(dict(row)) for row in await _all(connection)]
    keys = [
        (account_id, pattern, name)
        for account_id in (OWNER, "team", "program", "last")
        for pattern in (WHOLE, "gpt-*")
        for name in ("day", "month", "total")
    ]
    for zone, gone in itertools.product(
        ZONES, (frozenset(), frozenset(f"call_{n}" for n in range(40)))
    ):
        calendar = ZoneInfo(zone)
        history = RecordsHistory(database, nothing)
        pasts = await history(OWNER, keys, NOW, calendar, gone)
        found = {key: sum(amount for _, amount in past.amounts) for key, past in pasts.items()}
        assert found == {
            key: sum(
                row.counted_nano
                for row in stored
                if key[0] in line(row.account_id)
                and row.call_id not in gone
                and row.started_at_ms >= period_of(WINDOWS[key[2]].kind, NOW, calendar)[0]
                and (key[1] == WHOLE or matches(key[1], row.model_used or row.model_asked or ""))
            )
            for key in keys
        }, zone


async def _all(connection: Any) -> Any:
    return (await connection.execute(sa.select(usage_records))).mappings()


async def test_however_many_counters_begin_the_records_are_read_a_few_times(database: Database):
    await store(database, *some_records(random.Random(9)))
    statements: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements.append(statement)

    names = [f"*{'gpt-4o'[: n % 6]}{'*' * (n // 6)}" for n in range(18)]
    keys = [(a, name, limit) for a in (OWNER, *PARENTS) for name in names for limit in READ]
    history = RecordsHistory(database, nothing)
    sa.event.listen(sa.engine.Engine, "before_cursor_execute", note)
    try:
        counters = MemoryCounters(history, lambda: NOW, lambda: 0)
        demands = [Demand(key, 10**9, 0) for key in keys]
        waits = [counters.used(OWNER, demands, UTC) for _ in range(5)]
        first, *others = await asyncio.gather(*waits)
    finally:
        sa.event.remove(sa.engine.Engine, "before_cursor_execute", note)
    assert others == [first] * 4
    asked = [one for one in statements if "usage_records" in one or "usage_hours" in one]
    assert len(keys) > 900
    assert len(asked) <= 5, "one for each span: a minute, an hour, a day, a month, all time"


async def test_a_reading_goes_on_when_its_first_caller_leaves_and_ends_with_the_counters(
    database: Database,
):
    gate, reads = asyncio.Event(), list[int]()
    real = RecordsHistory(database, nothing)

    async def history(*asked: Any) -> Any:
        reads.append(len(asked[1]))
        await gate.wait()
        return await real(*asked)

    counters = MemoryCounters(history, lambda: NOW, lambda: 0)
    demands = [Demand((OWNER, WHOLE, name), 100, 1) for name in ("rpm", "tpd", "concurrency")]
    call = Counted("call_1", OWNER, (OWNER,), "m", NOW, UTC)
    leaves = asyncio.create_task(counters.reserve(call, demands))
    await asyncio.sleep(0)
    leaves.cancel()
    stays = asyncio.create_task(counters.reserve(call, demands))
    await asyncio.sleep(0)
    gate.set()
    held = await stays
    assert isinstance(held, Held)
    assert reads == [2], "one reading of both, by whoever came first"
    counters.settle(held, Counts(1, 1))
    gate.clear()
    counters.forget(OWNER)
    waits = asyncio.create_task(counters.reserve(call, demands))
    await asyncio.sleep(0)
    await asyncio.wait_for(counters.close(), 60)
    with pytest.raises(Exception, match="could not be read"):
        await waits
