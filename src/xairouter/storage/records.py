"""Usage records: the drain's one transaction, and the queries behind the usage pages."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.domain.records import INTERRUPTED, UPSTREAM_ERROR, UsageRecord
from xairouter.storage import chain
from xairouter.storage.database import insert_rows
from xairouter.storage.tables import provider_objects, usage_hours, usage_records

HOUR_MS = 3_600_000
_SUMS = (
    "calls",
    "attempts",
    "errors",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_nano",
    "unpriced",
)


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """A provider object made by a call."""

    owner_id: str
    object_id: str
    account_id: str
    provider_key_id: str
    dialect: str
    created_at_ms: int


def row_of(record: UsageRecord) -> dict[str, Any]:
    """A record as its table's columns."""
    row = {name: getattr(record, name) for name in UsageRecord.__struct_fields__}
    for name in ("usage_detail", "price_used"):
        if row[name] is not None:
            row[name] = msgspec.json.encode(row[name]).decode()
    return row


async def insert_all(
    connection: AsyncConnection,
    records: Sequence[UsageRecord],
    objects: Sequence[ObjectRow],
    salt: Callable[[], bytes],
) -> int:
    """Insert records that are not there yet, raise the roll-ups and chains by those only.

    Runs in the caller's write transaction; returns how many were new.
    """
    rows = {record.call_id: row_of(record) for record in records}
    there = await _stored(connection, list(rows))
    fresh = [rows[call_id] for call_id in sorted(rows) if call_id not in there]
    await insert_rows(connection, usage_records, fresh)
    await _raise_hours(connection, fresh)
    by_owner: dict[str, list[tuple[str, str, bytes, bytes]]] = defaultdict(list)
    for row in fresh:
        grain = salt()
        by_owner[row["owner_id"]].append(
            ("usage", row["call_id"], grain, chain.leaf_of(grain, row))
        )
    for owner_id, entries in by_owner.items():
        await chain.append(connection, owner_id, entries)
    for made in objects:
        await connection.execute(
            insert(provider_objects)
            .values(**{name: getattr(made, name) for name in ObjectRow.__dataclass_fields__})
            .on_conflict_do_nothing()
        )
    return len(fresh)


async def _stored(connection: AsyncConnection, call_ids: Sequence[str]) -> set[str]:
    """Which of these calls are there already: after a crash the drain repeats itself."""
    query = sa.select(usage_records.c.call_id).where(usage_records.c.call_id.in_(call_ids))
    return {row.call_id for row in await connection.execute(query)}


async def _raise_hours(connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    sums: dict[tuple[Any, ...], dict[str, int]] = defaultdict(lambda: dict.fromkeys(_SUMS, 0))
    for row in rows:
        key = (
            row["owner_id"],
            row["started_at_ms"] // HOUR_MS * HOUR_MS,
            row["account_id"],
            row["key_id"],
            row["provider_key_id"] or "",
            row["provider"] or "",
            row["model_used"] or row["model_asked"] or "",
            row["label"] or "",
        )
        total = sums[key]
        total["calls"] += 1
        total["attempts"] += row["attempts"]
        total["errors"] += row["outcome"] in (UPSTREAM_ERROR, INTERRUPTED)
        total["unpriced"] += row["cost_nano"] is None and row["usage_source"] == "reported"
        for name in (
            "input_tokens",
            "cached_input_tokens",
            "output_tokens",
            "reasoning_tokens",
            "cost_nano",
        ):
            total[name] += row[name] or 0
    names = (
        "owner_id",
        "hour_ms",
        "account_id",
        "key_id",
        "provider_key_id",
        "provider",
        "model",
        "label",
    )
    for key, total in sums.items():
        statement = insert(usage_hours).values(**dict(zip(names, key, strict=True)), **total)
        await connection.execute(
            statement.on_conflict_do_update(
                index_elements=list(names),
                set_={name: usage_hours.c[name] + statement.excluded[name] for name in _SUMS},
            )
        )


@dataclass(frozen=True, slots=True)
class Filters:
    """Which records: ``equal`` maps column → value, ``account_ids`` is the reach of the asker."""

    account_ids: Sequence[str] | None = None
    from_ms: int | None = None
    until_ms: int | None = None
    equal: Mapping[str, Any] | None = None


def _conditions(owner_id: str, filters: Filters) -> list[sa.ColumnElement[bool]]:
    columns = usage_records.c
    found = [columns.owner_id == owner_id]
    if filters.account_ids is not None:
        found.append(columns.account_id.in_(filters.account_ids))
    if filters.from_ms is not None:
        found.append(columns.started_at_ms >= filters.from_ms)
    if filters.until_ms is not None:
        found.append(columns.started_at_ms < filters.until_ms)
    for name, value in (filters.equal or {}).items():
        found.append(columns[name] == value)
    return found


async def page(
    connection: AsyncConnection,
    owner_id: str,
    filters: Filters,
    *,
    before: str | None,
    limit: int,
) -> Sequence[dict[str, Any]]:
    """Records newest first; ``before`` is a call id to go on behind."""
    query = sa.select(usage_records).where(*_conditions(owner_id, filters))
    if before:
        query = query.where(usage_records.c.call_id < before)
    rows = await connection.execute(query.order_by(usage_records.c.call_id.desc()).limit(limit))
    return [dict(row) for row in rows.mappings()]


GROUPS: Mapping[str, sa.ColumnElement[Any]] = {
    "model": sa.func.coalesce(usage_records.c.model_used, usage_records.c.model_asked),
    "account": usage_records.c.account_id,
    "key": usage_records.c.key_id,
    "provider_key": usage_records.c.provider_key_id,
    "provider": usage_records.c.provider,
    "label": usage_records.c.label,
    "day": usage_records.c.started_at_ms / 86_400_000,
    "hour": usage_records.c.started_at_ms / HOUR_MS,
}


async def totals(
    connection: AsyncConnection, owner_id: str, filters: Filters, group_by: str | None
) -> Sequence[dict[str, Any]]:
    """Sums over records, in one row or one for each value of a group.

    ``day`` and ``hour`` groups are whole days and hours since 1970 (integer division).
    """
    columns = usage_records.c
    group = GROUPS[group_by] if group_by else sa.literal(None)
    if group_by in ("day", "hour"):
        group = sa.cast(group, sa.BigInteger)
    sums = [
        sa.func.sum(columns[name]).label(name)
        for name in (
            "attempts",
            "input_tokens",
            "cached_input_tokens",
            "cache_write_tokens",
            "output_tokens",
            "reasoning_tokens",
            "cost_nano",
        )
    ]
    errors = sa.func.sum(sa.case((columns.outcome.in_((UPSTREAM_ERROR, INTERRUPTED)), 1), else_=0))
    unpriced = sa.func.sum(
        sa.case(
            (sa.and_(columns.cost_nano.is_(None), columns.usage_source == "reported"), 1),
            else_=0,
        )
    )
    query = sa.select(
        group.label("group"),
        sa.func.count().label("calls"),
        errors.label("errors"),
        unpriced.label("unpriced"),
        *sums,
    ).where(*_conditions(owner_id, filters))
    if group_by:
        query = query.group_by(group).order_by(group)
    return [dict(row) for row in (await connection.execute(query)).mappings()]


async def latencies(
    connection: AsyncConnection, owner_id: str, filters: Filters, group_by: str | None
) -> Sequence[tuple[Any, int | None, int | None]]:
    """(group, first byte, total) in milliseconds of the newest 10,000 served calls."""
    group = GROUPS[group_by] if group_by else sa.literal(None)
    if group_by in ("day", "hour"):
        group = sa.cast(group, sa.BigInteger)
    columns = usage_records.c
    query = (
        sa.select(group.label("group"), columns.first_byte_ms, columns.total_ms)
        .where(*_conditions(owner_id, filters), columns.attempts > 0)
        .order_by(columns.call_id.desc())
        .limit(10_000)
    )
    return [(row.group, row.first_byte_ms, row.total_ms) for row in await connection.execute(query)]


async def delete_before(connection: AsyncConnection, owner_id: str, before_ms: int) -> int:
    """Delete an owner's records that began before an instant; returns how many."""
    result = await connection.execute(
        usage_records.delete().where(
            usage_records.c.owner_id == owner_id, usage_records.c.started_at_ms < before_ms
        )
    )
    return int(result.rowcount)


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
