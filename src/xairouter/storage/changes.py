"""The ``changes`` table: what instances follow to drop stale pictures of owners."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.storage.tables import changes, owners


async def announce(connection: AsyncConnection, owner_id: str, kind: str, target_id: str) -> None:
    """Append a change and raise the owner's revision, in the caller's transaction."""
    await connection.execute(
        changes.insert().values(owner_id=owner_id, kind=kind, target_id=target_id)
    )
    await connection.execute(
        owners.update().where(owners.c.id == owner_id).values(revision=owners.c.revision + 1)
    )


async def since(connection: AsyncConnection, seq: int) -> tuple[int, Sequence[str]]:
    """(the last sequence number, owners changed after ``seq``)."""
    rows = (
        await connection.execute(
            sa.select(changes.c.seq, changes.c.owner_id)
            .where(changes.c.seq > seq)
            .order_by(changes.c.seq)
        )
    ).all()
    if not rows:
        return seq, ()
    return rows[-1].seq, tuple(dict.fromkeys(row.owner_id for row in rows))


async def trim(connection: AsyncConnection, keep: int) -> None:
    """Forget all but the newest ``keep`` changes."""
    newest = await last_seq(connection)
    await connection.execute(changes.delete().where(changes.c.seq <= newest - keep))


async def last_seq(connection: AsyncConnection) -> int:
    """The newest change's number, 0 if there is none."""
    return int((await connection.execute(sa.select(sa.func.max(changes.c.seq)))).scalar() or 0)
