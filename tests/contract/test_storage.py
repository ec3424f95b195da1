"""Storage, held to the same promises on SQLite and on PostgreSQL."""

import asyncio
import random
import sqlite3
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from tests.servers import drop_database, postgres_database, psql, sqlite_database
from xairouter.clock import fresh_id
from xairouter.dialects.paths import OPERATIONS
from xairouter.domain.accounts import Account, AccountStatus
from xairouter.domain.records import Outcome, UsageRecord, UsageSource
from xairouter.errors import ERRORS, ConfigError, StorageError
from xairouter.providers.table import PROVIDERS
from xairouter.storage import changes, drivers, keys, owners, raising, records, rollups
from xairouter.storage.database import Database
from xairouter.storage.migrate import known_revisions
from xairouter.storage.tables import metadata, usage_hours, usage_records

OWNER = "acc_owner"
pytestmark = pytest.mark.both


@pytest.fixture
def url(storage: str, tmp_path: Path) -> str:
    return storage or f"sqlite:///{tmp_path}/x.db"


@pytest.fixture
async def database(url: str, storage: str, tmp_path: Path) -> AsyncIterator[Database]:
    if not storage:
        sqlite_database(tmp_path / "x.db")
    made = Database(url)
    async with made.write() as connection:
        account = Account(OWNER, OWNER, None, "acme", None, AccountStatus.ACTIVE, True, 1)
        await owners.add_owner(connection, account, seen_by_operator=False)
    yield made
    await made.close()


@pytest.fixture
def empty(storage: str, tmp_path: Path):
    """The URL of a database without any table."""
    if not storage:
        yield f"sqlite:///{tmp_path}/empty.db"
        return
    made = postgres_database(empty=True)
    yield made
    drop_database(made)


def record(number: int, **values: Any) -> UsageRecord:
    fields: dict[str, Any] = {
        "call_id": f"call_{number:05}",
        "owner_id": OWNER,
        "account_id": OWNER,
        "key_id": "key_1",
        "dialect": "openai_chat",
        "method": "POST",
        "path": "/v1/chat/completions",
        "client_ip": "127.0.0.1",
        "started_at_ms": 1_700_000_000_000 + number,
        "outcome": "completed",
        "model_asked": "m",
        "usage_source": "reported",
        "attempts": 1,
        "input_tokens": 10,
        "output_tokens": 5,
        "cost_nano": 1000,
        **values,
    }
    return UsageRecord(**fields)


async def store(database: Database, *some: UsageRecord) -> int:
    async with database.write() as connection:
        return len(await records.insert_all(connection, some, [], bytes))


async def test_the_migrations_make_exactly_the_tables_that_the_code_knows(empty: str):
    database = Database(empty)
    await database.migrate()

    def difference(connection: sa.Connection) -> Any:
        return compare_metadata(MigrationContext.configure(connection), metadata)

    async with database.read() as connection:
        assert await connection.run_sync(difference) == []
    await database.close()


@pytest.mark.parametrize("revision", known_revisions())
async def test_every_earlier_revision_comes_up_to_date_with_its_rows(empty: str, revision: str):
    database = Database(empty)
    await database.migrate(to=revision)
    async with database.write() as connection:
        await connection.execute(
            sa.text(
                "INSERT INTO owners (id, revision, vault_epoch, vault_revision) "
                "VALUES ('acc_1', 7, 1, 1)"
            )
        )
        await connection.execute(
            sa.text(
                "INSERT INTO accounts (id, owner_id, name, status, created_at_ms) "
                "VALUES ('acc_1', 'acc_1', 'acme', 'active', 1)"
            )
        )
    await database.migrate()
    await database.migrate()
    async with database.read() as connection:
        owner = await owners.get_owner(connection, "acc_1")
        [account] = await owners.list_owners(connection)
    assert owner is not None
    assert (owner.revision, owner.seen_by_operator, owner.settings.time_zone) == (7, False, "UTC")
    assert (account.name, account.can_manage) == ("acme", False)
    await database.close()


async def test_two_instances_that_start_together_migrate_once(empty: str):
    both = [Database(empty), Database(empty)]
    await asyncio.gather(*(database.migrate() for database in both))
    for database in both:
        async with database.read() as connection:
            assert await owners.list_owners(connection) == []
        await database.close()


async def test_a_newer_revision_is_refused_in_words(database: Database):
    async with database.write() as connection:
        await connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageError, match="written by a newer one"):
        await database.migrate()


async def test_what_fails_half_way_leaves_nothing(database: Database):
    async def fail() -> None:
        async with database.write() as connection:
            await changes.announce(connection, OWNER, "half", OWNER)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    async with database.read() as connection:
        assert await changes.last_seq(connection) == 0
        owner = await owners.get_owner(connection, OWNER)
    assert owner is not None
    assert owner.revision == 1


async def test_writers_of_several_instances_are_alone_and_changes_grow_in_commit_order(
    url: str, database: Database
):
    others = [Database(url) for _ in range(3)]
    seen: list[int] = []

    async def write(one: Database, number: int) -> None:
        async with one.write() as connection:
            owner = await owners.get_owner(connection, OWNER)
            await asyncio.sleep(0.001)
            assert owner is not None
            # Read, think, write: lost without exclusion.
            await owners.update_owner(connection, OWNER, vault_epoch=owner.vault_epoch + 1)
            await changes.announce(connection, OWNER, "test", str(number))

    async def read() -> None:
        at = 0
        while len(seen) < 60:
            async with database.read() as connection:
                after, _ = await changes.since(connection, at)
            seen.extend(range(at + 1, after + 1))
            at = after
            await asyncio.sleep(0.001)

    reading = asyncio.create_task(read())
    await asyncio.gather(*(write(others[n % 3], n) for n in range(60)))
    await asyncio.wait_for(reading, 120)
    async with database.read() as connection:
        owner = await owners.get_owner(connection, OWNER)
        whole = (await connection.execute(sa.text("SELECT seq FROM changes ORDER BY seq"))).all()
    assert owner is not None
    assert (owner.vault_epoch, owner.revision) == (61, 61)
    assert [row.seq for row in whole] == seen, "a reader of the changes misses none"
    for one in others:
        await one.close()


async def test_the_version_moves_when_another_instance_changes_something(
    url: str, database: Database
):
    other = Database(url)
    async with database.read() as connection:
        before = await database.version(connection)
        assert await database.version(connection) == before
        async with other.write() as writing:
            await changes.announce(writing, OWNER, "test", OWNER)
        assert await database.version(connection) != before
    await other.close()


async def test_records_are_stored_once_and_sums_and_chain_grow_with_them_only(database: Database):
    some = [record(n, model_asked="ab"[n % 2], outcome="completed") for n in range(10)]
    assert await store(database, *some) == 10
    assert await store(database, *some[5:], record(10)) == 1
    async with database.read() as connection:
        assert (
            len(await records.page(connection, OWNER, rollups.Filters(), before=None, limit=50))
            == 11
        )
        [total] = await rollups.totals(connection, OWNER, rollups.Filters(), None)
        by_model = await rollups.totals(connection, OWNER, rollups.Filters(), "model")
        by_day = await rollups.totals(connection, OWNER, rollups.Filters(), "day")
        by_hour = await rollups.totals(connection, OWNER, rollups.Filters(), "hour")
        hours = (await connection.execute(sa.select(sa.func.sum(usage_hours.c.calls)))).scalar()
        head = (await connection.execute(sa.text("SELECT seq FROM chain_heads"))).scalar()
    assert (total["calls"], total["input_tokens"], total["cost_nano"]) == (11, 110, 11_000)
    assert {type(value) for name, value in total.items() if name != "group"} <= {int, type(None)}
    assert [(row["group"], row["calls"]) for row in by_model] == [("a", 5), ("b", 5), ("m", 1)]
    assert [(row["group"], row["calls"]) for row in by_day] == [(1_700_000_000 // 86_400, 11)]
    assert [(row["group"], row["calls"]) for row in by_hour] == [(1_700_000_000 // 3600, 11)]
    assert (hours, head) == (11, 11)


def by_hand(some: list[UsageRecord], filters: rollups.Filters, group_by: str | None) -> dict:
    """The same sums, read from the records one by one."""
    found: dict[Any, dict[str, int]] = {}
    for one in some:
        row = records.row_of(one)
        row["model"] = row["model_used"] or row["model_asked"]
        at = one.started_at_ms
        if not (filters.from_ms or 0) <= at < (filters.until_ms or 1 << 62):
            continue
        if filters.account_ids is not None and one.account_id not in filters.account_ids:
            continue
        if filters.model is not None and row["model"] != filters.model:
            continue
        if any(row[name] != value for name, value in (filters.equal or {}).items()):
            continue
        column = {"account": "account_id", "key": "key_id", "provider_key": "provider_key_id"}
        group = None
        if group_by in ("day", "hour"):
            group = at // (rollups.DAY_MS if group_by == "day" else rollups.HOUR_MS)
        elif group_by is not None:
            group = row[column.get(group_by, group_by)]
        sums = found.setdefault(group, dict.fromkeys(rollups.SUMS, 0))
        for name, value in zip(raising._ADDED, raising._added(row), strict=True):
            if name in sums:
                sums[name] += value
    return found


async def test_sums_from_the_roll_ups_equal_those_from_the_records(database: Database):
    dice = random.Random(7)
    start, span = 1_700_000_000_000, 80 * rollups.DAY_MS  # three edges of months within
    some = [
        record(
            number,
            account_id=f"acc_{dice.randint(1, 3)}",
            key_id=f"key_{dice.randint(1, 4)}",
            provider_key_id=dice.choice([None, "pk_1", "pk_2"]),
            provider=dice.choice([None, "openai"]),
            label=dice.choice([None, "batch"]),
            model_asked=dice.choice(["a", "b", None]),
            model_used=dice.choice(["a", "c", None]),
            outcome=dice.choice(["completed", "refused", "upstream_error"]),
            cost_nano=dice.choice([None, dice.randint(0, 10**9)]),
            started_at_ms=start + dice.randint(0, span),
            **{
                name: dice.choice([None, dice.randint(0, 1000)])
                for name in ("cached_input_tokens", "cache_write_tokens", "reasoning_tokens")
            },
        )
        for number in range(600)
    ]
    for at in range(0, len(some), 150):
        await store(database, *some[at : at + 150])
    groups = [None, *rollups.GROUPS]
    async with database.read(seconds=None) as connection:
        for _ in range(300):
            ends = sorted(start + dice.randint(-rollups.DAY_MS, span) for _ in "12")
            if dice.random() < 0.3:
                floor = dice.choice(
                    [lambda at: at // rollups.DAY_MS * rollups.DAY_MS, rollups.month_of]
                )
                ends = [floor(at) for at in ends]
            filters = rollups.Filters(
                dice.choice([None, None, ["acc_1"], ["acc_1", "acc_3"], []]),
                dice.choice([None, ends[0]]),
                dice.choice([None, ends[1]]),
                dice.choice(
                    [
                        None,
                        {"provider_key_id": "pk_1"},
                        {"key_id": "key_1", "label": "batch"},
                        {"outcome": "refused"},
                        {"provider": None},
                        {"account_id": "acc_2"},
                    ]
                ),
                dice.choice([None, None, "a"]),
            )
            group_by = dice.choice(groups)
            found = await rollups.totals(connection, OWNER, filters, group_by)
            expected = by_hand(some, filters, group_by)
            if group_by is None and not expected:
                expected = {None: dict.fromkeys(rollups.SUMS, 0)}
            assert {
                row["group"]: {name: sum_ for name, sum_ in row.items() if name != "group"}
                for row in found
            } == expected, (filters, group_by)
            top = await rollups.totals(connection, OWNER, filters, group_by, top=2)
            worth = [(row["cost_nano"], row["calls"]) for row in top]
            best = sorted(((s["cost_nano"], s["calls"]) for s in expected.values()), reverse=True)
            assert worth == best[:2], (filters, group_by)
        names = ["pk_1", "pk_2", "pk_3"]
        uses = await rollups.last_uses(connection, OWNER, "provider_key", names)
    latest: dict[str, int] = defaultdict(int)
    for one in some:
        latest[one.provider_key_id or ""] = max(
            latest[one.provider_key_id or ""], one.started_at_ms
        )
    assert uses == {name: at for name, at in latest.items() if name}


async def test_older_sums_are_carried_over_into_the_newer_ones(url: str):
    """A database of the revision before: its sums by hour fill the sums by day."""
    database = Database(url)
    await database.migrate()
    async with database.write() as connection:
        account = Account(OWNER, OWNER, None, "acme", None, AccountStatus.ACTIVE, True, 1)
        await owners.add_owner(connection, account, seen_by_operator=False)
    dice = random.Random(3)
    some = [
        record(
            number,
            started_at_ms=1_700_000_000_000 + dice.randint(0, 70 * rollups.DAY_MS),
            account_id=f"acc_{number % 3}",
            outcome=dice.choice(["completed", "refused"]),
            cache_write_tokens=number,
        )
        for number in range(60)
    ]
    await store(database, *some)
    groups = [None, "account", "day", "hour", "model", "provider_key"]
    async with database.read() as connection:
        before = [
            await rollups.totals(connection, OWNER, rollups.Filters(), group) for group in groups
        ]
    statements = [
        "DROP INDEX ix_provider_objects_owner_created",
        "ALTER TABLE provider_objects DROP COLUMN final",
        "ALTER TABLE provider_objects DROP COLUMN call_id",
        "ALTER TABLE usage_records DROP COLUMN settled",
        "DROP TABLE chain_points",
        "DROP TABLE chain_bases",
        "DROP TABLE usage_counted",
        "DROP TABLE successions",
        "DROP TABLE usage_sums",
        "DROP INDEX ix_usage_hours_owner_account_hour",
        "ALTER TABLE usage_hours DROP COLUMN refused",
        "ALTER TABLE usage_hours DROP COLUMN cache_write_tokens",
        "ALTER TABLE usage_hours DROP COLUMN counted_nano",
        "ALTER TABLE usage_records DROP COLUMN counted_tokens",
        "ALTER TABLE usage_records DROP COLUMN counted_nano",
        "ALTER TABLE api_keys DROP COLUMN panic_of",
        "UPDATE alembic_version SET version_num = '0004'",
    ]
    async with database.write() as connection:
        for statement in statements:
            await connection.execute(sa.text(statement))
    await database.close()
    again = Database(url)
    await again.migrate()
    async with again.read() as connection:
        after = [
            await rollups.totals(connection, OWNER, rollups.Filters(), group) for group in groups
        ]
    await again.close()
    assert after == before


async def test_a_record_reads_as_it_was_written(database: Database):
    written = record(1, stream=True, usage_detail={"x": 1, "y": 0.5}, level=3, label="Ünicode 🎈")
    await store(database, written)
    async with database.read() as connection:
        [row] = await records.page(connection, OWNER, rollups.Filters(), before=None, limit=5)
    assert row == records.row_of(written)
    assert row["stream"] is True


async def test_hostile_words_and_numbers_do_not_stop_the_drain(database: Database):
    nasty = record(
        1,
        model_asked="m\0" + "x" * 70_000,
        path="/v1/" + "p" * 9000,
        session="s" * 500,
        provider_request_id="\0" * 400,
        provider_object_id="o" * 999,
        service_tier="t" * 999,
        label="l" * 999,
        client_ip="i" * 999,
        error_code="e" * 99,
        input_tokens=10**12,
        cost_nano=10**25,
        provider_cost_nano=10**25,
    )
    assert await store(database, nasty, record(2)) == 2
    assert await store(database, *(record(n, cost_nano=rollups.MOST) for n in range(3, 8))) == 5
    async with database.read() as connection:
        rows = await records.page(connection, OWNER, rollups.Filters(), before=None, limit=9)
        costs = (await connection.execute(sa.select(usage_hours.c.cost_nano))).scalars().all()
    assert len(rows) == 7
    assert str(rows[-1]["model_asked"]).startswith("m\ufffdxxx")
    assert max(costs) == rollups.MOST, "a sum stays at the largest number"


def test_the_router_s_own_words_fit_into_a_record_s_columns():
    """They are not cut to length as foreign ones are."""
    own: dict[str, list[Any]] = {
        "dialect": [operation.dialect for operation in OPERATIONS],
        "method": [operation.method for operation in OPERATIONS],
        "outcome": [
            Outcome.COMPLETED,
            Outcome.UPSTREAM_ERROR,
            Outcome.CLIENT_GONE,
            Outcome.INTERRUPTED,
            Outcome.REFUSED,
        ],
        "error_code": list(ERRORS),
        "usage_source": [UsageSource.REPORTED, "none"],
        "provider": list(PROVIDERS),
        **{one: [fresh_id("provider")] for one in ("call_id", "owner_id", "account_id", "key_id")},
    }
    for name, words in own.items():
        assert max(map(len, words)) <= getattr(usage_records.c[name].type, "length", 0), name


async def test_names_that_no_database_holds_are_simply_unknown(database: Database):
    async with database.read() as connection:
        for name in ("acc_\0", "acc_\ud800", "a" * 5000):
            assert await owners.get_account(connection, OWNER, name) is None
            assert await keys.get_key(connection, OWNER, name) is None
            assert await records.find_objects(connection, OWNER, [name]) == []


async def test_forgetting_what_was_deleted_leaves_the_rest(database: Database):
    await store(database, record(1))
    async with database.write() as connection:
        await connection.execute(usage_records.delete())
    await database.forget_deleted()
    assert await database.damage() is None


async def test_ids_sort_as_they_were_made(database: Database):
    """Cursors compare ids; a database's own idea of the alphabet must not matter."""
    made = [f"call_{n:03}" for n in range(20)] + ["call_0a", "call_0z", "call_zz"]
    await store(database, *(msgspec.structs.replace(record(1), call_id=one) for one in made))
    async with database.read() as connection:
        rows = await records.page(connection, OWNER, rollups.Filters(), before=None, limit=99)
    assert [row["call_id"] for row in rows] == sorted(made, reverse=True)


async def test_a_database_that_cannot_be_reached_is_a_sentence_without_its_password(storage: str):
    if not storage:
        pytest.skip("an SQLite file is there or is made")
    database = Database("postgresql://someone:hunter2@127.0.0.1:9/none")
    with pytest.raises(StorageError, match="cannot be used now") as caught:
        await database.migrate()
    assert str(caught.value) == (
        "The database 127.0.0.1:9/none cannot be used now: nothing listens there "
        "(ConnectionRefusedError)."
    )
    assert caught.value.public == "The database cannot be used now."
    await database.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("{base}/missing_database", "it has no database of this name (InvalidCatalogNameError)"),
        ("postgresql://u:hunter2@no.invalid/x", "no.invalid:5432/x"),
        ("postgresql://u:hunter2@/x?host=/nowhere", "there is no socket of a server"),
    ],
)
async def test_a_server_that_cannot_be_used_is_named_with_its_cause(
    storage: str, url: str, words: str
):
    if not storage:
        pytest.skip("SQLite is a file")
    before, _, after = storage.partition("?")
    url = url.replace("{base}", before.rpartition("/")[0]) + (f"?{after}" if "{" in url else "")
    database = Database(url)
    with pytest.raises(StorageError, match="cannot be used now: ") as caught:
        await database.migrate()
    assert words in str(caught.value)
    for part in ("hunter2", "u:", "invalid", "nowhere"):
        assert part not in caught.value.public
    await database.close()


async def test_a_database_that_turns_us_away_is_a_sentence(storage: str):
    if not storage:
        pytest.skip("an SQLite file turns nobody away")
    database = Database(storage.replace("/test_", "/missing_"))
    with pytest.raises(StorageError, match="cannot be used now"):
        await database.migrate()
    await database.close()


async def test_a_server_that_drops_connections_is_used_again_when_it_is_back(
    storage: str, database: Database
):
    if not storage:
        pytest.skip("an SQLite file drops nobody")
    async with database.read() as connection:
        assert await owners.get_owner(connection, OWNER)
    await asyncio.to_thread(
        psql,
        storage,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = "
        "'xairouter' AND datname = current_database();",
    )
    async with database.read() as connection:
        assert await owners.get_owner(connection, OWNER)


def test_other_databases_are_refused_in_words():
    with pytest.raises(ConfigError, match=r"postgresql://"):
        Database("mysql://host/x")


async def test_an_sqlite_database_overwrites_what_it_deletes(tmp_path: Path):
    database = Database(f"sqlite:///{tmp_path}/x.db")
    async with database.read() as connection:
        found = [
            (await connection.execute(sa.text(f"PRAGMA {name}"))).scalar()
            for name in ("secure_delete", "journal_mode", "foreign_keys", "synchronous")
        ]
    await database.close()
    assert found == [1, "wal", 1, 2]


async def test_emptying_the_log_beside_a_long_reader_keeps_no_writer_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """SQLite: a checkpoint that waited for the reader would hold the writers' lock meanwhile."""
    monkeypatch.setattr(drivers, "_CHECKPOINT_TRIES", 10_000)
    path = tmp_path / "x.db"
    database = Database(f"sqlite:///{path}")
    await database.migrate()
    reader = sqlite3.connect(path)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM owners").fetchone()
    write = sa.text("UPDATE alembic_version SET version_num = version_num")
    async with database.write() as connection:
        await connection.execute(write)
    emptying = asyncio.create_task(database.forget_deleted())
    for _ in range(3):
        await asyncio.sleep(0.1)
        async with database.write() as connection:
            await connection.execute(write)
    assert not emptying.done()
    reader.close()
    await emptying
    assert path.with_name("x.db-wal").stat().st_size == 0
    await database.close()
