"""Fixtures that every test may use: a router in this process, the stand-in beside it."""

import gc
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from tests.forked import context
from tests.patience import PRODUCT, be_patient
from tests.rig import Rig, start_rig
from tests.servers import drop_database, postgres_database
from tests.statements import share_statements
from xairouter.manage import rehearse

pytest_plugins = ["tests.hangs"]

# More than a million objects of all modules and tests stay until the end: to walk over them, in search
# of garbage that there is not, would take a tenth of the tests' time.
gc.disable()

# Few for every day; make test-slow runs them with more, and make fuzz with very many.
settings.register_profile(
    "project", max_examples=int(os.environ.get("XAIROUTER_TEST_EXAMPLES", "30")), deadline=None
)
settings.load_profile("project")

# The library's own renderer draws each traceback with its source, which takes seconds.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(
            colors=False, exception_formatter=structlog.dev.plain_traceback
        ),
    ]
)

be_patient()

share_statements()

# A rehearsal's process has the modules already (tests.forked), but in the test that sets this again.
rehearse._START = context().get_start_method()


def pytest_collection_finish() -> None:
    """What reading the tests has made is left out when garbage is looked for from here on."""
    gc.freeze()
    gc.enable()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what is tried with generated examples, so that it can be chosen."""
    if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
        item.add_marker(pytest.mark.property)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked ``both``, for it concerns storage, on SQLite and on PostgreSQL."""
    is_both = metafunc.definition.get_closest_marker("both") is not None
    if is_both and "database_kind" in metafunc.fixturenames:
        kinds = ("sqlite", "postgresql")
        metafunc.parametrize("database_kind", kinds, indirect=True, scope="module")


@pytest.fixture
def product_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a test that is about them: the times of ``tests.patience`` as they are in operation."""
    for (module, name), value in PRODUCT.items():
        monkeypatch.setattr(f"{module}.{name}", value)


@pytest.fixture(scope="module")
def database_kind(request: pytest.FixtureRequest) -> str:
    """``sqlite`` or ``postgresql``."""
    return str(getattr(request, "param", "sqlite"))


def _database(kind: str) -> Iterator[str]:
    """The URL of a database; empty: the embedded one in the data directory."""
    if kind == "sqlite":
        yield ""
        return
    url = postgres_database()
    yield url
    drop_database(url)


@pytest.fixture
def storage(database_kind: str) -> Iterator[str]:
    """The URL of a database for this test."""
    yield from _database(database_kind)


@pytest.fixture(scope="module")
def shared_storage(database_kind: str) -> Iterator[str]:
    """The URL of a database for the module's shared router."""
    yield from _database(database_kind)


@pytest.fixture
async def own_rig(
    request: pytest.FixtureRequest, tmp_path: Path, storage: str
) -> AsyncIterator[Rig]:
    """A router for this test alone, with the settings that the mark ``own_rig`` names."""
    mark = request.node.get_closest_marker("own_rig")
    made = await start_rig(tmp_path, database_url=storage, **(mark.kwargs if mark else {}))
    try:
        yield made
    finally:
        await made.stop()


@pytest.fixture(scope="module")
async def module_rig(
    tmp_path_factory: pytest.TempPathFactory, shared_storage: str
) -> AsyncIterator[Rig]:
    """The router that a module's tests share; they get it as ``shared_rig``."""
    made = await start_rig(tmp_path_factory.mktemp("rig"), database_url=shared_storage)
    await made.delete_owners()
    try:
        yield made
    finally:
        await made.stop()


@pytest.fixture
async def shared_rig(module_rig: Rig) -> AsyncIterator[Rig]:
    """The module's router with an owner, a stand-in and client connections for this test alone."""
    made = await module_rig.with_new_owner()
    try:
        yield made
    finally:
        await made.leave()


@pytest.fixture
def rig(request: pytest.FixtureRequest, database_kind: str) -> Rig:
    """A running router with one owner, whose keys go to a stand-in provider.

    Starting one costs more than most tests: in a module marked ``shared_rig`` the tests use one
    router, each as an owner of its own. A test that changes the process (its clock, its journal), or
    looks at the whole installation (its files, its tables, its metrics), is marked ``own_rig``.
    """
    names = [mark.name for mark in request.node.iter_markers()]
    is_shared = "shared_rig" in names and "own_rig" not in names
    made: Rig = request.getfixturevalue("shared_rig" if is_shared else "own_rig")
    return made
