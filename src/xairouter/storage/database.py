"""Connections and transactions, on whichever database the URL names.

Every commit is forced to disk, because the journal forgets what was stored. Write transactions of
one process queue up before they take a connection, so that a locked database leaves reading alone;
they go by turns of owners, so that nobody's many changes hold up another's.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from xairouter.errors import ERRORS, ErrorCode, StorageError
from xairouter.storage import migrate
from xairouter.storage.drivers import driver_for
from xairouter.turns import Places

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

T = TypeVar("T")
READ_SECONDS = 30.0
WRITE_SECONDS = 30.0


class Database:
    """One database. ``read`` gives a connection, ``write`` a transaction that commits at its end.

    Raises ConfigError for a URL of an unknown kind.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._driver = driver_for(url)
        self._engine = self._driver.engine()
        self._reading = self._driver.reading(self._engine)
        self._snapshots = self._driver.snapshots(self._engine)
        self._writing = Places(most=1, each=1)
        self._is_left = False

    @asynccontextmanager
    async def read(self, *, seconds: float | None = READ_SECONDS) -> AsyncIterator[AsyncConnection]:
        """A connection for reading; raises StorageError when the database cannot be used, or has
        not answered within ``seconds`` (None: however long it takes).

        Each statement stands alone: two of them may see two states. Who compares what several of
        them say takes a ``snapshot``.
        """
        async with _connected(self._reading, seconds) as connection:
            yield connection

    @asynccontextmanager
    async def snapshot(
        self, *, seconds: float | None = READ_SECONDS
    ) -> AsyncIterator[AsyncConnection]:
        """The same, and all its statements see one state. Not for long while a router
        runs: meanwhile neither database can reuse the room of what others delete or overwrite."""
        async with _connected(self._snapshots, seconds) as connection:
            await self._driver.begin_reading(connection)
            yield connection

    @asynccontextmanager
    async def write(
        self, whose: str = "", *, seconds: float | None = WRITE_SECONDS
    ) -> AsyncIterator[AsyncConnection]:
        """A write transaction, the only one; commits at the end, rolls back on any exception.

        ``whose`` – the owner who waits for it; empty for the installation's own.

        Where its commit is not answered in time it may have happened: what is written is such that
        writing it again does no harm.
        """
        async with self._writing.place(whose), _connected(self._engine, seconds) as connection:
            await self._driver.begin(connection, is_long=seconds is None)
            is_whole = False
            try:
                yield connection
                is_whole = True
            finally:
                if not is_whole:
                    await connection.rollback()
            await connection.commit()

    async def version(self, connection: AsyncConnection) -> int:
        """A number that moves when another connection commits a change of an owner."""
        return await self._driver.version(connection)

    async def others(self, connection: AsyncConnection, instance: str) -> int:
        """How many other instances use this database now, by a connection that each keeps for
        asking this; 0 where only one machine can."""
        return await self._driver.others(connection, instance)

    async def forget_deleted(self) -> None:
        """After a deletion: empty the places in which the deleted row still stands (SQLite's
        write-ahead log, PostgreSQL's dead rows). Where that is not possible now it is left to
        ``forget_left``: who has changed something must get what was made."""
        self._is_left = True
        with suppress(StorageError):
            async with self.read(seconds=None) as connection:
                await self._driver.forget_deleted(connection)
            self._is_left = False

    async def forget_left(self) -> None:
        """Do what ``forget_deleted`` could not."""
        if self._is_left:
            await self.forget_deleted()

    async def damage(self) -> str | None:
        """A sentence about damage that the database finds in itself, None if it finds none."""
        async with self.read(seconds=None) as connection:
            return await self._driver.damage(connection)

    async def is_new(self) -> bool:
        """Whether nothing has ever been stored here; makes nothing."""
        if self._engine.dialect.name == "sqlite" and migrate.is_missing(self._engine.url.database):
            return True
        async with self.read() as connection:
            return await connection.run_sync(migrate.is_unmade)

    async def lacking(self) -> list[str]:
        """Tables and columns of this code's schema that are not there."""
        async with self.read() as connection:
            return await connection.run_sync(migrate.lacking)

    async def migrate(self, to: str = migrate.HEAD) -> None:
        """Bring the schema to a revision, this code's own unless told otherwise; forward only.

        One instance at a time, all or nothing. Raises StorageError if the database has a revision
        that this code does not know.
        """
        async with self.read() as connection:
            if await connection.run_sync(migrate.is_at, to):
                return
        async with self.write(seconds=None) as connection:
            await connection.run_sync(migrate.upgrade, to)

    async def close(self) -> None:
        await self._engine.dispose()


@asynccontextmanager
async def _connected(engine: AsyncEngine, seconds: float | None) -> AsyncIterator[AsyncConnection]:
    """A connection whose failures are StorageErrors; they never hold a statement's values."""
    failure: BaseException | None = None
    try:
        async with asyncio.timeout(seconds), engine.connect() as connection:
            yield connection
    except SQLAlchemyError as error:
        failure = getattr(error, "orig", None) or error
    except (OSError, TimeoutError) as error:  # PostgreSQL's driver lets these through.
        failure = error
    if failure is not None:
        raise StorageError(
            _words(failure, engine.url), ERRORS[ErrorCode.STORAGE_UNAVAILABLE].meaning
        )


def _words(failure: BaseException, url: sa.URL) -> str:
    """What failed, in words that hold no value of a statement."""
    names = [str(getattr(failure, "sqlite_errorname", ""))]
    names += [type(one).__name__ for one in (failure, failure.__cause__) if one is not None]
    for name in names:
        for beginning, why in _WORDS.items():
            if name.startswith(beginning):
                return f"The database {_place(url)} cannot be used now: {why} ({name})."
    return f"The database {_place(url)} cannot be used now ({type(failure).__name__})."


def _place(url: sa.URL) -> str:
    """A file, or a server's address and the database's name there; no user and no password."""
    if url.get_backend_name() == "sqlite":
        return url.database or "in memory"
    folder = url.query.get("host", "localhost")
    host = url.host or (folder if isinstance(folder, str) else ",".join(folder))
    return f"{host}:{url.port or _POSTGRESQL_PORT}/{url.database or ''}"


_POSTGRESQL_PORT = 5432
_WORDS = {
    "SQLITE_CORRUPT": "it is damaged; restore a backup",
    "SQLITE_NOTADB": "this is no SQLite database, or its first page is damaged; restore a backup",
    "SQLITE_CANTOPEN": "it cannot be opened; look at its folder and who may read and write there",
    "SQLITE_READONLY": "it may not be written; look at who may write there",
    "SQLITE_PERM": "it may not be read; look at who may read there",
    "SQLITE_FULL": "its disk is full",
    "SQLITE_IOERR": "its disk failed",
    "SQLITE_BUSY": "another process holds it",
    "gaierror": "its host's name leads nowhere",
    "ConnectionRefusedError": "nothing listens there",
    "ConnectionResetError": "it broke the connection off",
    "ConnectionDoesNotExistError": "it broke the connection off",
    "FileNotFoundError": "there is no socket of a server",
    "TimeoutError": "it did not answer in time",
    "InvalidPasswordError": "it does not take this user with this password",
    "InvalidAuthorizationSpecificationError": "it does not take this user",
    "InvalidCatalogNameError": "it has no database of this name",
    "InsufficientPrivilegeError": "the user may not do this there",
    "TooManyConnectionsError": "it takes no more connections",
    "CannotConnectNowError": "it starts, or ends",
    "AdminShutdownError": "it ends",
    "ReadOnlySQLTransactionError": "it takes no changes; it may be a copy of another",
    "DiskFullError": "its disk is full",
}
"""What failures mean, by what their names begin with: SQLite's names of errors, and classes of the
system's, of Python's driver and of PostgreSQL's."""


@cache
def _insert_statement(table: sa.Table, dialect: sa.Dialect) -> tuple[str, tuple[str, ...]]:
    """A table's INSERT in the driver's own words, and its columns in the order of the values."""
    compiled = table.insert().compile(dialect=dialect, column_keys=list(table.c.keys()))
    return str(compiled), tuple(compiled.positiontup or ())


async def in_steps(items: Sequence[T], size: int) -> AsyncIterator[Sequence[T]]:
    """Many things in parts of so many, each of which should take a millisecond or two: between two
    of them, calls go on."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
        await asyncio.sleep(0)


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
    await connection.exec_driver_sql(statement, list(map(itemgetter(*names), rows)))


def insert_into(dialect: sa.Dialect, table: sa.Table) -> "sqlite.Insert | postgresql.Insert":
    """An INSERT in a database's own dialect, which knows ON CONFLICT."""
    if dialect.name == "postgresql":
        # Here alone: beside the embedded database its 1.5 MB would lie idle.
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)
    return sqlite.insert(table)
