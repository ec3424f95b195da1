"""A hash chain is pruned of forgotten records behind a base, and stays a chain."""

from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from tests.contract.test_snapshots import Busy, fresh, other
from tests.contract.test_storage import OWNER, database, store, url
from tests.interleaving import after_each_statement
from xairouter.clock import format_id, now_ms
from xairouter.domain.accounts import OwnerSettings
from xairouter.manage import expire, verifying
from xairouter.manage.verifying import Checkpoint, Report
from xairouter.storage import owners, pruning
from xairouter.storage.database import Database
from xairouter.storage.records import row_of
from xairouter.storage.tables import chain, chain_heads, operations, usage_records

__all__ = ["database", "other", "url"]  # fixtures
pytestmark = pytest.mark.both
DAY_MS = 86_400_000
OLD, NEW = 30, 6


def sign(content: bytes) -> str:
    return f"signed {content[:20].decode()}"


@pytest.fixture
async def pruned(database: Database) -> tuple[Database, Checkpoint]:
    """A chain of which old records are forgotten, and a checkpoint from before."""
    busy = Busy(database)
    async with database.write() as connection:
        await owners.update_owner(connection, OWNER, settings=OwnerSettings(record_days=2))
    for number in range(OLD):
        at = now_ms() - 5 * DAY_MS + number
        await store(database, fresh(call_id=format_id("call", at, number), started_at_ms=at))
        if number % 10 == 0:
            async with database.write() as connection:
                await busy._log(connection)
    before = await verifying.verify(database, Report(OWNER))
    assert before.is_whole
    point = Checkpoint(OWNER, before.entries - 5, "00", "then")
    await store(database, *(fresh() for _ in range(NEW)))
    assert await expire.forget_old(database, now_ms()) == OLD
    return database, point


def _due() -> pruning.Due:
    return pruning.Due(OWNER, format_id("call", now_ms() - 2 * DAY_MS, 0), now_ms())


async def prune(database: Database, most: int = 7) -> int:
    """As long as there is something to prune."""
    total = 0
    while True:
        async with database.write() as connection:
            looked = await pruning.prune(connection, _due(), sign, most)
        total += looked
        if not looked:
            return total


async def _count(database: Database, table: sa.Table) -> int:
    async with database.read() as connection:
        query = sa.select(sa.func.count()).select_from(table)
        return int((await connection.execute(query)).scalar_one())


async def test_entries_of_forgotten_records_go_and_the_rest_is_whole(pruned: Any):
    database, point = pruned
    assert await prune(database) == OLD + 3
    assert await _count(database, chain) == NEW + 3, "operations keep their entries"
    report = await verifying.verify(database, Report(OWNER))
    assert (report.faults, report.forgotten, report.entries) == ([], OLD, OLD + 3 + NEW)
    async with database.read() as connection:
        base = await pruning.base_of(connection, OWNER)
        head = (await connection.execute(sa.select(chain_heads.c.hash))).scalar()
    assert (base.seq, base.mac) == (OLD + 3, sign(base.content()))
    assert report.head == bytes(head or b"").hex()
    at_base = Checkpoint(OWNER, base.seq, base.hash.hex(), "then")
    assert (await verifying.verify(database, Report(OWNER), at_base)).is_whole
    other = await verifying.verify(database, Report(OWNER), replace(at_base, head="00"))
    assert not other.is_whole
    [fault] = (await verifying.verify(database, Report(OWNER), point)).faults
    assert "older than the records that are kept" in fault


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM chain WHERE kind = 'operation' AND seq < 10",
        "UPDATE chain SET leaf = salt WHERE kind = 'operation' AND seq < 10",
        "UPDATE chain_bases SET hash = kept",
        "UPDATE chain_bases SET seq = seq - 1",
        "DELETE FROM chain_bases",
        "UPDATE operations SET result = 'forbidden'",
    ],
)
async def test_what_is_done_to_a_pruned_chain_is_found(pruned: Any, statement: str):
    database, _ = pruned
    await prune(database)
    async with database.write() as connection:
        await connection.execute(sa.text(statement))
    assert not (await verifying.verify(database, Report(OWNER))).is_whole


async def test_an_operation_removed_with_its_entry_is_found(pruned: Any):
    database, _ = pruned
    await prune(database)
    async with database.write() as connection:
        for statement in (
            "DELETE FROM operations WHERE id IN (SELECT ref_id FROM chain WHERE seq < 10)",
            "DELETE FROM chain WHERE kind = 'operation' AND seq < 10",
        ):
            await connection.execute(sa.text(statement))
    [fault] = (await verifying.verify(database, Report(OWNER))).faults
    assert "were altered" in fault


async def test_records_that_are_kept_and_what_follows_them_stay(pruned: Any):
    database, _ = pruned
    left = await _count(database, chain)
    async with database.write() as connection:
        # One in the middle is still there: the chain is pruned up to it.
        at = now_ms() - 5 * DAY_MS + 20
        name = (
            await connection.execute(
                sa.select(chain.c.ref_id).where(chain.c.seq == 22, chain.c.kind == "usage")
            )
        ).scalar()
        values = {"call_id": name, "started_at_ms": at}
        await connection.execute(usage_records.insert().values(row_of(fresh(**values))))
    assert await prune(database) == 21
    assert await _count(database, chain) == left - 21 + 2
    assert await _count(database, operations) == 3


async def test_verifying_beside_pruning_accuses_nobody(
    pruned: Any, other: Database, monkeypatch: pytest.MonkeyPatch
):
    database, _ = pruned
    monkeypatch.setattr(verifying, "PAGE", 5)

    async def act() -> None:
        async with other.write() as connection:
            await pruning.prune(connection, _due(), sign, 4)

    with after_each_statement(database, act):
        report = await verifying.verify(database, Report(OWNER))
    assert (report.faults, report.forgotten) == ([], OLD)


async def test_a_record_removed_before_its_days_are_over_is_not_pruned_away(pruned: Any):
    database, _ = pruned
    assert await prune(database) == OLD + 3
    async with database.write() as connection:
        await connection.execute(usage_records.delete())
    assert await prune(database) == 0
    faults = (await verifying.verify(database, Report(OWNER))).faults
    assert sum("was removed" in fault for fault in faults) == NEW


async def test_a_chain_is_not_pruned_where_no_vault_is_at_hand_to_sign_that(pruned: Any):
    database, _ = pruned
    assert await expire.prune_chains(database, now_ms(), lambda _: None) == 0
    assert await _count(database, chain) == OLD + 3 + NEW
