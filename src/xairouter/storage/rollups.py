"""Sums over usage records, kept exact by the transaction that inserts them.

``usage_hours`` has a row for each hour and combination of account, keys, provider, model and label.
``usage_sums`` has, for each day, each month (of UTC) and each of those alone, a row for each of its
values, so that a year of many accounts is summed without looking at every combination; its
dimension ``hour`` sums whole owners by the hour. A question is answered from the coarsest that
knows what it asks for, and its edges from the next finer one, down to the records. The drain raises
both tables (``storage.raising``); records past their days leave them as they are.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from heapq import nlargest
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.domain.records import Outcome, UsageSource
from xairouter.storage.sums import SumRow
from xairouter.storage.tables import usage_hours, usage_records, usage_sums

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MOST = (1 << 63) - 1
"""The largest number that a column holds; sums stay there instead of failing."""
SUMS = (
    "calls",
    "attempts",
    "errors",
    "refused",
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_nano",
    "unpriced",
)
ALL, HOUR = "all", "hour"
DAY, MONTH = "day", "month"
COLUMNS: Mapping[str, str] = {
    "account": "account_id",
    "key": "key_id",
    "provider_key": "provider_key_id",
    "provider": "provider",
    "model": "model",
    "label": "label",
}
"""Dimension → column of ``usage_hours``."""

Sums = dict[Any, dict[str, int]]
"""Group (None: everything, or nothing said) → sums."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which records: ``equal`` maps column → value, ``account_ids`` is the reach of the asker;
    ``model`` is the model used, else asked for."""

    account_ids: Sequence[str] | None = None
    from_ms: int | None = None
    until_ms: int | None = None
    equal: Mapping[str, Any] | None = None
    model: str | None = None


MODEL = sa.func.coalesce(usage_records.c.model_used, usage_records.c.model_asked)
GROUPS: Mapping[str, sa.ColumnElement[Any]] = {
    "model": MODEL,
    "account": usage_records.c.account_id,
    "key": usage_records.c.key_id,
    "provider_key": usage_records.c.provider_key_id,
    "provider": usage_records.c.provider,
    "label": usage_records.c.label,
    "day": usage_records.c.started_at_ms // sa.literal_column(str(DAY_MS), sa.BigInteger),
    "hour": usage_records.c.started_at_ms // sa.literal_column(str(HOUR_MS), sa.BigInteger),
}


def conditions(owner_id: str, filters: Filters) -> list[sa.ColumnElement[bool]]:
    """The filters over single records."""
    columns = usage_records.c
    found = [columns.owner_id == owner_id]
    if filters.account_ids is not None:
        found.append(columns.account_id.in_(filters.account_ids))
    if filters.from_ms is not None:
        found.append(columns.started_at_ms >= filters.from_ms)
    if filters.until_ms is not None:
        found.append(columns.started_at_ms < filters.until_ms)
    if filters.model is not None:
        found.append(MODEL.in_([filters.model]))
    for name, value in (filters.equal or {}).items():
        found.append(columns[name].is_(None) if value is None else columns[name] == value)
    return found


def add(total: dict[str, int], added: Mapping[str, int]) -> None:
    """Raise sums by others, at most to ``MOST``."""
    for name, value in added.items():
        if value:
            total[name] = min(total[name] + value, MOST)


async def totals(
    connection: AsyncConnection,
    owner_id: str,
    filters: Filters,
    group_by: str | None,
    names: Sequence[str] = SUMS,
    top: int | None = None,
) -> list[SumRow]:
    """Sums over records, in one row or one for each value of a group, whose name is ``group``;
    ``names`` are those of ``SUMS`` that are wanted, ``calls`` among them. With ``top`` only the
    dearest groups, the dearest first, and among equals the busiest.

    ``day`` and ``hour`` groups are whole days and hours since 1970. Whole days and hours come from
    the roll-ups where these know what is asked for, their edges from the records.
    """
    asked = _Asked(connection, owner_id, tuple(names), group_by, top)
    found = await _sums(asked, filters)
    if group_by is None and not found:
        found[None] = dict.fromkeys(names, 0)
    if top is not None:
        dearest = nlargest(top, found.items(), key=lambda item: _worth(item[1]))
        return [cast(SumRow, {"group": group, **sums}) for group, sums in dearest]
    ordered = sorted(found.items(), key=lambda item: (item[0] is not None, item[0]))
    return [cast(SumRow, {"group": group, **sums}) for group, sums in ordered]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is summed, for whom, by what."""

    connection: AsyncConnection
    owner_id: str
    names: tuple[str, ...]
    group_by: str | None
    top: int | None = None


def _worth(sums: Mapping[str, int]) -> tuple[int, int]:
    return sums["cost_nano"], sums["calls"]


async def _sums(asked: _Asked, filters: Filters) -> Sums:
    """By months where possible, else by days, else by hours, else record by record."""
    wanted = _wanted(filters)
    if wanted is None:
        return await _from_records(asked, filters)
    parts: list[Callable[[_Asked], Awaitable[Sums]]] = []
    dimension = _one_dimension(wanted, asked.group_by)
    edges = [filters]
    if dimension is not None:
        values = wanted.get(dimension)
        for grain in (DAY,) if asked.group_by in ("day", "hour") else (MONTH, DAY):
            left: list[Filters] = []
            for edge in edges:
                whole, rest = _split(edge, grain)
                left += rest
                if whole is not None:
                    place = (grain, dimension, values)
                    parts.append(partial(_from_sums, filters=whole, place=place))
            edges = left
    for edge in edges:
        inner, rest = _split(edge, HOUR)
        if inner is not None:
            parts.append(partial(_from_hours, filters=inner, wanted=wanted))
        parts += [partial(_from_records, filters=part) for part in rest]
    if len(parts) > 1:
        # Only of everything together is it known which are the dearest.
        asked = replace(asked, top=None)
    found: Sums = {}
    for part in parts:
        _merge(found, await part(asked))
    return found


def _wanted(filters: Filters) -> dict[str, Sequence[str]] | None:
    """The filters as dimension → values; None if they ask for what only records know."""
    asked: dict[str, Sequence[str]] = {}
    if filters.account_ids is not None:
        asked["account"] = filters.account_ids
    if filters.model is not None:
        asked["model"] = [filters.model]
    by_column = {column: dimension for dimension, column in COLUMNS.items()}
    for column, value in (filters.equal or {}).items():
        dimension = by_column.get(column)
        if dimension is None or dimension in asked:
            return None
        asked[dimension] = [value or ""]
    return asked


def knows(filters: Filters) -> bool:
    """Whether the roll-ups can answer a question, so that no record needs to be looked at but at
    its edges."""
    return _wanted(filters) is not None


def _one_dimension(asked: Mapping[str, Any], group_by: str | None) -> str | None:
    """The dimension of ``usage_sums`` that answers alone, if one does."""
    if not asked:
        return {None: ALL, "day": ALL, "hour": HOUR}.get(group_by, group_by)
    if len(asked) == 1:
        [dimension] = asked
        if group_by in (None, "day", dimension):
            return dimension
    return None


def month_of(at_ms: int) -> int:
    """The beginning of an instant's month of UTC, in milliseconds since 1970."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return int(datetime(at.year, at.month, 1, tzinfo=UTC).timestamp()) * 1000


_FLOORS: Mapping[str, Callable[[int], int]] = {
    HOUR: lambda at_ms: at_ms // HOUR_MS * HOUR_MS,
    DAY: lambda at_ms: at_ms // DAY_MS * DAY_MS,
    MONTH: month_of,
}
_STEPS: Mapping[str, int] = {HOUR: HOUR_MS, DAY: DAY_MS, MONTH: 31 * DAY_MS}
"""At least as long as each step, and no longer than two of them."""


def _split(filters: Filters, grain: str) -> tuple[Filters | None, list[Filters]]:
    """(the part of whole steps, if any; the edges beside it)."""
    floor, begin, end = _FLOORS[grain], filters.from_ms, filters.until_ms
    first = None
    if begin is not None:
        first = begin if floor(begin) == begin else floor(floor(begin) + _STEPS[grain])
    last = None if end is None else floor(end)
    if first is not None and last is not None and first >= last:
        return None, [filters]
    edges = []
    if begin is not None and first != begin:
        edges.append(replace(filters, until_ms=first))
    if end is not None and last != end:
        edges.append(replace(filters, from_ms=last))
    return replace(filters, from_ms=first, until_ms=last), edges


async def _from_sums(
    asked: _Asked, filters: Filters, place: tuple[str, str, Sequence[str] | None]
) -> Sums:
    grain, dimension, values = place
    columns = usage_sums.c
    where = [
        columns.owner_id == asked.owner_id,
        columns.grain == grain,
        columns.dimension == dimension,
        *_within(columns.start_ms, filters),
    ]
    if values is not None:
        where.append(columns.value.in_(values))
    group: sa.ColumnElement[Any] = sa.null()
    if asked.group_by == "day":
        group = columns.start_ms // sa.literal_column(str(DAY_MS), sa.BigInteger)
    elif asked.group_by is not None:
        group = columns.value
    if asked.top is not None and asked.group_by not in (None, "day", "hour"):
        # Which they are is told by two sums; the others are then read for them alone.
        narrow = replace(asked, names=("calls", "cost_nano"))
        dearest = await _grouped(narrow, usage_sums, where, group)
        where.append(columns.value.in_(list(dearest)))
        asked = replace(asked, top=None)
    found = await _grouped(asked, usage_sums, where, group)
    if asked.group_by == "hour":
        return {int(value): sums for value, sums in found.items()}
    return _named(found)


async def _from_hours(asked: _Asked, filters: Filters, wanted: Mapping[str, Sequence[str]]) -> Sums:
    columns = usage_hours.c
    where = [columns.owner_id == asked.owner_id, *_within(columns.hour_ms, filters)]
    where += [columns[COLUMNS[name]].in_(values) for name, values in wanted.items()]
    group: sa.ColumnElement[Any] = sa.null()
    if asked.group_by in ("day", "hour"):
        step = DAY_MS if asked.group_by == "day" else HOUR_MS
        group = columns.hour_ms // sa.literal_column(str(step), sa.BigInteger)
    elif asked.group_by is not None:
        group = columns[COLUMNS[asked.group_by]]
    return _named(await _grouped(asked, usage_hours, where, group))


async def _grouped(
    asked: _Asked,
    table: sa.Table,
    where: Sequence[sa.ColumnElement[bool]],
    group: sa.ColumnElement[Any],
) -> Sums:
    query = sa.select(group, *(sa.func.sum(table.c[name]) for name in asked.names)).where(*where)
    return await _read(asked, query, group)


async def _from_records(asked: _Asked, filters: Filters) -> Sums:
    columns = usage_records.c
    is_error = columns.outcome.in_((Outcome.UPSTREAM_ERROR, Outcome.INTERRUPTED))
    is_unpriced = sa.and_(columns.cost_nano.is_(None), columns.usage_source == UsageSource.REPORTED)
    special: Mapping[str, sa.ColumnElement[Any]] = {
        "calls": sa.func.count(),
        "errors": sa.func.sum(sa.case((is_error, 1), else_=0)),
        "refused": sa.func.sum(sa.case((columns.outcome == Outcome.REFUSED, 1), else_=0)),
        "unpriced": sa.func.sum(sa.case((is_unpriced, 1), else_=0)),
    }
    group = GROUPS[asked.group_by] if asked.group_by else sa.null()
    sums = (
        special[name] if name in special else sa.func.sum(columns[name]) for name in asked.names
    )
    query = sa.select(group, *sums).where(*conditions(asked.owner_id, filters))
    return await _read(asked, query, group)


async def _read(asked: _Asked, query: sa.Select[Any], group: sa.ColumnElement[Any]) -> Sums:
    """Sums as whole numbers (PostgreSQL sums them into decimals); no row for nothing."""
    if asked.group_by is not None:
        query = query.group_by(group)
    if asked.top is not None:
        places = [asked.names.index(name) + 1 for name in ("cost_nano", "calls")]
        columns = list(query.selected_columns)
        worth = (sa.func.coalesce(columns[place], 0).desc() for place in places)
        query = query.order_by(*worth).limit(asked.top)
    names, calls = asked.names, asked.names.index("calls") + 1
    found: Sums = {}
    for row in await asked.connection.execute(query):
        if row[calls]:
            at = int(row[0]) if isinstance(row[0], Decimal) else row[0]
            found[at] = {
                name: min(int(value or 0), MOST) for name, value in zip(names, row[1:], strict=True)
            }
    return found


def _within(column: sa.ColumnElement[int], filters: Filters) -> list[sa.ColumnElement[bool]]:
    found = []
    if filters.from_ms is not None:
        found.append(column >= filters.from_ms)
    if filters.until_ms is not None:
        found.append(column < filters.until_ms)
    return found


def _named(found: Sums) -> Sums:
    """What nobody named is None, as in the records."""
    return {(None if group == "" else group): sums for group, sums in found.items()}


def _merge(into: Sums, more: Sums) -> None:
    for group, sums in more.items():
        if group in into:
            add(into[group], sums)
        else:
            into[group] = dict(sums)


def summed(rows: Iterable[SumRow]) -> SumRow:
    """Groups as one: what ``totals`` without a group would have answered."""
    total = dict.fromkeys(SUMS, 0)
    for row in rows:
        add(total, {name: cast(Mapping[str, int], row)[name] for name in SUMS})
    return cast(SumRow, {"group": None, **total})


async def last_uses(
    connection: AsyncConnection, owner_id: str, dimension: str, values: Sequence[str]
) -> dict[str, int]:
    """Of some values of a dimension, when the last recorded call with each began."""
    columns = usage_sums.c
    query = (
        sa.select(columns.value, sa.func.max(columns.last_ms))
        .where(
            columns.owner_id == owner_id,
            columns.grain == MONTH,
            columns.dimension == dimension,
            columns.value.in_(values),
        )
        .group_by(columns.value)
    )
    return {row[0]: int(row[1]) for row in await connection.execute(query)}


async def has_any(connection: AsyncConnection, owner_id: str) -> bool:
    """Whether an owner ever had a recorded call."""
    columns = usage_sums.c
    query = sa.select(columns.calls).where(
        columns.owner_id == owner_id, columns.grain == MONTH, columns.dimension == ALL
    )
    return (await connection.execute(query.limit(1))).first() is not None
