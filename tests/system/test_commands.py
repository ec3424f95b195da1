"""The command line, as a process."""

import asyncio
import json
import sqlite3
from pathlib import Path

import pytest

from tests.servers import sqlite_database
from tests.system.process import create_owner, run_command, start_router
from tests.waiting import until


def test_owner_create_shows_key_and_code_once_and_list_does_not(tmp_path: Path):
    made = run_command("owner", "create", "acme", "--json", is_new=True, data_dir=tmp_path)
    assert made.returncode == 0, made.stderr
    shown = json.loads(made.stdout)
    assert set(shown) == {"account_id", "api_key", "recovery_code"}
    assert shown["api_key"].startswith("sk-Xvs")
    listed = run_command("owner", "list", "--json", data_dir=tmp_path)
    assert [row["name"] for row in json.loads(listed.stdout)] == ["acme"]
    assert shown["api_key"] not in listed.stdout
    again = run_command("owner", "create", "acme", data_dir=tmp_path)
    assert again.returncode == 1
    assert "already" in again.stderr
    assert "Traceback" not in again.stderr


def test_owner_suspend_resume_delete_by_name(tmp_path: Path):
    sqlite_database(tmp_path / "xairouter.db")
    run_command("owner", "create", "acme", data_dir=tmp_path)
    for verb in (["suspend"], ["resume"], ["delete", "--yes"]):
        done = run_command("owner", verb[0], "acme", *verb[1:], data_dir=tmp_path)
        assert done.returncode == 0, done.stderr
    assert run_command("owner", "suspend", "acme", data_dir=tmp_path).returncode == 1
    db = sqlite3.connect(tmp_path / "xairouter.db")
    assert db.execute("select count(*) from slots").fetchone() == (0,)
    assert db.execute("select status from accounts").fetchall() == [("deleted",)]
    db.close()


def test_settings_show_values_sources_and_no_secret(tmp_path: Path):
    done = run_command(
        "settings", "--json", XAIROUTER_PORT="9999", XAIROUTER_METRICS_TOKEN="tell-nobody"
    )
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["XAIROUTER_PORT"]["value"] == "9999"
    assert rows["XAIROUTER_PORT"]["source"] == "XAIROUTER_PORT"
    assert rows["XAIROUTER_HOST"]["source"] == "default"
    assert "tell-nobody" not in done.stdout


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"XAIROUTER_DRAIN_SECONDS": "abc"}, "XAIROUTER_DRAIN_SECONDS"),
        ({"XAIROUTER_WORKERS": "2"}, "several"),
        ({"XAIROUTER_VALKEY_URL": "mail://x"}, "VALKEY_URL"),
        ({"XAIROUTER_LOG_LEVEL": "loud"}, "LEVEL"),
        ({"XAIROUTER_DATABASE_URL": "mysql://x"}, "sqlite"),
        ({"XAIROUTER_DATABASE_URL": "postgresql://a:b@127.0.0.1:9/x"}, "cannot be used"),
        ({"XAIROUTER_TRUSTED_PROXIES": "nowhere"}, "PROXIES"),
        ({"XAIROUTER_AUTOMATION_SECRET": "short"}, "32"),
    ],
)
def test_impossible_settings_end_with_a_sentence(tmp_path: Path, environment, words):
    done = run_command("serve", "--port", "0", data_dir=tmp_path, **environment)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_says_what_is_well(tmp_path: Path):
    done = run_command("doctor", "--offline", is_new=True, data_dir=tmp_path / "d")
    assert done.returncode == 0, done.stdout + done.stderr
    for what in ("cryptography", "database", "clock", "TLS roots"):
        assert what in done.stdout


def test_doctor_names_a_database_from_the_future(tmp_path: Path):
    sqlite_database(tmp_path / "xairouter.db")
    run_command("owner", "create", "acme", data_dir=tmp_path)
    db = sqlite3.connect(tmp_path / "xairouter.db")
    db.execute("update alembic_version set version_num = '9999'")
    db.commit()
    db.close()
    done = run_command("doctor", "--offline", data_dir=tmp_path)
    assert done.returncode == 1
    assert "newer" in done.stdout
    serve = run_command("serve", "--port", "0", data_dir=tmp_path)
    assert serve.returncode == 1
    assert "newer" in serve.stderr


def test_a_taken_port_is_a_sentence(tmp_path: Path):
    sqlite_database(tmp_path / "xairouter.db")
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run_command("serve", "--port", port, data_dir=tmp_path)
    assert done.returncode == 1
    assert "Cannot listen" in done.stderr


async def test_commands_work_beside_a_running_router(tmp_path: Path):
    data_dir = tmp_path / "data"
    key = await create_owner(data_dir)
    router = await start_router(data_dir)
    assert (await router.ask("GET", "/api/v1/me", key))[0] == 200
    made = await asyncio.to_thread(
        run_command, "owner", "create", "second", "--json", data_dir=data_dir
    )
    second = json.loads(made.stdout)["api_key"]
    assert (await router.ask("GET", "/api/v1/me", second))[0] == 200
    await asyncio.to_thread(run_command, "owner", "suspend", "second", data_dir=data_dir)

    async def ended() -> bool:
        status, answer = await router.ask("GET", "/api/v1/me", second)
        return (status, answer.get("code")) == (401, "account_suspended")

    await until(ended)
    await router.terminate()


async def test_core_dumps_are_off_and_the_data_directory_is_private(tmp_path: Path):
    data_dir = tmp_path / "data"
    await create_owner(data_dir)
    router = await start_router(data_dir)
    limits = Path(f"/proc/{router.process.pid}/limits").read_text()
    assert [line.split()[4] for line in limits.splitlines() if "core file" in line] == ["0"]
    assert data_dir.stat().st_mode & 0o077 == 0
    await router.terminate()


def test_the_demo_runs_to_its_end_and_keeps_nothing(tmp_path: Path):
    done = run_command("demo", "--port", "0", "--once", TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("was served") == 3
    assert done.stdout.count("completed") == 3
    assert list(tmp_path.iterdir()) == []


async def test_the_demo_serves_until_it_is_interrupted(tmp_path: Path):
    import os
    import signal

    from tests.system.process import COMMAND

    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        "demo",
        "--port",
        "0",
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    while b"Ctrl-C" not in (line := await asyncio.wait_for(process.stdout.readline(), 120)):
        assert line, "the demo ended by itself"
    process.send_signal(signal.SIGINT)
    await asyncio.wait_for(process.stdout.read(), 120)
    assert await asyncio.wait_for(process.wait(), 120) == 0
    assert list(tmp_path.iterdir()) == []
