"""Vaults that took the place of others, so that instances which knew the old one can follow."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.domain.successions import Succession
from xairouter.storage.tables import successions


async def add(connection: AsyncConnection, made: Succession) -> None:
    await connection.execute(
        successions.insert().values(
            owner_id=made.owner_id,
            epoch=made.epoch,
            successor=made.successor,
            public_key=made.public_key,
            signature=made.signature,
        )
    )


async def list_of(connection: AsyncConnection, owner_id: str) -> Sequence[Succession]:
    """An owner's successions in the order in which they happened."""
    query = (
        sa.select(successions)
        .where(successions.c.owner_id == owner_id)
        .order_by(successions.c.epoch)
    )
    return [
        Succession(row.owner_id, row.epoch, row.successor, row.public_key, row.signature)
        for row in await connection.execute(query)
    ]
