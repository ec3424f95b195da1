"""Fixtures that every test may use: a router in this process, the stand-in beside it."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.rig import Rig, start_rig
from tests.servers import drop_database, postgres_database

settings.register_profile(
    "project", max_examples=int(os.environ.get("XAIROUTER_TEST_EXAMPLES", "100")), deadline=None
)
settings.load_profile("project")

ON_BOTH = frozenset(
    {
        "test_accounts",
        "test_audit",
        "test_checkup",
        "test_console",
        "test_console_rooms",
        "test_custody",
        "test_explain",
        "test_ledger",
        "test_limits",
        "test_links",
        "test_notices",
        "test_management",
        "test_operations",
        "test_provider_keys",
        "test_rehearsal",
        "test_rules",
    }
)
"""Modules whose tests of a running router run on both kinds of database."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat the tests of storage, and of what lives off it, on SQLite and on PostgreSQL."""
    if "storage" not in metafunc.fixturenames:
        return
    module = metafunc.module.__name__.rpartition(".")[2]
    is_contract = ".contract." in metafunc.module.__name__
    both = (module in ON_BOTH or is_contract) and "sqlite_only" not in {
        mark.name for mark in metafunc.definition.iter_markers()
    }
    metafunc.parametrize("storage", ["sqlite", "postgresql"] if both else ["sqlite"], indirect=True)


@pytest.fixture
def storage(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database for this test; empty: the embedded one in the data directory."""
    if request.param == "sqlite":
        yield ""
        return
    url = postgres_database()
    yield url
    drop_database(url)


@pytest.fixture
async def rig(tmp_path: Path, storage: str) -> AsyncIterator[Rig]:
    """A running router with one owner, whose keys go to a stand-in provider."""
    made = await start_rig(tmp_path, database_url=storage)
    try:
        yield made
    finally:
        await made.stop()
