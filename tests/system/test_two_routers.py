"""Two routers that do not share their counters never use one data directory, or one SQLite file; what
runs beside a router does."""

import asyncio
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig import price_list, start_rig
from tests.system.process import create_owner, run_command, start_router
from xairouter.app import House
from xairouter.errors import ConfigError
from xairouter.locks import NAME, hold, holders, let_go, lock_files
from xairouter.settings import Settings


@pytest.mark.slow
async def test_a_second_router_on_a_data_directory_ends_with_a_sentence_naming_the_first(
    tmp_path: Path,
):
    data_dir = tmp_path / "data"
    first = await start_router(data_dir)
    named = f"process {first.process.pid}"
    try:
        second = await asyncio.to_thread(run_command, "serve", "--port", "0", data_dir=data_dir)
        assert second.returncode == 1
        assert f"in use by another router: {named}." in second.stderr
        assert "Traceback" not in second.stderr
        # Commands run beside it, and it goes on.
        key = await create_owner(data_dir)
        for command in (["doctor", "--offline"], ["audit", "verify"]):
            done = await asyncio.to_thread(run_command, *command, data_dir=data_dir)
            assert done.returncode == 0, (command, done.stdout, done.stderr)
        assert (await first.ask("GET", "/api/v1/me", key))[0] == 200
        moved = await asyncio.to_thread(
            run_command,
            *("migrate", "--from", f"sqlite:///{data_dir}/xairouter.db"),
            *("--to", f"sqlite:///{tmp_path}/target.db"),
        )
        assert f"still uses the source: {named}" in moved.stderr
    finally:
        await first.kill()
    # A lock does not outlive its process, however that ended.
    again = await start_router(data_dir)
    try:
        assert (await again.ask("GET", "/api/v1/me", key))[0] == 200
    finally:
        assert await again.terminate() == 0
    assert holders(data_dir / NAME) == []


@pytest.mark.parametrize("way", ["directory", "link", "database"])
async def test_a_directory_and_a_database_file_have_one_router(tmp_path: Path, way: str):
    data_dir = tmp_path / "data"
    rig = await start_rig(data_dir)
    try:
        link = tmp_path / "link"
        link.symlink_to(data_dir, target_is_directory=True)
        settings = {
            "directory": Settings(data_dir=data_dir),
            "link": Settings(data_dir=link),
            "database": Settings(
                data_dir=tmp_path / "other", database_url=f"sqlite:///{data_dir}/xairouter.db"
            ),
        }[way]
        with pytest.raises(ConfigError, match=f"process {os.getpid()}"):
            await House(settings, price_list()).start()
        assert (await rig.ask("GET", "/api/v1/me")).status == 200
    finally:
        await rig.stop()
    assert holders(data_dir / NAME) == []


@pytest.mark.parametrize("first_shares", [True, False])
@pytest.mark.parametrize("second_shares", [True, False])
async def test_only_routers_that_share_their_counters_share_a_directory(
    tmp_path: Path, first_shares: bool, second_shares: bool
):
    files = [tmp_path / NAME]
    first = await hold(files, shared=first_shares)
    try:
        if first_shares and second_shares:
            let_go(await hold(files, shared=True))
            return
        with pytest.raises(ConfigError, match=f"process {os.getpid()}"):
            await hold(files, shared=second_shares)
    finally:
        let_go(first)
    let_go(await hold(files, shared=second_shares))


async def test_one_sqlite_file_is_one_by_whatever_name_it_is_reached(tmp_path: Path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    real = tmp_path / "elsewhere.db"
    real.touch()
    link = tmp_path / "two" / "xairouter.db"
    link.symlink_to(real)

    def files(folder: str, url: str = "") -> list[Path]:
        settings = Settings(data_dir=tmp_path / folder, database_url=url)
        return lock_files(settings.data_dir, settings.database_file)

    held = await hold(files("one", f"sqlite:///{real}?timeout=5"), shared=False)
    with pytest.raises(ConfigError, match=r"is in use"):
        await hold(files("two"), shared=False)
    let_go(held)
    # A server's needs none: who else is on it is counted.
    assert files("one", "postgresql://h/name") == [tmp_path / "one" / NAME]
    # What was tried for the second directory was given up as a whole.
    let_go(await hold(files("two"), shared=False))


async def test_who_is_gone_is_not_named(tmp_path: Path):
    path = tmp_path / NAME
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    path.write_text(f"{gone.pid} {os.uname().nodename}\n7 another-host\nno words\n{'9' * 30} x\n")
    descriptor = os.open(path, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    try:
        assert holders(path) == ["process 7 on another-host", f"process {'9' * 30} on x"]
    finally:
        os.close(descriptor)
    assert holders(path) == []
