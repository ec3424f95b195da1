"""Raising the roll-ups by freshly inserted records, in the transaction that inserts them."""

import operator
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.domain.records import Outcome, UsageSource
from xairouter.storage.database import in_steps, insert_into
from xairouter.storage.rollups import (
    ALL,
    COLUMNS,
    DAY,
    DAY_MS,
    HOUR,
    HOUR_MS,
    MONTH,
    MOST,
    SUMS,
    add,
    month_of,
)
from xairouter.storage.tables import usage_counted, usage_hours, usage_sums

_ERRORS = (Outcome.UPSTREAM_ERROR, Outcome.INTERRUPTED)
_REFUSED, _REPORTED = Outcome.REFUSED, UsageSource.REPORTED
_COUNTED = ("calls", "errors", "refused", "unpriced")
_HELD = "counted_nano"
"""What budgets count, which the sums by hour know, and those of all time by account and model."""
_COUNTED_PLACE = ("owner_id", "account_id", "model")
_SUMMED = (*(name for name in SUMS if name not in _COUNTED), _HELD)
_summed = itemgetter(*_SUMMED)
_ADDED = (*_COUNTED, *_SUMMED)
"""What ``_added`` gives, in its order."""


async def raise_sums(connection: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add freshly inserted records to all three tables, in the transaction that inserted them."""
    sums: dict[tuple[Any, ...], list[int]] = {}
    last: dict[tuple[Any, ...], int] = defaultdict(int)
    async for some in in_steps(rows, 256):
        for row in some:
            place, added = _place(row), _added(row)
            known = sums.get(place)
            sums[place] = added if known is None else list(map(operator.add, known, added))
            if row["started_at_ms"] > last[place]:
                last[place] = row["started_at_ms"]
    hours = {
        place: dict(zip(_ADDED, (min(one, MOST) for one in known), strict=True))
        for place, known in sums.items()
    }
    names = ("owner_id", "hour_ms", *COLUMNS.values())
    await _raise(
        connection,
        usage_hours,
        names,
        [dict(zip(names, place, strict=True)) | sums for place, sums in sorted(hours.items())],
    )
    names = ("owner_id", "grain", "dimension", "start_ms", "value")
    await _raise(
        connection,
        usage_sums,
        names,
        [
            dict(zip(names, place, strict=True)) | sums
            for place, sums in sorted(_by_dimension(hours, last).items())
        ],
    )
    await _raise(
        connection,
        usage_counted,
        _COUNTED_PLACE,
        [
            dict(zip(_COUNTED_PLACE, place, strict=True)) | sums
            for place, sums in sorted(_of_all_time(hours).items())
        ],
    )


async def shift_sums(
    connection: AsyncConnection, before: Mapping[str, Any], after: Mapping[str, Any]
) -> None:
    """Change all three tables by the difference that a changed record makes, in the transaction that
    changed it. Sums end at 0 and at ``MOST``."""
    place = _place(after)
    more = map(operator.sub, _added(after), _added(before))
    hours = {place: dict(zip(_ADDED, more, strict=True))}
    names = ("owner_id", "hour_ms", *COLUMNS.values())
    await _shift(connection, usage_hours, names, hours)
    names = ("owner_id", "grain", "dimension", "start_ms", "value")
    await _shift(connection, usage_sums, names, _by_dimension(hours, {place: 0}))
    await _shift(connection, usage_counted, _COUNTED_PLACE, _of_all_time(hours))


async def _shift(
    connection: AsyncConnection,
    table: sa.Table,
    place: tuple[str, ...],
    sums: Mapping[tuple[Any, ...], Mapping[str, int]],
) -> None:
    names = [name for name in _ADDED if name in table.c]
    statement = (
        table.update()
        .where(*(table.c[name] == sa.bindparam(f"at_{name}") for name in place))
        .values({name: _shifted(table.c[name], sa.bindparam(f"by_{name}")) for name in names})
    )
    rows = [
        {f"at_{name}": value for name, value in zip(place, at, strict=True)}
        | {f"by_{name}": shifts[name] for name in names}
        for at, shifts in sorted(sums.items())
    ]
    await connection.execute(statement, rows)


def _shifted(one: sa.ColumnElement[int], by: sa.BindParameter[Any]) -> sa.ColumnElement[int]:
    number = sa.cast(by, sa.BigInteger)
    most = sa.literal_column(str(MOST), sa.BigInteger)
    return sa.case(
        (sa.and_(number >= 0, one > most - number), most),
        (sa.and_(number < 0, one < -number), 0),
        else_=one + number,
    )


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Owner, hour and combination, as the table's columns have them."""
    return (
        row["owner_id"],
        row["started_at_ms"] // HOUR_MS * HOUR_MS,
        row["account_id"],
        row["key_id"],
        row["provider_key_id"] or "",
        row["provider"] or "",
        row["model_used"] or row["model_asked"] or "",
        row["label"] or "",
    )


def _by_dimension(
    hours: Mapping[tuple[Any, ...], Mapping[str, int]], last: Mapping[tuple[Any, ...], int]
) -> dict[tuple[Any, ...], dict[str, int]]:
    """Sums by the hour and combination as sums by day and month, each dimension alone."""
    found: dict[tuple[Any, ...], dict[str, int]] = {}
    for place, sums in hours.items():
        owner_id, hour_ms, *combination = place
        values = {ALL: "", **dict(zip(COLUMNS, combination, strict=True))}
        day_ms, month_ms = hour_ms // DAY_MS * DAY_MS, month_of(hour_ms)
        places = [(owner_id, DAY, HOUR, day_ms, str(hour_ms // HOUR_MS))]
        for dimension, value in values.items():
            places.append((owner_id, DAY, dimension, day_ms, value))
            places.append((owner_id, MONTH, dimension, month_ms, value))
        for at in places:
            if at not in found:
                found[at] = {**sums, "last_ms": last[place]}
            else:
                add(found[at], sums)
                found[at]["last_ms"] = max(found[at]["last_ms"], last[place])
    return found


def _of_all_time(
    hours: Mapping[tuple[Any, ...], Mapping[str, int]],
) -> dict[tuple[Any, ...], dict[str, int]]:
    """What budgets count of sums by the hour and combination, by account and model."""
    found: dict[tuple[Any, ...], dict[str, int]] = {}
    for (owner_id, _, account_id, _, _, _, model, _), sums in hours.items():
        held = {_HELD: sums[_HELD]}
        add(found.setdefault((owner_id, account_id, model), {_HELD: 0}), held)
    return found


def _added(row: Mapping[str, Any]) -> list[int]:
    """What one record adds to each sum, in the order of ``_ADDED``."""
    outcome = row["outcome"]
    return [
        1,
        int(outcome in _ERRORS),
        int(outcome == _REFUSED),
        int(row["cost_nano"] is None and row["usage_source"] == _REPORTED),
        *[number or 0 for number in _summed(row)],
    ]


async def _raise(
    connection: AsyncConnection,
    table: sa.Table,
    place: tuple[str, ...],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Insert sums, or add them to those at the same place: many rows in one go, straight to the
    driver, as ``insert_rows`` does."""
    if not rows:
        return
    statement, names = _statement(table, place, connection.dialect)
    await connection.exec_driver_sql(statement, list(map(itemgetter(*names), rows)))


@cache
def _statement(
    table: sa.Table, place: tuple[str, ...], dialect: sa.Dialect
) -> tuple[str, tuple[str, ...]]:
    """The statement in the driver's own words, and the order of its values."""
    insert = insert_into(dialect, table)
    names = [name for name in (*SUMS, _HELD) if name in table.c]
    raised: dict[str, Any] = {name: _sum(table.c[name], insert.excluded[name]) for name in names}
    if "last_ms" in table.c:
        newer = insert.excluded.last_ms > table.c.last_ms
        raised["last_ms"] = sa.case((newer, insert.excluded.last_ms), else_=table.c.last_ms)
    whole = insert.on_conflict_do_update(index_elements=list(place), set_=raised)
    compiled = whole.compile(dialect=dialect, column_keys=list(table.c.keys()))
    return str(compiled), tuple(compiled.positiontup or ())


def _sum(one: sa.ColumnElement[int], other: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    """Their sum, at most ``MOST``; both are zero or more."""
    most = sa.literal_column(str(MOST), sa.BigInteger)
    return sa.case((one > most - other, most), else_=one + other)
