"""No test hangs the suite (tests/hangs.py): what does not end is planted, and a run ends and names it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CONFTEST = """
from tests import hangs
hangs._AGAIN, hangs._BEYOND, hangs._END, hangs._WORKER_END = 2, 4, 3, 3
hangs._SILENCE = 15

def pytest_collection_finish(session):
    if session.config.getoption("keyword") == "lost":
        for worker in session.config.pluginmanager.get_plugins():
            if getattr(worker, "workerid", "") == "gw0":
                put = worker.torun.put
                worker.torun.put = lambda item: isinstance(item, int) and put(item)
"""

TESTS = """
import asyncio, atexit, collections, itertools, threading, time
import pytest

@pytest.fixture
def never_ends():
    yield
    threading.Event().wait()

async def test_waits():
    await asyncio.Event().wait()

def test_fails_and_its_fixture_hangs(never_ends):
    raise ValueError

async def test_swallows():
    asyncio.get_running_loop().call_soon(time.sleep, 1.5)  # in which the alarm strikes
    await asyncio.Event().wait()

async def test_leaves_a_thread_to_the_loop():
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)

def test_is_in_c():
    collections.deque(itertools.repeat(0), maxlen=0)

def test_leaves_a_thread():
    threading.Thread(target=threading.Event().wait).start()

def test_leaves_an_exit_handler():
    atexit.register(threading.Event().wait)

def test_leaves_the_end_of_the_session(request):
    class Plugin:
        def pytest_sessionfinish(self):
            threading.Event().wait()

    request.config.pluginmanager.register(Plugin())

def test_is_lost():
    pass

def test_passes():
    pass
"""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_planted.py").write_text(TESTS)
    (folder / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode = auto\ntimeout = 1\ntimeout_method = signal\n"
        "asyncio_default_fixture_loop_scope = module\nasyncio_default_test_loop_scope = module\n"
        "addopts = -p tests.hangs -p no:cacheprovider -p no:hypothesispytest -p no:schemathesis\n"
    )
    return folder


def run(folder: Path, names: str, *options: str) -> str:
    """What a run of the planted tests says, which must end by itself."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-k", names, *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.stdout + done.stderr


@pytest.mark.slow
def test_what_python_can_end_fails_and_says_what_it_waits_for(planted: Path):
    said = run(planted, "waits or fails or swallows or to_the_loop or passes")
    assert re.search("3 failed, 2 passed, .*2 errors", said)
    assert "FAILED test_planted.py::test_waits - Failed: Timeout" in said
    assert "ERROR test_planted.py::test_fails_and_its_fixture_hangs - Failed: Timeout" in said
    assert "FAILED test_planted.py::test_swallows - Failed: Timeout" in said
    # A module's loop goes with its last test, and waits for its threads.
    assert "ERROR test_planted.py::test_passes - Failed: Timeout" in said
    # The coroutine that waits, not the loop's own wait alone.
    assert re.search(r'test_planted.py", line 11, in test_waits\n.*locks.py', said)


@pytest.mark.slow
def test_what_python_cannot_end_ends_a_worker_and_is_named(planted: Path):
    said = run(planted, "is_in_c or passes", "-n", "1", "--dist", "worksteal")
    assert "crashed while running 'test_planted.py::test_is_in_c'" in said
    assert re.search(r'test_planted.py", line \d+ in test_is_in_c', said)
    assert "1 failed, 1 passed" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stack"),
    [
        ("leaves_a_thread and not loop", "_shutdown"),
        ("leaves_an_exit_handler", "wait"),
        ("leaves_the_end_of_the_session", "pytest_sessionfinish"),
    ],
)
@pytest.mark.parametrize("options", [(), ("-n", "1", "--dist", "worksteal")])
def test_what_is_left_at_the_end_is_shown(
    name: str, stack: str, options: tuple[str, ...], planted: Path
):
    if "session" in name and not options:
        pytest.skip("a session of one process reports at its end, be it to a pager")
    said = run(planted, name, *options)
    assert "1 passed" in said
    assert "Timeout (0:00:03)!" in said
    assert f"in {stack}" in said


@pytest.mark.slow
def test_workers_that_say_nothing_are_ended(planted: Path):
    said = run(planted, "lost", "-n", "1", "--dist", "worksteal")
    assert "Nothing heard of the workers" in said
    assert "crashed while running 'test_planted.py::test_is_lost'" in said
