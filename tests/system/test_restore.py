"""A copy of the database, restored into an empty installation: docs/how-to/back-up-and-restore.md."""

import asyncio
import contextlib
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.rig import Rig, start_rig
from tests.servers import drop_database, postgres_command, postgres_database
from tests.system.process import run_command
from xairouter.doctor import examine
from xairouter.observe import log


def _back_up(database: Path, copy: Path) -> None:
    """What sqlite3's ``.backup`` does, beside the running router."""
    with (
        contextlib.closing(sqlite3.connect(database)) as source,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)


async def _team_that_called(rig: Rig) -> str:
    """The XAI API key of a team whose one call is recorded."""
    await rig.add_provider_key()
    team = (await rig.ask("POST", "/api/v1/accounts", {"name": "team"})).json()
    assert (await rig.chat(key=team["api_key"])).status == 200
    await rig.records(expect=1)
    return str(team["api_key"])


async def _serves_both(restored: Rig, key: str) -> None:
    """Team and owner call, and the call before the copy is there beside theirs."""
    assert (await restored.chat(key=key)).status == 200
    assert (await restored.chat()).status == 200
    assert len(await restored.records()) == 3


@pytest.mark.parametrize("with_witness", [True, False])
async def test_a_copy_opens_with_the_keys_that_were_valid_when_it_was_made(
    tmp_path: Path, with_witness: bool
):
    old, new = tmp_path / "old", tmp_path / "new"
    rig = await start_rig(old)
    rig.is_beside = True
    try:
        key = await _team_that_called(rig)
        new.mkdir(mode=0o700)
        _back_up(old / "xairouter.db", new / "xairouter.db")
        if with_witness:
            shutil.copy(old / "vault-witness", new / "vault-witness")
    finally:
        await rig.stop()
    restored = await start_rig(new, beside=rig)
    restored.is_beside = False
    try:
        await _serves_both(restored, key)
    finally:
        await restored.stop()
    done = await asyncio.to_thread(run_command, "audit", "verify", data_dir=new)
    assert done.returncode == 0, done.stdout
    assert "whole" in done.stdout


async def test_a_dump_of_postgresql_opens_in_an_empty_database(tmp_path: Path):
    """With PostgreSQL's own ``pg_dump`` beside the running router, and its own ``psql``."""
    url, empty, dump = postgres_database(), postgres_database(empty=True), tmp_path / "dump.sql"
    rig = await start_rig(tmp_path / "old", database_url=url)
    rig.is_beside = True
    try:
        key = await _team_that_called(rig)
        await asyncio.to_thread(postgres_command, "pg_dump", "--file", str(dump), url)
    finally:
        await rig.stop()
    drop_database(url)
    load = ("--quiet", "--set", "ON_ERROR_STOP=1", "--file", str(dump), empty)
    await asyncio.to_thread(postgres_command, "psql", *load)
    restored = await start_rig(tmp_path / "new", beside=rig, database_url=empty)
    restored.is_beside = False
    try:
        await _serves_both(restored, key)
        verified = await asyncio.to_thread(
            run_command,
            "audit",
            "verify",
            data_dir=tmp_path / "new",
            XAIROUTER_DATABASE_URL=empty,
        )
        assert verified.returncode == 0, verified.stdout
        assert "whole" in verified.stdout
    finally:
        await restored.stop()
        drop_database(empty)


async def test_a_copy_from_before_a_take_over_is_refused_while_the_witness_is_newer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    said: list[tuple[str, str]] = []
    monkeypatch.setattr(
        log, "error", lambda event, **more: said.append((event, more.get("owner", "")))
    )
    data_dir = tmp_path / "data"
    rig = await start_rig(data_dir)
    rig.is_beside = True
    try:
        await rig.add_provider_key()
        _back_up(data_dir / "xairouter.db", tmp_path / "copy.db")
        assert (await rig.ask("POST", "/api/v1/me/take-over")).status == 201
    finally:
        await rig.stop()
    for path in data_dir.glob("xairouter.db*"):
        path.unlink()
    shutil.copy(tmp_path / "copy.db", data_dir / "xairouter.db")
    restored = await start_rig(data_dir, beside=rig)
    restored.is_beside = False
    try:
        for _ in range(2):
            assert (await restored.chat()).code == "invalid_api_key"
        assert said == [("vault_refused", rig.owner_id)], "the log says why, once"
        witness = data_dir / "vault-witness"
        lines = witness.read_text().splitlines(keepends=True)
        assert all(line.startswith(rig.owner_id) for line in lines)
    finally:
        await restored.stop()
    (data_dir / "vault-witness").unlink()
    again = await start_rig(data_dir, beside=rig)
    try:
        await again.standin.start()
        assert (await again.ask("GET", "/api/v1/me")).status == 200
    finally:
        await again.stop()
        await again.standin.stop()


async def test_a_damaged_witness_locks_nobody_out_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data_dir = tmp_path / "data"
    rig = await start_rig(data_dir)
    rig.is_beside = True
    await rig.add_provider_key()
    await rig.stop()
    witness = data_dir / "vault-witness"
    whole = witness.read_bytes()
    witness.write_bytes(whole.replace(b" v3 ", b" v3 f", 1))
    said: list[tuple[str, Any]] = []
    monkeypatch.setattr(log, "error", lambda event, **more: said.append((event, more.get("at"))))
    again = await start_rig(data_dir, beside=rig)
    again.is_beside = False
    try:
        assert said == [("witness_damaged", [0])]
        assert (await again.chat()).status == 200
    finally:
        await again.stop()
    found = {one.what: one for one in await examine(again.house.settings, offline=True)}
    assert found["vault witness"].state == "bad"
    assert str(witness) in found["vault witness"].says
