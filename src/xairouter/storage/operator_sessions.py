"""The operator's sessions, by the hash of their token."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.storage.tables import operator_sessions


async def add(connection: AsyncConnection, token_hash: bytes, expires_at_ms: int) -> None:
    await connection.execute(
        operator_sessions.insert().values(token_hash=token_hash, expires_at_ms=expires_at_ms)
    )


async def is_living(
    connection: AsyncConnection, token_hash: bytes, now_ms: int, latest_ms: int
) -> bool:
    """Whether a session exists, and its time is neither over nor beyond the latest that is possible."""
    query = sa.select(operator_sessions.c.token_hash).where(
        operator_sessions.c.token_hash == token_hash,
        operator_sessions.c.expires_at_ms > now_ms,
        operator_sessions.c.expires_at_ms <= latest_ms,
    )
    return (await connection.execute(query)).first() is not None


async def drop(connection: AsyncConnection, token_hash: bytes) -> None:
    await connection.execute(
        operator_sessions.delete().where(operator_sessions.c.token_hash == token_hash)
    )


async def drop_expired(connection: AsyncConnection, now_ms: int) -> None:
    await connection.execute(
        operator_sessions.delete().where(operator_sessions.c.expires_at_ms <= now_ms)
    )
