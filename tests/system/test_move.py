"""Moving up: from SQLite to PostgreSQL with everything, checked, and gone on with after a break; and
what a schema's own migrations promise."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.rig import Rig, start_rig
from tests.servers import drop_database, postgres_database, sqlite_database
from tests.system.process import run_command
from xairouter.errors import StorageError
from xairouter.storage import migrate as schema
from xairouter.storage import move as moving
from xairouter.storage.database import Database
from xairouter.storage.tables import metadata, usage_records


async def _installation(folder: Path, calls: int = 5) -> tuple[Rig, str, str]:
    """A stopped installation on SQLite whose stand-in goes on: the key of an account whose parent is
    younger than itself, and the database's URL."""
    rig = await start_rig(folder)
    rig.is_beside = True
    try:
        await rig.add_provider_key()
        child = (await rig.ask("POST", "/api/v1/accounts", {"name": "child"})).json()
        parent = (await rig.ask("POST", "/api/v1/accounts", {"name": "parent"})).json()
        moved = await rig.ask(
            "PATCH",
            f"/api/v1/accounts/{child['account']['id']}",
            {"parent": parent["account"]["id"]},
        )
        assert moved.status == 200, moved.body
        for _ in range(calls):
            assert (await rig.chat(key=child["api_key"])).status == 200
        await rig.records(expect=calls)
        return rig, child["api_key"], rig.house.settings.effective_database_url
    finally:
        await rig.stop()


async def _rows(url: str) -> dict[str, list[Any]]:
    database = Database(url)
    try:
        async with database.read() as connection:
            return {
                table.name: sorted(
                    map(repr, (tuple(row) for row in await connection.execute(sa.select(table))))
                )
                for table in metadata.sorted_tables
            }
    finally:
        await database.close()


async def test_everything_moves_to_postgresql_and_keys_still_work(tmp_path: Path):
    before, child, source = await _installation(tmp_path)
    target = postgres_database(empty=True)
    try:
        done = await asyncio.to_thread(run_command, "migrate", "--from", source, "--to", target)
        assert done.returncode == 0, done.stderr
        assert "1 hash chains are whole" in done.stdout.replace("\n", " ")
        assert await _rows(source) == await _rows(target)
        again = await asyncio.to_thread(run_command, "migrate", "--from", source, "--to", target)
        assert again.returncode == 0, again.stderr
        assert "1 hash chains are whole" in again.stdout.replace("\n", " ")
        rig = await start_rig(tmp_path, beside=before, database_url=target)
        try:
            assert (await rig.chat(key=child)).status == 200
            assert (await rig.chat()).status == 200
            await rig.records(expect=7)
            # Changes are numbered on behind those that were copied.
            made = await rig.ask("POST", "/api/v1/accounts", {"name": "late"})
            assert made.status == 201, made.body
        finally:
            await rig.stop()
    finally:
        await before.standin.stop()
        drop_database(target)


async def test_a_move_that_was_broken_off_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before, _, url = await _installation(tmp_path, calls=12)
    target_url = postgres_database(empty=True)
    monkeypatch.setattr(moving, "BATCH", 5)
    source, target = Database(url), Database(target_url)
    await before.standin.stop()
    try:
        await target.migrate()
        real, seen = moving.insert_rows, []  # type: ignore[attr-defined]

        async def breaks(connection: Any, table: sa.Table, rows: Any) -> None:
            seen.append(table)
            if seen.count(usage_records) == 2:
                raise RuntimeError("the cable was pulled")
            await real(connection, table, rows)

        monkeypatch.setattr(moving, "insert_rows", breaks)
        with pytest.raises(RuntimeError):
            await moving.move(source, target, lambda _: None)
        monkeypatch.setattr(moving, "insert_rows", real)
        async with target.read() as connection:
            half = await connection.execute(sa.select(usage_records.c.call_id))
            assert len(half.all()) == 5
        await moving.move(source, target, lambda _: None)
        assert await _rows(url) == await _rows(target_url)
    finally:
        await source.close()
        await target.close()
        drop_database(target_url)


async def test_a_move_that_was_killed_at_any_step_goes_on_and_says_that_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before, _, url = await _installation(tmp_path, calls=2)
    await before.standin.stop()
    source, real, steps = Database(url), Database.write, 100
    expected = await _rows(url)

    async def moved(target_url: str, killed_before: int) -> int:
        """How many transactions were committed; the next one of them finds nobody there."""
        committed, target = 0, Database(target_url)

        @contextlib.asynccontextmanager
        async def write(self: Database, **options: Any) -> AsyncIterator[Any]:
            nonlocal committed
            if committed >= killed_before:
                raise _KilledError
            async with real(self, **options) as connection:
                yield connection
            committed += 1

        monkeypatch.setattr(Database, "write", write)
        try:
            await moving.move(source, target, lambda _: None)
        except _KilledError:
            assert committed == killed_before
        finally:
            monkeypatch.setattr(Database, "write", real)
            await target.close()
        return committed

    try:
        for number, killed_before in enumerate((100, 0, 1, 2, 10, -2, -1, 100)):
            target = tmp_path / f"target-{number}.db"
            sqlite_database(target)
            target_url = f"sqlite:///{target}"
            steps = min(steps, await moved(target_url, killed_before % (steps + 1)))
            await moved(target_url, 100)
            assert await _rows(target_url) == expected, killed_before
        # Given again, it says so; what the target has become since is not touched.
        await moved(target_url, 100)
        used = Database(target_url)
        async with used.write() as connection:
            await connection.execute(sa.text("DELETE FROM usage_records"))
        with pytest.raises(StorageError, match="has changed since"):
            await moving.move(source, used, lambda _: None)
        await used.close()
    finally:
        await source.close()


class _KilledError(BaseException):
    """The process is gone."""


async def test_a_source_that_changed_is_not_taken_for_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before, _, url = await _installation(tmp_path)
    target_url = postgres_database(empty=True)
    source, target = Database(url), Database(target_url)
    await before.standin.stop()
    try:
        await target.migrate()

        async def breaks(*_: Any) -> None:
            raise RuntimeError("broken off")

        monkeypatch.setattr(moving, "insert_rows", breaks)
        with pytest.raises(RuntimeError):
            await moving.move(source, target, lambda _: None)
        monkeypatch.undo()
        async with source.write() as connection:
            await connection.execute(sa.text("DELETE FROM usage_records"))
        with pytest.raises(StorageError, match="changed since"):
            await moving.move(source, target, lambda _: None)
    finally:
        await source.close()
        await target.close()
        drop_database(target_url)


def test_a_running_router_and_a_missing_file_are_refused_with_a_sentence(tmp_path: Path):
    missing = run_command(
        "migrate", "--from", f"sqlite:///{tmp_path}/none.db", "--to", f"sqlite:///{tmp_path}/b.db"
    )
    assert (missing.returncode, "There is no database" in missing.stderr) == (1, True)
    (tmp_path / "xairouter.db").touch()
    (tmp_path / "journal" / "inst_x").mkdir(parents=True)
    (tmp_path / "journal" / "inst_x" / "00000001.log").touch()
    running = run_command(
        *("migrate", "--from", f"sqlite:///{tmp_path}/xairouter.db"),
        *("--to", f"sqlite:///{tmp_path}/b.db"),
    )
    assert running.returncode == 1
    assert "stop the router" in running.stderr
    half = run_command("migrate", "--from", f"sqlite:///{tmp_path}/xairouter.db")
    assert "both --from and --to" in half.stderr


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_many_instances_that_start_at_once_migrate_once(tmp_path: Path, kind: str):
    url = postgres_database(empty=True) if kind == "postgresql" else f"sqlite:///{tmp_path}/x.db"
    databases = [Database(url) for _ in range(4)]
    try:
        await asyncio.gather(*(database.migrate() for database in databases))
        async with databases[0].read() as connection:
            found = await connection.execute(sa.text("SELECT version_num FROM alembic_version"))
            assert [row[0] for row in found] == [schema.known_revisions()[-1]]
    finally:
        for database in databases:
            await database.close()
        if kind == "postgresql":
            drop_database(url)


async def test_code_that_is_older_than_the_schema_does_not_start(tmp_path: Path):
    data_dir = tmp_path / "data"
    done = await asyncio.to_thread(run_command, "owner", "list", data_dir=data_dir)
    assert done.returncode == 0
    database = Database(f"sqlite:///{data_dir}/xairouter.db")
    async with database.write() as connection:
        await connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    await database.close()
    refused = await asyncio.to_thread(run_command, "serve", "--port", "0", data_dir=data_dir)
    assert refused.returncode == 1
    assert "revision 9999, which this version does not know" in refused.stderr.replace("\n", " ")
    assert "Traceback" not in refused.stderr
