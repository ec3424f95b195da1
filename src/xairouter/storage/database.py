"""Connections, transactions and migrations.

SQLite runs in WAL mode with ``secure_delete`` (what is deleted is overwritten) and short lock
waits; every commit is forced to disk, because the journal forgets what was stored. Write
transactions take the lock at their begin, so that two of them never deadlock; those of one process
queue up before they take a connection, so that a locked database leaves reading alone.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from xairouter.errors import StorageError

BUSY_MS = 5000
_MIGRATIONS = Path(__file__).parent / "migrations"


class Database:
    """One database. ``read`` gives a connection, ``write`` a transaction that commits at its end."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._engine: AsyncEngine = create_async_engine(
            url, pool_size=8, max_overflow=0, pool_timeout=10
        )
        self._writing = asyncio.Lock()
        event.listen(self._engine.sync_engine, "connect", _prepare_connection)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for reading; raises StorageError when the database cannot be used."""
        try:
            async with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise _storage_error(error) from None

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A write transaction; commits at the end, rolls back on any exception."""
        try:
            async with self._writing, self._engine.connect() as connection:
                await connection.execute(sa.text("BEGIN IMMEDIATE"))
                is_whole = False
                try:
                    yield connection
                    is_whole = True
                finally:
                    if not is_whole:
                        await connection.rollback()
                await connection.commit()
        except SQLAlchemyError as error:
            raise _storage_error(error) from None

    async def data_version(self, connection: AsyncConnection) -> int:
        """A number that moves when another connection commits (SQLite's own)."""
        return int((await connection.execute(sa.text("PRAGMA data_version"))).scalar_one())

    async def shrink_log(self) -> None:
        """After a deletion: empty the write-ahead log, where the deleted row still stands."""
        async with self.read() as connection:
            await connection.execute(sa.text("PRAGMA wal_checkpoint(TRUNCATE)"))

    async def close(self) -> None:
        await self._engine.dispose()

    async def migrate(self) -> None:
        """Bring the schema to this code's revision; refuses a newer one with a sentence."""
        await asyncio.to_thread(migrate, self.url)


@cache
def _insert_statement(table: sa.Table, dialect: sa.Dialect) -> tuple[str, tuple[str, ...]]:
    """A table's INSERT in the driver's own words, and its columns in the order of the values."""
    compiled = table.insert().compile(dialect=dialect, column_keys=list(table.c.keys()))
    return str(compiled), tuple(compiled.positiontup or ())


async def insert_rows(
    connection: AsyncConnection, table: sa.Table, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert many rows, each with a value for every column.

    Straight to the driver: binding the values of thousands of rows one by one would cost more
    than the rest of the drain together.
    """
    if not rows:
        return
    statement, names = _insert_statement(table, connection.dialect)
    values = [tuple(row[name] for name in names) for row in rows]
    await connection.exec_driver_sql(statement, values)


def _storage_error(error: SQLAlchemyError) -> StorageError:
    cause = type(getattr(error, "orig", error)).__name__
    return StorageError(f"The database cannot be used now ({cause}).")


def _prepare_connection(connection: Any, _record: object) -> None:
    # The driver's own transaction handling would begin late; we begin explicitly.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "secure_delete=ON",
        f"busy_timeout={BUSY_MS}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def migrate(url: str) -> None:
    """Run the migrations of a database in the foreground; forward only.

    Raises StorageError if the database's revision is not one that this code knows.
    """
    engine = sa.create_engine(url.replace("+aiosqlite", ""))
    try:
        with engine.connect() as connection:
            found = _revision(connection)
        known = _known_revisions()
        if found == known[-1]:
            return
        if found is not None and found not in known:
            raise StorageError(
                f"The database has revision {found}, which this version does not know: it was "
                "written by a newer one. Upgrade the software."
            )
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS))
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except DBAPIError as error:
        raise _storage_error(error) from None
    finally:
        engine.dispose()


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def _known_revisions() -> list[str]:
    """Revisions in order; file names begin with them (0001_….py)."""
    return sorted(path.name[:4] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))
