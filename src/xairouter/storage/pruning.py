"""Pruning a hash chain: entries of records that were forgotten go, from the beginning on, and a base says
where the chain begins now. Entries of operations stay, because operations do; a running hash over them
is kept with the base."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.storage import chain
from xairouter.storage.chain_rows import of_entries
from xairouter.storage.database import insert_into
from xairouter.storage.tables import chain as entries
from xairouter.storage.tables import chain_bases


@dataclass(frozen=True, slots=True)
class Base:
    """Where a chain begins: all entries up to ``seq`` but those of operations are gone, ``hash`` is
    the last one's, ``kept`` holds the others' leaves; with a MAC of the owner's vault."""

    owner_id: str
    seq: int = 0
    hash: bytes = chain.FIRST
    kept: bytes = chain.FIRST
    at_ms: int = 0
    mac: str = ""

    def content(self) -> bytes:
        """What the MAC is over."""
        fields = (self.owner_id, self.seq, self.hash.hex(), self.kept.hex(), self.at_ms)
        return "\n".join(["xairouter/chain-base/v1", *map(str, fields)]).encode()


def held(kept: bytes, leaf: bytes) -> bytes:
    """The running hash over kept entries, with one more."""
    return hashlib.sha256(kept + leaf).digest()


async def base_of(connection: AsyncConnection, owner_id: str) -> Base:
    """Where an owner's chain begins."""
    query = sa.select(chain_bases).where(chain_bases.c.owner_id == owner_id)
    row = (await connection.execute(query)).mappings().first()
    return Base(**row) if row is not None else Base(owner_id)


@dataclass(frozen=True, slots=True)
class Due:
    """Whose chain is pruned of the records of calls before which id, and when: ids sort by the time of
    the call."""

    owner_id: str
    before_id: str
    now_ms: int


async def prune(
    connection: AsyncConnection, due: Due, sign: Callable[[bytes], str], most: int
) -> int:
    """Prune at most so many entries, as long as they are of records that are gone, in the caller's
    write transaction; returns by how many entries the chain begins later."""
    owner_id = due.owner_id
    base = await base_of(connection, owner_id)
    page = await chain.page(connection, owner_id, base.seq, base.seq + most, most)
    rows = await of_entries(connection, owner_id, page)
    seq, last, kept = base.seq, base.hash, base.kept
    for entry in page:
        if entry["seq"] != seq + 1:
            break  # Something is missing; a verification tells.
        if entry["kind"] == chain.OPERATION:
            kept = held(kept, entry["leaf"])
        elif (entry["kind"], entry["ref_id"]) in rows or entry["ref_id"] >= due.before_id:
            break
        seq, last = seq + 1, chain.link(last, entry["leaf"])
    if seq == base.seq:
        return 0
    await connection.execute(
        entries.delete().where(
            entries.c.owner_id == owner_id,
            entries.c.seq > base.seq,
            entries.c.seq <= seq,
            entries.c.kind != chain.OPERATION,
        )
    )
    moved = Base(owner_id, seq, last, kept, due.now_ms)
    values = asdict(replace(moved, mac=sign(moved.content())))
    statement = insert_into(connection.dialect, chain_bases).values(values)
    await connection.execute(
        statement.on_conflict_do_update(index_elements=["owner_id"], set_=values)
    )
    return seq - base.seq
