"""Copying an installation from one database into another: all of it, checked, and to be gone on with
after a break.

The target notes how far it has come in a table of its own, ``xairouter_move``, in the transaction
that copies. The table stays when everything is there, so that the same command, broken off in its very
last step or given twice, finds that out.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.errors import StorageError
from xairouter.storage.database import Database, insert_rows
from xairouter.storage.tables import accounts, changes, metadata, owners

BATCH = 1000
_notes = sa.Table(
    "xairouter_move",
    sa.MetaData(),
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
)
_SOURCE = "(source)"
_FINISHED = "(finished)"
_DONE = "done"


@dataclass(frozen=True, slots=True)
class Copied:
    """How many rows of a table there are now, on both sides."""

    table: str
    rows: int


async def move(
    source: Database, target: Database, say: Callable[[Copied], None]
) -> Sequence[Copied]:
    """Copy every table; ``say`` is told of each that is whole.

    Raises StorageError where the target holds something else, the source changed since the copying
    began, or the counts differ at the end.
    """
    mark = await _fingerprint(source)
    was_finished = await _begin(target, mark)
    found = []
    for table in metadata.sorted_tables:
        await _copy(source, target, table)
        here, there = await _count(source, table), await _count(target, table)
        if here != there:
            await _check_unchanged(source, mark)
            said = (
                f"The table {table.name} has {here} rows in the source and {there} in the target."
            )
            if was_finished:
                said = f"Everything was copied before, and the target has changed since. {said}"
            raise StorageError(said)
        found.append(Copied(table.name, there))
        say(found[-1])
    await _check_unchanged(source, mark)
    async with target.write(seconds=None) as connection:
        if not was_finished:
            await _after(connection)
            await _keep(connection, _FINISHED, _DONE)
    return found


async def _check_unchanged(source: Database, mark: str) -> None:
    if await _fingerprint(source) != mark:
        raise StorageError(
            "The source changed while it was copied: stop the router, empty the target, and begin "
            "again."
        )


async def _begin(target: Database, mark: str) -> bool:
    """Whether everything was copied before."""
    async with target.write(seconds=None) as connection:
        await connection.run_sync(lambda sync: _notes.create(sync, checkfirst=True))
        known = await _note(connection, _SOURCE)
        if known is None:
            if (await connection.execute(sa.select(sa.func.count()).select_from(owners))).scalar():
                raise StorageError("The target database holds owners already; name an empty one.")
            await _keep(connection, _SOURCE, mark)
        elif known != mark:
            raise StorageError(
                "The target holds a part of another source, or the source changed since: empty the "
                "target and begin again."
            )
        return await _note(connection, _FINISHED) == _DONE


async def _copy(source: Database, target: Database, table: sa.Table) -> None:
    key = list(table.primary_key)
    while True:
        async with target.write(seconds=None) as connection:
            state = await _note(connection, table.name)
            if state == _DONE:
                return
            if table is accounts or not key:
                # Parents before children, or rows that nothing tells apart: all at once.
                await _copy_whole(source, connection, table)
                await _keep(connection, table.name, _DONE)
                return
            behind = None if state is None else msgspec.msgpack.decode(bytes.fromhex(state))
            rows = await _page(source, table, key, behind)
            await insert_rows(connection, table, rows)
            if len(rows) < BATCH:
                await _keep(connection, table.name, _DONE)
                return
            last = [rows[-1][column.name] for column in key]
            await _keep(connection, table.name, msgspec.msgpack.encode(last).hex())


async def _page(
    source: Database, table: sa.Table, key: Sequence[Any], behind: Sequence[Any] | None
) -> Sequence[dict[str, Any]]:
    query = sa.select(table).order_by(*key).limit(BATCH)
    if behind is not None:
        query = query.where(sa.tuple_(*key) > sa.tuple_(*behind))
    async with source.read(seconds=None) as connection:
        return [dict(row) for row in (await connection.execute(query)).mappings()]


async def _copy_whole(source: Database, connection: AsyncConnection, table: sa.Table) -> None:
    async with source.read(seconds=None) as reading:
        rows = [dict(row) for row in (await reading.execute(sa.select(table))).mappings()]
    if table is accounts:
        rows = _parents_first(rows)
    for start in range(0, len(rows), BATCH):
        await insert_rows(connection, table, rows[start : start + BATCH])


def _parents_first(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    below: dict[str | None, list[dict[str, Any]]] = {}
    for row in rows:
        below.setdefault(row["parent_id"], []).append(row)
    found = list(below.get(None, []))
    for row in found:
        found.extend(below.get(row["id"], []))
    return found


async def _fingerprint(source: Database) -> str:
    """What moves with every commit that matters: counts of all tables, and the newest change."""
    async with source.snapshot(seconds=None) as connection:
        words = [
            f"{table.name}={await _counted(connection, table)}" for table in metadata.sorted_tables
        ]
        newest = (await connection.execute(sa.select(sa.func.max(changes.c.seq)))).scalar()
        first = (await connection.execute(sa.select(sa.func.min(owners.c.id)))).scalar()
    return hashlib.sha256(f"{words} {newest} {first}".encode()).hexdigest()


async def _count(database: Database, table: sa.Table) -> int:
    async with database.read(seconds=None) as connection:
        return await _counted(connection, table)


async def _counted(connection: AsyncConnection, table: sa.Table) -> int:
    query = sa.select(sa.func.count()).select_from(table)
    return int((await connection.execute(query)).scalar() or 0)


async def _note(connection: AsyncConnection, name: str) -> str | None:
    query = sa.select(_notes.c.state).where(_notes.c.name == name)
    return (await connection.execute(query)).scalar()


async def _keep(connection: AsyncConnection, name: str, state: str) -> None:
    await connection.execute(_notes.delete().where(_notes.c.name == name))
    await connection.execute(_notes.insert().values(name=name, state=state))


async def _after(connection: AsyncConnection) -> None:
    """PostgreSQL numbers changes from a sequence, which has to go on behind the copied ones."""
    if connection.dialect.name == "postgresql":
        await connection.execute(
            sa.text(
                "SELECT setval(pg_get_serial_sequence('changes', 'seq'), "
                "(SELECT coalesce(max(seq), 0) + 1 FROM changes), false)"
            )
        )
