"""Processes that start from one that has the product's modules already: reading them takes a second of
a processor, and is what most tests of a process would spend their time with.

Each is a process like any other, with its own number, files, settings and end. What starting from
nothing adds is seen by the tests that say so (``is_new``), and by those of the docs' commands.
"""

import atexit
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Mapping
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess

_PRELOADED = ["tests.forked", "tests.patience"]
_PRELOADED += ["xairouter.app", "xairouter.cli", "xairouter.manage.rehearse"]
# What these read when they first need it.
_PRELOADED += ["aiosqlite", "asyncpg", "alembic.command", "uvicorn.main", "uvloop"]


def context() -> ForkServerContext:
    """What starts such processes."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(_PRELOADED)
    return made


def start_command(
    arguments: list[str], environment: Mapping[str, str], output: str | Connection, errors: str
) -> BaseProcess:
    """Start ``xairouter …`` that writes to a file or a pipe, and errors to the end of a file."""
    values = arguments, dict(environment), os.getcwd(), output, errors
    # Whatever a test leaves behind is ended with the tests.
    process = context().Process(target=_command, args=values, daemon=True)
    process.start()
    return process


class _Clock:
    """The wall clock, by so many milliseconds ahead as a file says."""

    def __init__(self, ahead: str) -> None:
        self._ahead = ahead

    def time_ns(self) -> int:
        try:
            with open(self._ahead) as file:
                ahead = int(file.read() or 0)
        except FileNotFoundError:
            ahead = 0
        return time.time_ns() + ahead * 1_000_000


def _turn_clocks(environment: Mapping[str, str]) -> None:
    """The times of a process that tests may set: how far its wall clock is ahead, and after how many
    seconds it compares its counters with the records."""
    from xairouter import clock
    from xairouter.counters import reconciling

    if ahead := environment.get("XAIROUTER_TEST_CLOCK"):
        setattr(clock, "time", _Clock(ahead))  # noqa: B010 -- what the module asks for the time
    if every := environment.get("XAIROUTER_TEST_COMPARE"):
        often = partial(reconciling.Times, float(every), 1.0)
        reconciling.Times = often  # type: ignore[assignment, misc]


def _command(
    arguments: list[str],
    environment: dict[str, str],
    folder: str,
    output: str | Connection,
    errors: str,
) -> None:
    """The command, in its process, as ``python -m xairouter`` would run it."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for place, number in ((output, 1), (errors, 2)):
        if isinstance(place, Connection):
            os.dup2(place.fileno(), number)
            place.close()
        else:
            file = os.open(place, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.dup2(file, number)
            os.close(file)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.argv = ["xairouter", *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Under nohup the tests, and whatever they start, would ignore it.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # It may start processes itself, as any command may.
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
    from tests.patience import be_patient
    from xairouter.cli import main

    be_patient(databases=False)
    _turn_clocks(environment)
    try:
        main()
    finally:
        atexit._run_exitfuncs()  # a process of multiprocessing ends without
