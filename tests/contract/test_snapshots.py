"""What compares several statements accuses nobody because calls are recorded between them."""

from collections.abc import AsyncIterator
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from tests.contract.test_storage import OWNER, database, record, store, url
from tests.interleaving import after_each_statement
from xairouter.accounting.counts import settled
from xairouter.clock import fresh_id, now_ms
from xairouter.counters.history import RecordsHistory
from xairouter.domain.calls import Usage
from xairouter.domain.records import Settlement, UsageRecord
from xairouter.manage import verifying
from xairouter.storage import operations, records, rollups
from xairouter.storage.database import Database
from xairouter.storage.settling import settle_all
from xairouter.storage.tables import usage_records

__all__ = ["database", "url"]  # fixtures
pytestmark = pytest.mark.both
HOUR_MS = 3_600_000


@pytest.fixture
async def other(database: Database) -> AsyncIterator[Database]:
    """The same database as another instance has it open."""
    made = Database(database.url)
    yield made
    await made.close()


def fresh(**values: Any) -> UsageRecord:
    return record(0, **{"call_id": fresh_id("call"), "started_at_ms": now_ms(), **values})


class Busy:
    """An instance that records calls, settles background responses and keeps the operation log."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._open: list[UsageRecord] = []
        self.calls = 0
        self.most = 5

    async def act(self) -> None:
        if self.calls >= self.most:
            return
        self.calls += 1
        begun = fresh(background=True, usage_source="estimated", provider_object_id=fresh_id("x"))
        name = str(begun.provider_object_id)
        made = records.ObjectRow(
            OWNER, name, OWNER, "pk_1", "openai_responses", now_ms(), begun.call_id
        )
        async with self._database.write() as connection:
            await records.insert_all(connection, [begun, fresh()], [made], bytes)
            await self._log(connection)
            if self._open:
                await settle_all(connection, [_end_of(self._open.pop(0))], _price, bytes)
        self._open.append(begun)

    async def _log(self, connection: Any) -> None:
        row = dict.fromkeys(operations.OperationRow.__annotations__)
        row |= {"id": fresh_id("op"), "owner_id": OWNER, "at_ms": now_ms()}
        row |= {"actor": "key", "verb": "x", "result": "ok"}
        await operations.add(connection, row, bytes(16))  # type: ignore[arg-type]


def _end_of(begun: UsageRecord) -> Settlement:
    return Settlement(
        owner_id=OWNER,
        object_id=str(begun.provider_object_id),
        call_id=begun.call_id,
        seen_by=fresh_id("call"),
        seen_at_ms=now_ms(),
        usage=Usage(input_tokens=100, output_tokens=50),
    )


async def _price(begun: UsageRecord, end: Settlement) -> UsageRecord:
    from xairouter.accounting.cost import UNKNOWN

    return settled(begun, end.usage, UNKNOWN, None)


async def test_verifying_beside_calls_accuses_nobody(
    database: Database, other: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(verifying, "PAGE", 12)
    busy = Busy(other)
    for _ in range(5):
        await busy.act()
    for _ in range(4):
        before, busy.most = busy.calls, busy.calls + 20
        with after_each_statement(database, busy.act):
            report = await verifying.verify(database, verifying.Report(OWNER))
        assert report.faults == []
        assert report.entries >= 3 * before
        assert busy.calls > before + 10


async def test_what_was_done_by_hand_is_found_beside_calls(
    database: Database, other: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(verifying, "PAGE", 12)
    busy = Busy(other)
    for _ in range(5):
        await busy.act()
    forged = record(1, call_id="call_forged", started_at_ms=now_ms())
    async with other.write() as connection:
        await connection.execute(usage_records.insert().values(records.row_of(forged)))
        one = await connection.execute(sa.select(sa.func.min(usage_records.c.call_id)))
        await connection.execute(
            usage_records.update()
            .where(usage_records.c.call_id == one.scalar())
            .values(input_tokens=999)
        )
    busy.most = 25
    with after_each_statement(database, busy.act):
        report = await verifying.verify(database, verifying.Report(OWNER))
    assert len(report.faults) >= 2
    assert "call_forged has no entry: it was inserted by hand." in report.faults


async def test_a_snapshot_is_one_state(database: Database, other: Database):
    await store(other, *(fresh(started_at_ms=now_ms() - n * HOUR_MS) for n in range(50)))
    filters = rollups.Filters(from_ms=now_ms() - 30 * HOUR_MS - 1000, until_ms=now_ms() + 1000)
    busy = Busy(other)
    with after_each_statement(database, busy.act):
        async with database.snapshot() as connection:
            [whole] = await rollups.totals(connection, OWNER, filters, None)
            parts = await rollups.totals(connection, OWNER, filters, "model")
    assert busy.calls > 3
    assert rollups.summed(parts) == whole


async def test_a_counter_does_not_lose_what_is_stored_while_it_begins(
    database: Database, other: Database
):
    """A call that this instance counts itself is left out of what the records say, also where it is
    stored between the roll-ups and the records being read."""
    own = fresh(counted_nano=5000, counted_tokens=15)
    await store(other, fresh(counted_nano=1000))
    late = [own]

    async def act() -> None:
        if late:
            await store(other, late.pop())

    async def flushed() -> None:
        return

    history = RecordsHistory(database, flushed)
    with after_each_statement(database, act):
        key = (OWNER, "", "total")
        pasts = await history(OWNER, [key], now_ms(), ZoneInfo("UTC"), frozenset([own.call_id]))
    assert sum(amount for _, amount in pasts[key].amounts) == 1000
