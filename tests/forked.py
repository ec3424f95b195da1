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
from collections.abc import Mapping
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
    # It may start processes itself, as any command may.
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
    from tests.patience import be_patient
    from xairouter.cli import main

    be_patient(databases=False)
    try:
        main()
    finally:
        atexit._run_exitfuncs()  # a process of multiprocessing ends without
