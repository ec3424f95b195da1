"""The operation log: one row for each change in the management plane, refused attempts too."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.storage import chain
from xairouter.storage.tables import operations


async def add(connection: AsyncConnection, row: dict[str, Any], salt: bytes) -> None:
    """Store an operation and chain it, in the caller's write transaction."""
    await connection.execute(operations.insert().values(**row))
    await chain.append(
        connection, row["owner_id"], [("operation", row["id"], salt, chain.leaf_of(salt, row))]
    )


async def page(
    connection: AsyncConnection,
    owner_id: str,
    *,
    before: str | None,
    limit: int,
    account_ids: Sequence[str] | None = None,
    verb: str | None = None,
) -> Sequence[dict[str, Any]]:
    """Newest first; ``before`` is an id to go on behind, ``account_ids`` narrows the actors,
    ``verb`` is the front of the verbs."""
    query = sa.select(operations).where(operations.c.owner_id == owner_id)
    if before:
        query = query.where(operations.c.id < before)
    if account_ids is not None:
        query = query.where(operations.c.actor_account_id.in_(account_ids))
    if verb:
        query = query.where(operations.c.verb.startswith(verb, autoescape=True))
    rows = await connection.execute(query.order_by(operations.c.id.desc()).limit(limit))
    return [dict(row) for row in rows.mappings()]


async def within(
    connection: AsyncConnection,
    owner_id: str,
    verbs: Sequence[str],
    from_ms: int,
    until_ms: int | None,
    *,
    limit: int,
) -> Sequence[dict[str, Any]]:
    """The newest successful changes of some kinds within a range."""
    columns = operations.c
    query = sa.select(operations).where(
        columns.owner_id == owner_id,
        columns.verb.in_(verbs),
        columns.result == "ok",
        columns.at_ms >= from_ms,
    )
    if until_ms is not None:
        query = query.where(columns.at_ms < until_ms)
    rows = await connection.execute(query.order_by(columns.id.desc()).limit(limit))
    return [dict(row) for row in rows.mappings()]
