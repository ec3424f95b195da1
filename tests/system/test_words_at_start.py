"""What a router says that cannot start: where it failed, why, and what to do."""

import shutil
import socket
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.rig import Rig, price_list
from tests.servers import sqlite_database
from xairouter.app import House, listen
from xairouter.doctor import examine
from xairouter.errors import ConfigError, StorageError
from xairouter.locks import let_go
from xairouter.settings import Settings
from xairouter.storage.database import Database

_WITNESS = f"acc_x 1 v2 {'0' * 64}\n"


def _settings(folder: Path, **more: Any) -> Settings:
    folder.mkdir(mode=0o700)
    return Settings(data_dir=folder, **more)


async def _start(settings: Settings) -> None:
    house = House(settings, price_list())
    try:
        await house.start()
    finally:
        let_go(house._held)
        await house.database.close()


async def _database_finding(settings: Settings) -> tuple[str, str]:
    [found] = [one for one in await examine(settings, offline=True) if one.what == "database"]
    return found.state, found.says


@pytest.mark.parametrize("empty", [True, False])
async def test_a_missing_database_beside_a_filled_witness_is_no_new_installation(
    tmp_path: Path, empty: bool
):
    settings = _settings(tmp_path / "data")
    settings.witness_file.write_text(_WITNESS)
    database = tmp_path / "data" / "xairouter.db"
    if empty:
        database.touch(mode=0o600)
    with pytest.raises(ConfigError, match="knows 1 owners: the database is missing") as refused:
        await _start(settings)
    assert str(database) in str(refused.value)
    state, says = await _database_finding(settings)
    assert state == "bad"
    assert "is missing" in says
    assert database.exists() == empty


@pytest.mark.parametrize(
    ("offset", "words"),
    [(0, "no SQLite database"), (100, "damaged"), (None, "cannot be opened")],
)
async def test_a_damaged_database_is_named_with_its_path_and_cause(
    tmp_path: Path, offset: int | None, words: str
):
    settings = _settings(tmp_path / "data")
    database = tmp_path / "data" / "xairouter.db"
    sqlite_database(database)
    if offset is None:
        database.unlink()
        database.mkdir()
    else:
        with database.open("r+b") as file:
            file.seek(offset)
            file.write(b"\xff" * 4000)
    with pytest.raises(StorageError) as refused:
        await _start(settings)
    assert str(database) in str(refused.value)
    assert words in str(refused.value)
    state, says = await _database_finding(settings)
    assert (state, str(database) in says) == ("bad", True)


async def test_the_doctor_sees_a_column_that_is_not_there(tmp_path: Path):
    settings = _settings(tmp_path / "data")
    database = tmp_path / "data" / "xairouter.db"
    sqlite_database(database)
    assert (await _database_finding(settings))[0] == "ok"
    copy = tmp_path / "copy.db"
    for statement, lacks in (
        ("ALTER TABLE usage_records DROP COLUMN counted_nano", "usage_records.counted_nano"),
        ("DROP TABLE notices", "notices"),
    ):
        shutil.copy(database, copy)
        connection = sqlite3.connect(copy)
        connection.execute(statement)
        connection.commit()
        connection.close()
        copy.chmod(0o600)
        of_copy = Settings(data_dir=settings.data_dir, database_url=f"sqlite:///{copy}")
        state, says = await _database_finding(of_copy)
        assert (state, f"lacks {lacks};" in says) == ("bad", True), says


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"Cannot listen on 127.0.0.1:{port}: "):
            listen("127.0.0.1", port)


async def test_no_client_learns_where_the_database_is(rig: Rig):
    await rig.add_provider_key()
    limited = await rig.add_account("limited", rules={"limits": {"rpd": 5}})
    unlimited = await rig.add_account("unlimited")
    assert (await rig.chat(key=unlimited["api_key"])).status == 200
    house = rig.house
    used = [house.database._engine, house.database._reading, house.database._snapshots]
    house.directory.drop(rig.owner_id)
    elsewhere = Database("sqlite:////nowhere/where-it-is/x.db")
    broken = [elsewhere._engine] * 3
    for engines in (broken, used):
        house.database._engine, house.database._reading, house.database._snapshots = engines
        answers = [
            await rig.ask("GET", "/api/v1/accounts"),
            await rig.ask("POST", "/api/v1/accounts", {"name": "x"}),
            await rig.ask(
                "POST", "/api/v1/recover", {"recovery_code": rig.recovery_code}, key=None
            ),
            await rig.chat(key=limited["api_key"]),
            await rig.chat(key=unlimited["api_key"]),
            await rig.ask("GET", "/v1/models"),
            await rig.ask("GET", "/readyz", key=None),
            await rig.ask("GET", "/console/sign-in", key=None),
            await rig.ask("GET", "/console/setup/none", key=None),
        ]
        for answer in answers:
            for word in (b"where-it-is", b"SQLITE", b"xairouter.db"):
                assert word not in answer.body
        if engines is broken:
            assert [answer.status for answer in answers].count(503) >= 5
    await elsewhere.close()


async def test_a_limit_whose_past_cannot_be_read_says_no_more_than_that(rig: Rig):
    await rig.add_provider_key()
    limited = await rig.add_account("limited", rules={"limits": {"rpd": 5}})
    database = rig.house.database
    used = database._snapshots
    assert (await rig.ask("GET", "/v1/models", key=limited["api_key"])).status == 200
    elsewhere = Database("sqlite:////nowhere/where-it-is/x.db")
    database._snapshots = elsewhere._engine
    refused = await rig.chat(key=limited["api_key"])
    assert (refused.status, refused.code) == (503, "storage_unavailable")
    assert refused.json()["error"]["message"] == "The database cannot be used now."
    database._snapshots = used
    assert (await rig.chat(key=limited["api_key"])).status == 200
    await elsewhere.close()
