"""What SQLite and PostgreSQL do differently; everything else in storage is the same for both.

Both give the same promises: a write transaction sees everything that was committed before it and
is alone while it runs, so numbers of ``changes`` grow in the order of commits; a commit is on disk
when it returns; what a lock keeps waiting for longer than ten seconds ends in an error.
"""

import asyncio
import sqlite3
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

from xairouter.errors import ConfigError

LOCK_WAIT_MS = 10_000
_CHECKPOINT_TRIES = 50
_CHECKPOINT_EVERY_SECONDS = 0.1
WRITER_PAUSE_MS = 7000
"""Longer than a busy machine keeps a writer from going on, which would cost it its change."""
_CONNECT_SECONDS = 5
_STATEMENT_SECONDS = 60
_POOL_SIZE, _POOL_SECONDS = 8, 10
_WAL_TRIES, _WAL_SECONDS = 100, 0.05
_WRITERS = 0x78_61_69_72  # "xair": the advisory lock that writers of all instances queue for


class Driver(Protocol):
    """One kind of database."""

    def engine(self) -> AsyncEngine:
        """Connections to the database, pooled."""

    def reading(self, engine: AsyncEngine) -> AsyncEngine:
        """The same engine, for statements that each stand alone."""

    def snapshots(self, engine: AsyncEngine) -> AsyncEngine:
        """The same engine, for transactions whose statements see one state and write nothing."""

    async def begin_reading(self, connection: AsyncConnection) -> None:
        """Begin such a transaction."""

    async def begin(self, connection: AsyncConnection, *, is_long: bool) -> None:
        """Begin a transaction and wait until no other writer is under way. One that is not
        ``is_long`` must not pause for more than a few seconds."""

    async def version(self, connection: AsyncConnection) -> int:
        """A number that moves when another connection has committed a change of an owner."""

    async def others(self, connection: AsyncConnection, instance: str) -> int:
        """How many instances beside this one keep a connection on which they ask this."""

    async def forget_deleted(self, connection: AsyncConnection) -> None:
        """Empty the places in which a deleted row still stands, as far as the database can."""

    async def damage(self, connection: AsyncConnection) -> str | None:
        """A sentence about damage that the database itself finds, None if it finds none."""


def driver_for(url: str) -> Driver:
    """The driver of a database URL; raises ConfigError if there is none for it."""
    scheme, _, rest = url.partition("://")
    name = scheme.partition("+")[0]
    if name == "sqlite":
        return SQLite(f"sqlite+aiosqlite://{rest}")
    if name in ("postgresql", "postgres"):
        return PostgreSQL(f"postgresql+asyncpg://{rest}")
    raise ConfigError(
        ["XAIROUTER_DATABASE_URL: give postgresql://… or sqlite:///…, or leave it empty."]
    )


class SQLite:
    """A file: WAL mode, ``secure_delete`` (what is deleted is overwritten), durable commits.

    Write transactions take the lock at their begin, so that two of them never deadlock.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def engine(self) -> AsyncEngine:
        made = create_async_engine(
            self._url, pool_size=_POOL_SIZE, max_overflow=0, pool_timeout=_POOL_SECONDS
        )
        event.listen(made.sync_engine, "connect", _prepare)
        return made

    def reading(self, engine: AsyncEngine) -> AsyncEngine:
        return engine

    def snapshots(self, engine: AsyncEngine) -> AsyncEngine:
        return engine

    async def begin_reading(self, connection: AsyncConnection) -> None:
        await connection.execute(sa.text("BEGIN"))

    async def begin(self, connection: AsyncConnection, *, is_long: bool) -> None:
        await connection.execute(sa.text("BEGIN IMMEDIATE"))

    async def version(self, connection: AsyncConnection) -> int:
        return int((await connection.execute(sa.text("PRAGMA data_version"))).scalar_one())

    async def others(self, connection: AsyncConnection, instance: str) -> int:
        return 0

    async def forget_deleted(self, connection: AsyncConnection) -> None:
        # A checkpoint that waits for readers keeps all writers out meanwhile, up to a minute: it does
        # not wait, and others go on between two tries.
        await connection.execute(sa.text("PRAGMA busy_timeout=0"))
        try:
            for _ in range(_CHECKPOINT_TRIES):
                done = await connection.execute(sa.text("PRAGMA wal_checkpoint(TRUNCATE)"))
                if not done.one()[0]:
                    return
                await asyncio.sleep(_CHECKPOINT_EVERY_SECONDS)
        finally:
            await connection.execute(sa.text("PRAGMA busy_timeout=10000"))  # LOCK_WAIT_MS

    async def damage(self, connection: AsyncConnection) -> str | None:
        checked = (await connection.execute(sa.text("PRAGMA quick_check"))).scalar_one()
        return None if checked == "ok" else "SQLite reports damage; restore a backup."


def _prepare(connection: Any, _record: object) -> None:
    # The driver's own transaction handling would begin late; we begin explicitly.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout={LOCK_WAIT_MS}",
        "synchronous=FULL",
        "foreign_keys=ON",
        "secure_delete=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    for left in reversed(range(_WAL_TRIES)):
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError:
            # Where several open a new file at once, SQLite does not wait for whoever is first.
            if not left:
                raise
            await_only(asyncio.sleep(_WAL_SECONDS))
    cursor.close()


class PostgreSQL:
    """A server, for installations that keep their data there; 14 or newer.

    Writers queue for one advisory lock. It makes them as exclusive as SQLite's are, so that one
    set of queries is right on both, and holds nobody up who only reads.
    """

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        query = dict(parsed.query)
        # libpq's word for it, which everybody's URLs have; the driver calls it ssl.
        if "sslmode" in query:
            query["ssl"] = query.pop("sslmode")
        self._url = parsed.set(query=query)

    def engine(self) -> AsyncEngine:
        return create_async_engine(
            self._url,
            pool_size=_POOL_SIZE,
            max_overflow=0,
            pool_timeout=_POOL_SECONDS,
            pool_pre_ping=True,
            connect_args={
                "timeout": _CONNECT_SECONDS,
                "command_timeout": _STATEMENT_SECONDS,
                "server_settings": {
                    "application_name": "xairouter",
                    "jit": "off",
                    "lock_timeout": str(LOCK_WAIT_MS),
                    # A writer that is cut off must not keep the others waiting.
                    "idle_in_transaction_session_timeout": str(WRITER_PAUSE_MS),
                    "synchronous_commit": "on",
                },
            },
        )

    def reading(self, engine: AsyncEngine) -> AsyncEngine:
        return engine.execution_options(isolation_level="AUTOCOMMIT")

    def snapshots(self, engine: AsyncEngine) -> AsyncEngine:
        return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    async def begin_reading(self, connection: AsyncConnection) -> None:
        """The driver begins with the first statement."""

    async def begin(self, connection: AsyncConnection, *, is_long: bool) -> None:
        if is_long:
            await connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_WRITERS)))

    async def version(self, connection: AsyncConnection) -> int:
        newest = await connection.execute(sa.text("SELECT max(seq) FROM changes"))
        return int(newest.scalar() or 0)

    async def others(self, connection: AsyncConnection, instance: str) -> int:
        own = f"xairouter {instance}"
        naming = sa.text("SELECT set_config('application_name', :own, false)")
        await connection.execute(naming, {"own": own})
        counted = await connection.execute(
            sa.text(
                "SELECT count(DISTINCT application_name) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name <> :own "
                "AND application_name LIKE 'xairouter inst\\_%'"
            ),
            {"own": own},
        )
        return int(counted.scalar_one())

    async def forget_deleted(self, connection: AsyncConnection) -> None:
        await connection.execute(sa.text("VACUUM slots, provider_keys"))

    async def damage(self, connection: AsyncConnection) -> str | None:
        version = (await connection.execute(sa.text("SHOW server_version_num"))).scalar_one()
        if int(version) < 140000:
            return "PostgreSQL is older than 14; upgrade it."
        return None
