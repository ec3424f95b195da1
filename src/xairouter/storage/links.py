"""One-time links, by the hash of their token."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.storage.tables import one_time_links


async def add(connection: AsyncConnection, **values: Any) -> None:
    await connection.execute(one_time_links.insert().values(**values))


async def get(connection: AsyncConnection, token_hash: bytes) -> Mapping[str, Any] | None:
    query = sa.select(one_time_links).where(one_time_links.c.token_hash == token_hash)
    row = (await connection.execute(query)).mappings().first()
    return None if row is None else dict(row)


async def take(connection: AsyncConnection, token_hash: bytes) -> bool:
    """Remove a link; False if somebody else was faster."""
    result = await connection.execute(
        one_time_links.delete().where(one_time_links.c.token_hash == token_hash)
    )
    return result.rowcount == 1


async def drop_expired(connection: AsyncConnection, now_ms: int) -> None:
    await connection.execute(
        one_time_links.delete().where(one_time_links.c.expires_at_ms <= now_ms)
    )


async def drop_purpose(connection: AsyncConnection, purpose: str) -> None:
    await connection.execute(one_time_links.delete().where(one_time_links.c.purpose == purpose))


async def has_living(
    connection: AsyncConnection, purpose: str, now_ms: int, latest_ms: int
) -> bool:
    """Whether there is a link of this purpose that still works."""
    query = sa.select(sa.func.count()).where(
        one_time_links.c.purpose == purpose,
        one_time_links.c.expires_at_ms > now_ms,
        one_time_links.c.expires_at_ms <= latest_ms,
    )
    return bool((await connection.execute(query)).scalar())
