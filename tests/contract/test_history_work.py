"""How much is read when a budget's counter begins: counted in the steps of SQLite's machine."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.util import await_only

from tests.contract.test_history import NOW, UTC, nothing
from tests.contract.test_storage import OWNER, record, store
from tests.servers import sqlite_database
from xairouter.counters.history import RecordsHistory
from xairouter.domain.accounts import Account, AccountStatus
from xairouter.policy.limits import WHOLE
from xairouter.storage import owners
from xairouter.storage.database import Database

HOUR_MS = 3_600_000


class Steps:
    """Counts what SQLite does for a database's connections, in tens of its steps."""

    def __init__(self, database: Database) -> None:
        self.count = 0
        sa.event.listen(database._engine.sync_engine, "connect", self._watch)

    def _watch(self, connection: Any, _: object) -> None:
        await_only(connection.driver_connection.set_progress_handler(self._one, 10))

    def _one(self) -> int:
        self.count += 1
        return 0


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    sqlite_database(tmp_path / "x.db")
    made = Database(f"sqlite:///{tmp_path}/x.db")
    async with made.write() as connection:
        account = Account(OWNER, OWNER, None, "acme", None, AccountStatus.ACTIVE, True, 1)
        await owners.add_owner(connection, account, seen_by_operator=False)
    yield made
    await made.close()


@pytest.mark.parametrize("name", ["day", "month", "total"])
async def test_a_budget_begins_as_quickly_however_many_calls_there_were(
    database: Database, name: str
):
    own = frozenset(["call_00001", "call_00002"])
    found = []
    for first, last in ((0, 300), (300, 3000)):
        # In the same twenty hours, all of them of this day and month.
        at = [NOW - (n % 20) * HOUR_MS // 10 for n in range(first, last)]
        await store(
            database,
            *(record(first + n, started_at_ms=one, counted_nano=3) for n, one in enumerate(at)),
        )
        beside = Database(database.url)
        steps = Steps(beside)
        history = RecordsHistory(beside, nothing)
        [past] = (await history(OWNER, [(OWNER, WHOLE, name)], NOW, UTC, own)).values()
        await beside.close()
        assert sum(amount for _, amount in past.amounts) == 3 * (last - 2)
        found.append(steps.count)
    few, many = found
    assert 0 < few <= many < few + 20, "ten times as many records take as many steps"
