"""What a process holds in memory when it has started: what it does not need is not loaded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

STARTED = """
import asyncio, json, sys
from pathlib import Path
from xairouter.app import House
from xairouter.settings import load

async def started():
    house = House(load(data_dir=Path(sys.argv[1])))
    await house.start()
    house.application()
    await house.stop()

asyncio.run(started())
print(json.dumps(sorted(sys.modules)))
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The modules of a process that has started in a folder where one had started before."""
    folder = tmp_path_factory.mktemp("started")
    for _ in range(2):
        printed = _start(folder)
    return set(json.loads(printed))


def _start(folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", STARTED, str(folder)], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("module", "why"),
    [
        ("alembic", "the schema is as it should be"),
        ("sqlalchemy.dialects.postgresql", "the database is SQLite"),
        ("asyncpg", "the database is SQLite"),
        ("valkey", "counters are in memory"),
        ("genai_prices.data", "its prices have been compiled"),
    ],
)
def test_what_a_started_process_does_not_need_is_not_loaded(
    loaded: set[str], module: str, why: str
):
    assert "xairouter.app" in loaded
    assert module not in loaded, why
