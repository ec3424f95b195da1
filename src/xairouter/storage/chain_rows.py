"""The rows that a chain's entries are of: usage records and operations."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.storage import chain
from xairouter.storage.tables import operations, usage_records

_TABLES: Mapping[str, tuple[sa.Table, str, str]] = {
    chain.USAGE: (usage_records, "call_id", "started_at_ms"),
    chain.SETTLED: (usage_records, "call_id", "started_at_ms"),
    chain.OPERATION: (operations, "id", "at_ms"),
}
"""Kind → table, and its columns of the id and the time."""


async def of_entries(
    connection: AsyncConnection, owner_id: str, entries: Sequence[chain.Entry]
) -> dict[tuple[str, str], dict[str, object]]:
    """(kind, id) → the row, as far as it is there."""
    found: dict[tuple[str, str], dict[str, object]] = {}
    for kind, (table, name, _) in _TABLES.items():
        ids = [entry["ref_id"] for entry in entries if entry["kind"] == kind]
        if ids:
            query = sa.select(table).where(table.c.owner_id == owner_id, table.c[name].in_(ids))
            for row in (await connection.execute(query)).mappings():
                found[(kind, row[name])] = dict(row)
    return found


def began_ms(kind: str, row: Mapping[str, Any]) -> int:
    """When what a row is of began."""
    return int(row[_TABLES[kind][2]])


async def count(connection: AsyncConnection, owner_id: str, kind: str, since_ms: int) -> int:
    """How many rows of a kind there are since an instant."""
    table, _, order = _TABLES[kind]
    query = sa.select(sa.func.count()).where(
        table.c.owner_id == owner_id, table.c[order] >= since_ms
    )
    return int((await connection.execute(query)).scalar_one())


async def page(
    connection: AsyncConnection, owner_id: str, kind: str, behind: tuple[int, str], limit: int
) -> list[tuple[int, str]]:
    """(when it began, id) of rows of a kind in that order, behind one."""
    table, name, order = _TABLES[kind]
    id_of, at = table.c[name], table.c[order]
    query = (
        sa.select(at, id_of)
        .where(table.c.owner_id == owner_id, at >= behind[0])
        .where(sa.or_(at > behind[0], id_of > behind[1]))
        .order_by(at, id_of)
        .limit(limit)
    )
    return [(row[0], row[1]) for row in await connection.execute(query)]
