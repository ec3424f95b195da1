"""Usage records: the drain's one transaction, and the queries behind the usage pages."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter, itemgetter
from typing import Any, TypedDict, cast

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.domain.calls import LONGEST_MODEL
from xairouter.domain.records import UsageRecord
from xairouter.storage import chain
from xairouter.storage.database import in_steps, insert_into, insert_rows
from xairouter.storage.raising import raise_sums
from xairouter.storage.rollups import GROUPS, MOST, Filters, conditions
from xairouter.storage.tables import provider_objects, usage_records

MANY_ACCOUNTS = 200
TIMED = 5000
"""Served calls whose timings percentiles are taken of."""
_LONGEST_NAME, _LONGEST_PATH = 256, 1024


class RecordRow(TypedDict):
    """A row of the table; ``usage_detail``, ``price_used`` and ``settled`` are JSON."""

    call_id: str
    owner_id: str
    account_id: str
    key_id: str
    provider_key_id: str | None
    provider: str | None
    level: int | None
    dialect: str
    method: str
    path: str
    client_ip: str
    label: str | None
    session: str | None
    model_asked: str | None
    model_used: str | None
    stream: bool
    max_output_tokens: int | None
    reserved_tokens: int | None
    reserved_nano: int | None
    status: int | None
    outcome: str
    error_code: str | None
    attempts: int
    input_tokens: int | None
    cached_input_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    usage_detail: str | None
    usage_source: str
    cost_nano: int | None
    price_version: str | None
    price_used: str | None
    provider_cost_nano: int | None
    provider_request_id: str | None
    provider_object_id: str | None
    service_tier: str | None
    started_at_ms: int
    first_byte_ms: int | None
    total_ms: int | None
    counted_tokens: int | None
    counted_nano: int | None
    settled: str | None


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """A provider object made by a call; ``call_id`` is that call where the object's end, seen later,
    settles its record."""

    owner_id: str
    object_id: str
    account_id: str
    provider_key_id: str
    dialect: str
    created_at_ms: int
    call_id: str | None = None


_OBJECT_COLUMNS = tuple(ObjectRow.__dataclass_fields__)
_object_columns = attrgetter(*_OBJECT_COLUMNS)

_LENGTHS: Mapping[str, int] = {
    name: getattr(usage_records.c[name].type, "length", None) or most
    for name, most in {
        "path": _LONGEST_PATH,
        "client_ip": _LONGEST_NAME,
        "provider": _LONGEST_NAME,
        "label": _LONGEST_NAME,
        "session": _LONGEST_NAME,
        "model_asked": LONGEST_MODEL,
        "model_used": LONGEST_MODEL,
        "price_version": _LONGEST_NAME,
        "provider_request_id": _LONGEST_NAME,
        "provider_object_id": _LONGEST_NAME,
        "service_tier": _LONGEST_NAME,
    }.items()
}
"""How much is stored of each word that a client, a provider or a price list chose: one that a
database cannot take would hold up the drain for ever. The others are the router's own
(tests/contract/test_storage.py holds them to their columns)."""
_SHORTEST = min(_LENGTHS.values())
_words = itemgetter(*_LENGTHS)
_CODE_LENGTH = 32


def row_of(record: UsageRecord) -> dict[str, Any]:
    """A record as its table's columns; words and numbers that do not fit there are cut."""
    row = msgspec.structs.asdict(record)
    del row["object_parts"]  # They are rows of their own, of the provider objects.
    del row["background"]
    row["settled"] = None
    words = list(filter(None, _words(row)))
    if max(map(len, words)) > _SHORTEST or "\0" in "".join(words):
        for name, length in _LENGTHS.items():
            if row[name] is not None:
                row[name] = row[name][:length].replace("\0", "\ufffd")
    if record.error_code is not None:
        row["error_code"] = record.error_code[:_CODE_LENGTH]
    for name in ("cost_nano", "provider_cost_nano", "reserved_nano", "counted_nano"):
        if row[name] is not None and row[name] > MOST:
            row[name] = MOST
    for name in ("usage_detail", "price_used"):
        if row[name] is not None:
            row[name] = msgspec.json.encode(row[name]).decode()
    return row


def record_of(row: Mapping[str, Any]) -> UsageRecord:
    """A stored record as a value."""
    known = {name: row[name] for name in UsageRecord.__struct_fields__ if name in row}
    for name in ("usage_detail", "price_used"):
        if known[name] is not None:
            known[name] = msgspec.json.decode(known[name])
    for name in ("counted_tokens", "counted_nano"):
        known[name] = known[name] or 0
    return UsageRecord(**known)


async def insert_all(
    connection: AsyncConnection,
    records: Sequence[UsageRecord],
    objects: Sequence[ObjectRow],
    chance: Callable[[int], bytes],
) -> list[UsageRecord]:
    """Insert records that are not there yet, raise the roll-ups and chains by those only.

    Runs in the caller's write transaction; returns those that are new. ``chance`` gives so many
    random bytes, for the chains' salts.
    """
    rows: dict[str, dict[str, Any]] = {}
    links: dict[str, tuple[str, str, bytes, bytes]] = {}
    async for some in in_steps(records, 64):
        salts = chance(16 * len(some))
        for number, record in enumerate(some):
            row = rows[record.call_id] = row_of(record)
            salt = salts[16 * number : 16 * number + 16]
            links[record.call_id] = (chain.USAGE, record.call_id, salt, chain.leaf_of(salt, row))
    there = await _stored(connection, list(rows))
    fresh = [rows[call_id] for call_id in sorted(rows) if call_id not in there]
    await insert_rows(connection, usage_records, fresh)
    await raise_sums(connection, fresh)
    by_owner: dict[str, list[tuple[str, str, bytes, bytes]]] = defaultdict(list)
    for row in fresh:
        by_owner[row["owner_id"]].append(links[row["call_id"]])
    for owner_id, entries in by_owner.items():
        await chain.append(connection, owner_id, entries)
    await insert_objects(connection, objects)
    return [record for record in records if record.call_id not in there]


async def _stored(connection: AsyncConnection, call_ids: Sequence[str]) -> set[str]:
    """Which of these calls are there already: after a crash the drain repeats itself."""
    query = sa.select(usage_records.c.call_id).where(usage_records.c.call_id.in_(call_ids))
    return {row.call_id for row in await connection.execute(query)}


def _newest_first(owner_id: str, filters: Filters) -> list[sa.ColumnElement[bool]]:
    """Conditions for a query that takes the newest and stops. Of many accounts, the index by
    account would read everything of theirs and sort it; the one by time looks at each in turn."""
    ids = filters.account_ids
    if ids is None or len(ids) <= MANY_ACCOUNTS:
        return conditions(owner_id, filters)
    where = conditions(owner_id, replace(filters, account_ids=None))
    return [*where, (usage_records.c.account_id + "").in_(ids)]


async def page(
    connection: AsyncConnection,
    owner_id: str,
    filters: Filters,
    *,
    before: str | None,
    limit: int,
) -> Sequence[RecordRow]:
    """Records newest first; ``before`` is a call id to go on behind."""
    columns = usage_records.c
    query = sa.select(usage_records).where(*_newest_first(owner_id, filters))
    if before:
        began = sa.select(columns.started_at_ms).where(
            columns.owner_id == owner_id, columns.call_id == before
        )
        at = (await connection.execute(began)).scalar() or 0
        further = sa.and_(columns.started_at_ms == at, columns.call_id < before)
        query = query.where(
            columns.started_at_ms <= at, sa.or_(columns.started_at_ms < at, further)
        )
    # In the order of the index, so that a page of many records reads no more than itself.
    newest = query.order_by(columns.started_at_ms.desc(), columns.call_id.desc()).limit(limit)
    rows = (await connection.execute(newest)).mappings().all()
    found: list[RecordRow] = []
    async for some in in_steps(rows, 50):
        found += [cast(RecordRow, dict(row)) for row in some]
    return found


async def latencies(
    connection: AsyncConnection, owner_id: str, filters: Filters, group_by: str | None
) -> Sequence[tuple[str | int | None, int | None, int | None]]:
    """(group, first byte, total) in milliseconds of the newest 5,000 served calls."""
    group = GROUPS[group_by] if group_by else sa.null()
    columns = usage_records.c
    query = (
        sa.select(group.label("group"), columns.first_byte_ms, columns.total_ms)
        .where(*_newest_first(owner_id, filters), columns.attempts > 0)
        .order_by(columns.started_at_ms.desc())
        .limit(TIMED)
    )
    return [tuple(row) for row in await connection.execute(query)]


async def newest_id(connection: AsyncConnection, up_to: str) -> str | None:
    """The id of the newest call that is no newer than an id: ids sort by the time of the call."""
    query = sa.select(sa.func.max(usage_records.c.call_id)).where(usage_records.c.call_id <= up_to)
    newest: str | None = (await connection.execute(query)).scalar()
    return newest


async def count_before(connection: AsyncConnection, owner_id: str, before_ms: int) -> int:
    """How many of an owner's records began before an instant."""
    query = sa.select(sa.func.count()).where(
        usage_records.c.owner_id == owner_id, usage_records.c.started_at_ms < before_ms
    )
    return int((await connection.execute(query)).scalar_one())


async def delete_before(
    connection: AsyncConnection, owner_id: str, before_ms: int, most: int
) -> int:
    """Delete an owner's records that began before an instant, the oldest first and at most so many;
    returns how many."""
    columns = usage_records.c
    old = (
        sa.select(columns.call_id)
        .where(columns.owner_id == owner_id, columns.started_at_ms < before_ms)
        .order_by(columns.started_at_ms)
        .limit(most)
    )
    statement = usage_records.delete().where(columns.call_id.in_(old))
    return int((await connection.execute(statement)).rowcount)


def _object_values(made: ObjectRow) -> dict[str, Any]:
    return dict(zip(_OBJECT_COLUMNS, _object_columns(made), strict=True))


async def insert_objects(connection: AsyncConnection, objects: Sequence[ObjectRow]) -> None:
    """Bind provider objects that are not bound yet."""
    statement = insert_into(connection.dialect, provider_objects).on_conflict_do_nothing()
    # In one order, so that instances that bind the same ones do not wait for each other.
    in_order = sorted(objects, key=attrgetter("owner_id", "object_id"))
    async for some in in_steps(in_order, 1000):
        await connection.execute(statement, [_object_values(made) for made in some])


async def forget_objects(
    connection: AsyncConnection, owner_id: str, before_ms: int, most: int
) -> int:
    """Let go of provider objects that calls before an instant made, the oldest first and at most so
    many; returns how many."""
    columns = provider_objects.c
    old = (
        sa.select(columns.object_id)
        .where(columns.owner_id == owner_id, columns.created_at_ms < before_ms)
        .order_by(columns.created_at_ms)
        .limit(most)
    )
    statement = provider_objects.delete().where(
        columns.owner_id == owner_id, columns.object_id.in_(old)
    )
    return int((await connection.execute(statement)).rowcount)


async def newest_object_beyond(connection: AsyncConnection, owner_id: str, most: int) -> int | None:
    """When the newest of an owner's provider objects was made that is more than there may be; None
    if there are not so many."""
    columns = provider_objects.c
    query = (
        sa.select(columns.created_at_ms)
        .where(columns.owner_id == owner_id)
        .order_by(columns.created_at_ms.desc())
        .offset(most)
        .limit(1)
    )
    found = (await connection.execute(query)).scalar()
    return None if found is None else int(found)


async def find_objects(
    connection: AsyncConnection, owner_id: str, object_ids: Sequence[str]
) -> Sequence[ObjectRow]:
    """What is known of provider objects of an owner."""
    query = sa.select(provider_objects).where(
        provider_objects.c.owner_id == owner_id, provider_objects.c.object_id.in_(object_ids)
    )
    return [
        ObjectRow(**{name: getattr(row, name) for name in ObjectRow.__dataclass_fields__})
        for row in await connection.execute(query)
    ]
