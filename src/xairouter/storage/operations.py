"""The operation log: one row for each change in the management plane, refused attempts too."""

from collections.abc import Sequence
from itertools import accumulate
from typing import TypedDict, cast

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.domain.permissions import DONE
from xairouter.storage import chain
from xairouter.storage.tables import operations

MOST_DETAILS = 1_000_000
"""Characters of the details of one page."""


class OperationRow(TypedDict):
    """A row of the log; ``detail`` is JSON."""

    id: str
    owner_id: str
    at_ms: int
    actor_key_id: str | None
    actor_account_id: str | None
    actor: str
    verb: str
    target_id: str | None
    client_ip: str | None
    result: str
    detail: str | None


async def add(connection: AsyncConnection, row: OperationRow, salt: bytes) -> None:
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
) -> tuple[Sequence[OperationRow], bool]:
    """Newest first, and whether there may be more; ``before`` is an id to go on behind,
    ``account_ids`` narrows the actors, ``verb`` is the front of the verbs. A page ends early, with one
    row at least, where its details would be too many."""
    size = sa.func.coalesce(sa.func.length(operations.c.detail), 0)
    query = sa.select(operations.c.id, size).where(operations.c.owner_id == owner_id)
    if before:
        query = query.where(operations.c.id < before)
    if account_ids is not None:
        query = query.where(operations.c.actor_account_id.in_(account_ids))
    if verb:
        query = query.where(operations.c.verb.startswith(verb, autoescape=True))
    newest = operations.c.id.desc()
    sizes = list(await connection.execute(query.order_by(newest).limit(limit)))
    sums = accumulate(length for _, length in sizes)
    fitting = sum(1 for total in sums if total <= MOST_DETAILS)
    ids = [row_id for row_id, _ in sizes[: max(1, fitting)]]
    rows = await connection.execute(
        sa.select(operations).where(operations.c.id.in_(ids)).order_by(newest)
    )
    found = [cast(OperationRow, dict(row)) for row in rows.mappings()]
    return found, len(found) < len(sizes) or len(sizes) == limit


async def within(
    connection: AsyncConnection,
    owner_id: str,
    verbs: Sequence[str],
    from_ms: int,
    until_ms: int | None,
    *,
    limit: int,
) -> Sequence[tuple[int, str]]:
    """When the newest successful changes of some kinds within a range were, and of what kind each."""
    columns = operations.c
    query = sa.select(columns.at_ms, columns.verb).where(
        columns.owner_id == owner_id,
        columns.verb.in_(verbs),
        columns.result == DONE,
        columns.at_ms >= from_ms,
    )
    if until_ms is not None:
        query = query.where(columns.at_ms < until_ms)
    rows = await connection.execute(query.order_by(columns.id.desc()).limit(limit))
    return [(at_ms, verb) for at_ms, verb in rows]
