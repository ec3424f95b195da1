"""One hash chain per owner over usage records and operations.

leaf = SHA-256(salt (16) ‖ the row as canonical JSON); hash = SHA-256(previous hash ‖ leaf). The
first previous hash is 32 zero bytes. Leaves are salted, so that expired content can go while its
hash stays. It shows accident and partial edits; who writes the database could recompute it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.storage.database import insert_rows
from xairouter.storage.tables import chain, chain_heads

FIRST = bytes(32)


def leaf_of(salt: bytes, row: Mapping[str, Any]) -> bytes:
    """The leaf of a row: its columns sorted by name, as compact JSON."""
    content = msgspec.json.encode(row, order="sorted")
    return hashlib.sha256(salt + content).digest()


def link(previous: bytes, leaf: bytes) -> bytes:
    return hashlib.sha256(previous + leaf).digest()


async def append(
    connection: AsyncConnection,
    owner_id: str,
    entries: Sequence[tuple[str, str, bytes, bytes]],
) -> None:
    """Extend an owner's chain by (kind, id, salt, leaf), in the caller's write transaction."""
    head = (
        await connection.execute(sa.select(chain_heads).where(chain_heads.c.owner_id == owner_id))
    ).first()
    seq, last = (head.seq, head.hash) if head else (0, FIRST)
    rows = []
    for kind, ref_id, salt, leaf in entries:
        seq += 1
        last = link(last, leaf)
        rows.append(
            {
                "owner_id": owner_id,
                "seq": seq,
                "kind": kind,
                "ref_id": ref_id,
                "salt": salt,
                "leaf": leaf,
                "hash": last,
            }
        )
    if not rows:
        return
    await insert_rows(connection, chain, rows)
    if head:
        await connection.execute(
            chain_heads.update()
            .where(chain_heads.c.owner_id == owner_id)
            .values(seq=seq, hash=last)
        )
    else:
        await connection.execute(chain_heads.insert().values(owner_id=owner_id, seq=seq, hash=last))


async def owners_with_chains(connection: AsyncConnection) -> list[str]:
    """Ids of all owners that have a chain, deleted ones too."""
    query = sa.select(chain_heads.c.owner_id).order_by(chain_heads.c.owner_id)
    return [row.owner_id for row in await connection.execute(query)]


async def head_of(connection: AsyncConnection, owner_id: str) -> tuple[int, bytes] | None:
    """(sequence number, hash) of the last entry, None without a chain."""
    query = sa.select(chain_heads).where(chain_heads.c.owner_id == owner_id)
    row = (await connection.execute(query)).first()
    return (row.seq, bytes(row.hash)) if row else None


async def page(
    connection: AsyncConnection, owner_id: str, after: int, limit: int
) -> Sequence[Mapping[str, Any]]:
    """Entries behind a sequence number, in order."""
    query = (
        sa.select(chain)
        .where(chain.c.owner_id == owner_id, chain.c.seq > after)
        .order_by(chain.c.seq)
        .limit(limit)
    )
    return [dict(row) for row in (await connection.execute(query)).mappings()]
