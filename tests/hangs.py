"""No test hangs the suite: what does not end becomes a failing test that says where it stood.

Four limits, each for what the one before cannot end:

1. pytest-timeout's, by SIGALRM, for a test with its fixtures (`timeout` in pyproject.toml, the mark
   ``timeout`` for more). It fails the test, and the run goes on. Here it also says what every task of
   the loop waits for, holds in the teardown of a test that had already failed, and strikes again when
   the failure was swallowed, as a callback of the loop does.
2. faulthandler's, for a test that Python code cannot end (it is in C): all threads' stacks on stderr,
   and the process ends. xdist names the test and starts another worker for what is left.
3. The same at the end of a worker's session, and of each process: for what is left of the tests,
   such as threads and exit handlers.
4. In the process that shares the tests out, for workers of which nothing is heard any more.
"""

import asyncio
import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_timeout

SLOW = 900.0  # a test marked ``slow`` without a limit of its own
_AGAIN = 30.0  # what a test that has failed may take to clear up
_BEYOND = 60.0  # how much later a process ends that is over its limit
_END = 60.0  # what a worker may take for the end of its session, and any process to end
_WORKER_END = 8.0  # what a worker may take to end: xdist kills it after 10 s, and says nothing
_SILENCE = SLOW + 2 * _BEYOND  # how long all workers may be silent

_STDERR = pytest.StashKey[int]()


def _stack(waiting: Any) -> Iterator[str]:
    """Where a suspended coroutine stands, down to what it waits for."""
    while waiting is not None:
        frame = next(
            (
                getattr(waiting, name)
                for name in ("cr_frame", "gi_frame", "ag_frame")
                if hasattr(waiting, name)
            ),
            None,
        )
        if frame is None:
            yield f"    for {waiting!r}\n"
            return
        yield f'  File "{frame.f_code.co_filename}", line {frame.f_lineno}, in {frame.f_code.co_name}\n'
        names = ("cr_await", "gi_yieldfrom", "ag_await")
        waiting = next((getattr(waiting, name) for name in names if hasattr(waiting, name)), None)


def _tasks() -> str:
    """What every task of the running loop waits for."""
    loop = asyncio._get_running_loop()
    if loop is None:
        return ""
    return "".join(
        f"Task {task.get_name()}:\n{''.join(_stack(task.get_coro()))}"
        for task in asyncio.all_tasks(loop)
    )


def _end_after(config: pytest.Config, seconds: float) -> None:
    """Show all threads and end the process in so many seconds, unless that is called off."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=config.stash[_STDERR])


def _set_timer(item: pytest.Item, settings: Any, seconds: float) -> None:
    def handler(*_: object) -> None:
        __tracebackhide__ = True
        print(_tasks())
        pytest_timeout.timeout_sigalrm(item, settings)

    def cancel() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()

    item.cancel_timeout = cancel  # type: ignore[attr-defined]
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    _end_after(item.config, seconds + _BEYOND)


def pytest_configure(config: pytest.Config) -> None:
    # Output is not captured yet: this is the process's own, which a worker shares.
    config.stash[_STDERR] = os.dup(2)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    # What is registered last runs first, before the interpreter waits for threads and executors.
    seconds = _WORKER_END if hasattr(config, "workerinput") else _END
    threading._register_atexit(_end_after, config, seconds)  # type: ignore[attr-defined]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW))


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool | None:
    if settings.method != "signal" or threading.current_thread() is not threading.main_thread():
        return None
    _set_timer(item, settings, settings.timeout)
    return True


@pytest.hookimpl(trylast=True)
def pytest_exception_interact(node: pytest.Item) -> None:
    """The plugins call their timers off when a test fails; its fixtures have yet to be torn down."""
    if isinstance(node, pytest.Item) and hasattr(node, "cancel_timeout"):
        settings = pytest_timeout._get_item_settings(node)
        if not pytest_timeout.is_debugging() and not node.config.getoption("usepdb"):
            _set_timer(node, settings, _AGAIN)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    if not hasattr(session.config, "workerinput"):
        return (yield)
    _end_after(session.config, _END)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


class _Watch:
    """Ends the workers when nothing has been heard of any for long, and this process if need be."""

    def __init__(self, group: Any) -> None:
        self.group, self.running = group, set[str]()
        self._heard = time.monotonic()
        self._is_over = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.running.add(nodeid)
        self._heard = time.monotonic()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.running.discard(nodeid)
        self._heard = time.monotonic()

    def pytest_xdist_node_collection_finished(self) -> None:
        self._heard = time.monotonic()

    def pytest_sessionfinish(self) -> None:
        self._is_over.set()

    def _run(self) -> None:
        for end in (self._end_workers, lambda: os._exit(1)):
            self._heard = time.monotonic()
            while time.monotonic() - self._heard < _SILENCE:
                if self._is_over.wait(1):
                    return
            print(
                f"\nNothing heard of the workers; running: {sorted(self.running)}", file=sys.stderr
            )
            end()

    def _end_workers(self) -> None:
        """They show their threads, for faulthandler does, and xdist starts others in their place."""
        for gateway in list(self.group):
            gateway._io.popen.send_signal(signal.SIGABRT)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodeready(node: Any) -> None:
    plugins = node.config.pluginmanager
    if not plugins.has_plugin("watch"):
        plugins.register(_Watch(node.gateway._group), "watch")
