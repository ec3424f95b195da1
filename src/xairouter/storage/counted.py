"""What limits and budgets count: calls that reached a provider.

Money of days, months and all time is read from the roll-ups, which know it by the hour and for all
time; requests, tokens, and what lies before a period's first whole hour, record by record.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.storage.tables import accounts, usage_counted, usage_hours, usage_records

HOUR_MS = 3_600_000
_ONE_STEP = sa.cast(sa.literal_column("0"), sa.BigInteger)
"""No bare number: by that, a database would group by the column of that place."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What to sum up: ``units`` are requests, tokens and money, in steps from an instant on, by the
    nearest of some accounts above (or at) the one that called, without some calls. ``is_ever`` sums
    money over all time."""

    units: tuple[str, ...]
    since_ms: int
    step_ms: int
    account_ids: tuple[str, ...]
    without: frozenset[str] = frozenset()
    is_ever: bool = False


@dataclass(frozen=True, slots=True)
class Sum:
    """Of one step that begins at ``at_ms``, one account asked for, and one model."""

    account_id: str
    at_ms: int
    model: str | None
    amounts: tuple[int, ...]


async def lines_of(
    connection: AsyncConnection, owner_id: str, account_ids: Sequence[str]
) -> dict[str, list[str]]:
    """Of each of some accounts: those of them that are above it, and itself."""
    if len(account_ids) < 2:
        return {one: [one] for one in account_ids}
    owned = accounts.c.owner_id == owner_id
    line = (
        sa.select(accounts.c.id.label("start"), accounts.c.id, accounts.c.parent_id)
        .where(owned, accounts.c.id.in_(account_ids))
        .cte("line", recursive=True)
    )
    # UNION leaves out what was found already, so that it would end in a circle, too.
    line = line.union(
        sa.select(line.c.start, accounts.c.id, accounts.c.parent_id).where(
            owned, accounts.c.id == line.c.parent_id
        )
    )
    found: dict[str, list[str]] = {}
    wanted = set(account_ids)
    for row in await connection.execute(sa.select(line.c.start, line.c.id)):
        if row.id in wanted:
            found.setdefault(row.start, []).append(row.id)
    return found


async def counted(connection: AsyncConnection, owner_id: str, asked: Asked) -> list[Any]:
    """Rows of sums by account asked for, step and model of what the records count for
    (``accounting.counts``); ``sum_of`` makes each a value."""
    if asked.is_ever:
        return await _from_sums(connection, owner_id, asked, usage_counted)
    if asked.units == ("money",) and asked.step_ms > HOUR_MS:
        return await _from_hours(connection, owner_id, asked)
    query = _records(owner_id, asked).where(usage_records.c.started_at_ms >= asked.since_ms)
    return list(await connection.execute(query))


def sum_of(row: Any, asked: Asked) -> Sum:
    """A row of ``counted``."""
    account_id, step, model, *amounts = row
    at_ms = int(step) * asked.step_ms + asked.since_ms % asked.step_ms
    return Sum(account_id, at_ms, model, tuple(int(amount or 0) for amount in amounts))


def _by_account(
    table: sa.Table,
    owner_id: str,
    asked: Asked,
    groups: Sequence[sa.ColumnElement[Any]],
    sums: Sequence[sa.ColumnElement[Any]],
) -> sa.Select[Any]:
    """Sums over rows, of which the owner's are still to be chosen, by the nearest account asked for
    and by further columns."""
    columns = table.c
    lower = [one for one in asked.account_ids if one != owner_id]
    place: sa.ColumnElement[Any] = sa.literal(owner_id)
    if not lower:
        return sa.select(place, *groups, *sums).select_from(table).group_by(*groups)
    owned = accounts.c.owner_id == owner_id
    below = (
        sa.select(accounts.c.id, accounts.c.id.label("place"))
        .where(owned, accounts.c.id.in_(lower))
        .cte("below", recursive=True)
    )
    nearest = sa.case((accounts.c.id.in_(lower), accounts.c.id), else_=below.c.place)
    below = below.union(
        sa.select(accounts.c.id, nearest).where(owned, accounts.c.parent_id == below.c.id)
    )
    # What is below none of them is the owner's own.
    joined = table.join(
        below, columns.account_id == below.c.id, isouter=owner_id in asked.account_ids
    )
    query = sa.select(
        sa.func.coalesce(sa.func.max(below.c.place), place), *groups, *sums
    ).select_from(joined)
    return query.group_by(below.c.place, *groups)


def _number(value: int) -> sa.ColumnElement[int]:
    """A constant that reads the same wherever it stands: PostgreSQL groups by the very words."""
    return sa.literal_column(str(value), sa.BigInteger)


def _amount(unit: str) -> sa.ColumnElement[int]:
    """What one record counts for. Records from before ``counted_…`` count as they were reported."""
    columns = usage_records.c
    used = sa.func.coalesce(columns.input_tokens, 0) + sa.func.coalesce(columns.output_tokens, 0)
    amounts: Mapping[str, sa.ColumnElement[int]] = {
        "requests": _number(1),
        "tokens": sa.func.coalesce(columns.counted_tokens, used),
        "money": sa.func.coalesce(columns.counted_nano, columns.cost_nano, 0),
    }
    return amounts[unit]


def _records(owner_id: str, asked: Asked, *, only: bool = False) -> sa.Select[Any]:
    """Sums over records: without the calls left out, or of these ``only``, to take them off."""
    columns = usage_records.c
    model = sa.func.coalesce(columns.model_used, columns.model_asked)
    sums = [sa.func.sum(_amount(unit)) for unit in asked.units]
    groups = [_step(columns.started_at_ms, asked), model]
    query = _by_account(
        usage_records, owner_id, asked, groups, [-one if only else one for one in sums]
    )
    query = query.where(columns.attempts > 0)
    if only:
        # By their ids: by the index of the owner's records, all of them would be read.
        own = columns.owner_id + "" == owner_id
        return query.where(own, columns.call_id.in_(asked.without))
    query = query.where(columns.owner_id == owner_id)
    return query.where(columns.call_id.not_in(asked.without)) if asked.without else query


def _step(at_ms: sa.ColumnElement[int], asked: Asked) -> sa.ColumnElement[int]:
    if asked.is_ever:
        return _ONE_STEP
    return (at_ms - _number(asked.since_ms % asked.step_ms)) // _number(asked.step_ms)


async def _from_hours(connection: AsyncConnection, owner_id: str, asked: Asked) -> list[Any]:
    """Money of whole hours from the sums by hour, and of the part before them record by record:
    where a calendar's day does not begin with an hour of UTC."""
    first = -(-asked.since_ms // HOUR_MS) * HOUR_MS
    found = await _from_sums(connection, owner_id, asked, usage_hours, first)
    if first != asked.since_ms:
        at_ms = usage_records.c.started_at_ms
        edge = _records(owner_id, asked).where(at_ms >= asked.since_ms, at_ms < first)
        found += list(await connection.execute(edge))
    return found


async def _from_sums(
    connection: AsyncConnection, owner_id: str, asked: Asked, table: sa.Table, first_ms: int = 0
) -> list[Any]:
    """Money from a roll-up, of the hours from an instant on, less that of the calls left out."""
    columns, model = table.c, sa.func.nullif(table.c.model, "")
    step = _step(columns.hour_ms, asked) if "hour_ms" in columns else _ONE_STEP
    query = _by_account(table, owner_id, asked, [step, model], [sa.func.sum(columns.counted_nano)])
    query = query.where(columns.owner_id == owner_id)
    if "hour_ms" in columns:
        query = query.where(columns.hour_ms >= first_ms)
    found = list(await connection.execute(query))
    if asked.without:
        less = _records(owner_id, asked, only=True)
        at_ms = usage_records.c.started_at_ms
        found += list(await connection.execute(less.where(at_ms >= first_ms)))
    return found
