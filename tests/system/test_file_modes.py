"""Whatever the umask: what the router writes can be read by its user alone."""

import json
import os
import stat
from pathlib import Path

import pytest

from tests.system.process import create_owner, run_command, start_router
from xairouter.process import make_private, open_to_others


def modes(folder: Path) -> dict[str, str]:
    found = [folder, *folder.rglob("*")]
    return {
        str(one.relative_to(folder.parent)): oct(stat.S_IMODE(one.stat().st_mode)) for one in found
    }


def are_private(folder: Path) -> bool:
    return not any(stat.S_IMODE(one.stat().st_mode) & 0o077 for one in [folder, *folder.rglob("*")])


@pytest.fixture
def open_umask():
    """Child processes begin with the umask that hides nothing."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_umask")
async def test_a_router_and_its_commands_write_for_their_user_alone(tmp_path: Path):
    data_dir = tmp_path / "data"
    made = run_command("owner", "create", "acme", "--json", data_dir=data_dir)
    assert made.returncode == 0, made.stderr
    assert (data_dir / "xairouter.db").exists()
    assert are_private(data_dir), modes(data_dir)
    router = await start_router(data_dir)
    try:
        key = json.loads(made.stdout)["api_key"]
        status, _ = await router.ask("GET", "/api/v1/me", key)
        assert status == 200
        found = modes(data_dir)
        assert {Path(name).name for name in found} >= {
            "xairouter.db-wal",
            "xairouter.db-shm",
            "lock",
        }
        assert are_private(data_dir), found
    finally:
        await router.kill()


@pytest.mark.usefixtures("open_umask")
async def test_what_was_open_is_found_by_the_doctor_and_closed_at_the_start(tmp_path: Path):
    data_dir = tmp_path / "data"
    (data_dir / "journal" / "old").mkdir(parents=True)
    for name in ("xairouter.db", "vault-witness", "journal/old/lock"):
        (data_dir / name).touch()
    outside = tmp_path / "outside"
    outside.touch()
    (data_dir / "journal" / "old" / "link").symlink_to(outside)
    unrelated = data_dir / "notes.txt"
    unrelated.touch()
    examined = run_command("doctor", "--offline", data_dir=data_dir)
    assert examined.returncode == 1
    assert "chmod -R go=" in examined.stdout
    changed, left = make_private(data_dir)
    assert left == []
    assert {path.name for path in changed} == {
        *("data", "journal", "old", "lock", "xairouter.db", "vault-witness")
    } | {path.name for path in data_dir.glob("xairouter.db-*")}
    assert open_to_others(data_dir) == []
    # What is not the router's own, or lies elsewhere, is left as it is; nobody reaches it through here.
    assert stat.S_IMODE(outside.stat().st_mode) == stat.S_IMODE(unrelated.stat().st_mode) == 0o666
    examined = run_command("doctor", "--offline", data_dir=data_dir)
    assert "chmod" not in examined.stdout


@pytest.mark.usefixtures("open_umask")
async def test_a_start_closes_what_was_open_and_says_so(tmp_path: Path):
    data_dir = tmp_path / "data"
    key = await create_owner(data_dir)
    for path in (data_dir, *data_dir.iterdir()):
        path.chmod(0o777 if path.is_dir() else 0o666)
    router = await start_router(data_dir)
    try:
        status, _ = await router.ask("GET", "/api/v1/me", key)
        assert status == 200
        assert are_private(data_dir), modes(data_dir)
    finally:
        await router.kill()
    assert "files_were_open_to_others" in (tmp_path / "stderr.log").read_text()
