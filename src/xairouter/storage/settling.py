"""Settling records of responses that went on in the background, when their end is seen.

A record changes once, by the first final statement that is seen, whichever instance saw it: in one
transaction the provider object lets go of its record, the record takes the statement's values and
keeps its former ones, its owner's chain grows by an entry for its new state, and the roll-ups change
by the difference. A statement that comes before the record is kept with the object until it is there.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.domain.records import Settlement, UsageRecord, UsageSource
from xairouter.storage import chain
from xairouter.storage.raising import shift_sums
from xairouter.storage.records import record_of, row_of
from xairouter.storage.tables import provider_objects, usage_records

Price = Callable[[UsageRecord, Settlement], Awaitable[UsageRecord]]
"""A record as a statement settles it, with its cost."""


class Settled(msgspec.Struct, frozen=True):
    """A record that was settled. ``before`` is None where that very statement had settled it already,
    so that whether it was counted is not known."""

    after: UsageRecord
    before: UsageRecord | None = None


async def settle_all(
    connection: AsyncConnection,
    settlements: Sequence[Settlement],
    price: Price,
    chance: Callable[[int], bytes],
) -> list[Settled]:
    """Settle what these statements settle, in the caller's write transaction. Statements that come
    too late, or belong to no record, change nothing."""
    found = []
    for one in settlements:
        settled = await _settle(connection, one, price, chance)
        if settled is not None:
            found.append(settled)
    return found


async def kept_for(
    connection: AsyncConnection, records: Sequence[UsageRecord]
) -> Sequence[Settlement]:
    """Statements that were seen before these records were stored."""
    found = []
    for record in records:
        if record.background and record.provider_object_id is not None:
            query = sa.select(provider_objects.c.final).where(
                provider_objects.c.owner_id == record.owner_id,
                provider_objects.c.object_id == record.provider_object_id,
                provider_objects.c.call_id == record.call_id,
            )
            kept = (await connection.execute(query)).scalar()
            if kept is not None:
                with suppress(msgspec.MsgspecError):
                    found.append(msgspec.json.decode(kept, type=Settlement))
    return found


async def _settle(
    connection: AsyncConnection,
    one: Settlement,
    price: Price,
    chance: Callable[[int], bytes],
) -> Settled | None:
    query = sa.select(usage_records).where(
        usage_records.c.owner_id == one.owner_id, usage_records.c.call_id == one.call_id
    )
    found = (await connection.execute(query)).mappings().first()
    if found is None:
        await _keep(connection, one)
        return None
    row = dict(found)
    if row["settled"] is not None:
        return Settled(record_of(row)) if chain.settled_by(row) == one.seen_by else None
    if not await _let_go(connection, one) or row["usage_source"] != UsageSource.ESTIMATED:
        return None
    try:
        before = record_of(row)
    except msgspec.MsgspecError:
        return None  # Altered by hand; the chain tells.
    after = await price(before, one)
    changed = _changed(row, row_of(after))
    former = {name: row[name] for name in changed}
    changed["settled"] = chain.settling(one.seen_by, one.seen_at_ms, former)
    await connection.execute(
        usage_records.update()
        .where(usage_records.c.owner_id == one.owner_id, usage_records.c.call_id == one.call_id)
        .values(changed)
    )
    settled, salt = {**row, **changed}, chance(16)
    entry = (chain.SETTLED, one.call_id, salt, chain.leaf_of(salt, settled))
    await chain.append(connection, one.owner_id, [entry])
    await shift_sums(connection, _counted(row), _counted(settled))
    return Settled(after, before)


def _changed(old: Any, new: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in new.items() if value != old[name]}


def _counted(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """In records from before this column was, nothing stands in it."""
    return {**row, "counted_nano": row["counted_nano"] or 0}


def _of(one: Settlement) -> sa.ColumnElement[bool]:
    """The object, as long as it holds the record."""
    return sa.and_(
        provider_objects.c.owner_id == one.owner_id,
        provider_objects.c.object_id == one.object_id,
        provider_objects.c.call_id == one.call_id,
    )


async def _let_go(connection: AsyncConnection, one: Settlement) -> bool:
    """Take the record from its object; False where the object holds another or none."""
    statement = provider_objects.update().where(_of(one)).values(call_id=None, final=None)
    return bool((await connection.execute(statement)).rowcount)


async def _keep(connection: AsyncConnection, one: Settlement) -> None:
    """Keep the first statement with the object, for a record that is still on its way."""
    statement = (
        provider_objects.update()
        .where(_of(one), provider_objects.c.final.is_(None))
        .values(final=msgspec.json.encode(one).decode())
    )
    await connection.execute(statement)
