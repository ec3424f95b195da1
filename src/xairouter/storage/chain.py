"""One hash chain per owner over usage records and operations.

leaf = SHA-256(salt (16) ‖ the row as canonical JSON); hash = SHA-256(previous hash ‖ leaf). The
first previous hash is 32 zero bytes; of the hashes only the last one is stored, the others follow from
the leaves. Leaves are salted, so that expired content can go while its hash stays. It shows accident
and partial edits; who writes the database could recompute it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypedDict, cast

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.storage.database import insert_into, insert_rows
from xairouter.storage.tables import chain, chain_heads, chain_points

FIRST = bytes(32)
USAGE, SETTLED, OPERATION = "usage", "settled", "operation"
"""Kinds of entries: a record as it was stored, the same once it was settled, an operation."""


class Entry(TypedDict):
    """A link of a chain: of which row (its kind and id), and its leaf."""

    owner_id: str
    seq: int
    kind: str
    ref_id: str
    salt: bytes
    leaf: bytes


@dataclass(frozen=True, slots=True)
class Point:
    """Up to where an owner's chain was verified, when, and when that was done from its beginning; with
    a MAC of the owner's vault, without which anybody could move it on."""

    owner_id: str
    seq: int
    hash: bytes
    at_ms: int
    whole_at_ms: int
    mac: str = ""

    def content(self) -> bytes:
        """What the MAC is over."""
        fields = (self.owner_id, self.seq, self.hash.hex(), self.at_ms, self.whole_at_ms)
        return "\n".join(["xairouter/chain-point/v1", *map(str, fields)]).encode()


_LATER = ("counted_tokens", "counted_nano", "settled")
"""Columns that older rows were linked without: they are no part of a leaf while they are null."""


def leaf_of(salt: bytes, row: Mapping[str, object]) -> bytes:
    """The leaf of a row: its columns sorted by name, as compact JSON."""
    absent = [name for name in _LATER if name in row and row[name] is None]
    if absent:
        row = dict(row)
        for name in absent:
            del row[name]
    content = msgspec.json.encode(row, order="sorted")
    return hashlib.sha256(salt + content).digest()


def settling(seen_by: str, at_ms: int, before: Mapping[str, Any]) -> str:
    """What a settled record keeps of its first state: the columns that changed."""
    kept = {"seen_by": seen_by, "at_ms": at_ms, "before": before}
    return msgspec.json.encode(kept, order="sorted").decode()


def first_state(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A record as its first entry holds it: without its settlement, if it has one."""
    if row["settled"] is None:
        return row
    try:
        before = msgspec.json.decode(row["settled"], type=_Settling).before
    except msgspec.MsgspecError:
        return row
    return {**row, **before, "settled": None}


def settled_by(row: Mapping[str, Any]) -> str | None:
    """The call whose reply settled a record."""
    try:
        return msgspec.json.decode(row["settled"], type=_Settling).seen_by
    except msgspec.MsgspecError:
        return None


class _Settling(msgspec.Struct):
    before: dict[str, Any]
    seen_by: str = ""


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


async def point_of(connection: AsyncConnection, owner_id: str) -> Point | None:
    """Up to where a chain was verified, as it is stored; its MAC is still to be checked."""
    query = sa.select(chain_points).where(chain_points.c.owner_id == owner_id)
    row = (await connection.execute(query)).first()
    if row is None:
        return None
    return Point(row.owner_id, row.seq, bytes(row.hash), row.at_ms, row.whole_at_ms, row.mac)


async def keep_point(connection: AsyncConnection, point: Point) -> None:
    """Store up to where a chain was verified."""
    values = asdict(point)
    statement = insert_into(connection.dialect, chain_points).values(values)
    changed = statement.on_conflict_do_update(index_elements=["owner_id"], set_=values)
    await connection.execute(changed)


async def last_of(connection: AsyncConnection, owner_id: str) -> int:
    """The number of the last entry that is there, whatever the head says; 0 without one."""
    query = sa.select(sa.func.max(chain.c.seq)).where(chain.c.owner_id == owner_id)
    return int((await connection.execute(query)).scalar() or 0)


async def behind(
    connection: AsyncConnection, owner_id: str, after: int
) -> Sequence[tuple[str, str]]:
    """(kind, row's id) of all entries behind a sequence number."""
    query = sa.select(chain.c.kind, chain.c.ref_id).where(
        chain.c.owner_id == owner_id, chain.c.seq > after
    )
    return [(row.kind, row.ref_id) for row in await connection.execute(query)]


async def page(
    connection: AsyncConnection, owner_id: str, after: int, up_to: int, limit: int
) -> Sequence[Entry]:
    """Entries behind a sequence number and up to another, in order."""
    query = (
        sa.select(chain)
        .where(chain.c.owner_id == owner_id, chain.c.seq > after, chain.c.seq <= up_to)
        .order_by(chain.c.seq)
        .limit(limit)
    )
    rows = await connection.execute(query)
    return [cast(Entry, dict(row)) for row in rows.mappings()]
