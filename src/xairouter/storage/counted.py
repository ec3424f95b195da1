"""What limits and budgets count, read from the records: calls that reached a provider."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.domain.records import REPORTED
from xairouter.storage.tables import usage_hours, usage_records

Row = tuple[int, str | None, int]
"""(beginning of a step in milliseconds, model, sum)."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What to sum up: ``unit`` is requests, tokens or money, in steps from an instant on, of some
    accounts (None: all of the owner's), without some calls. ``is_ever`` sums over all time, from
    the roll-ups, which keep what records past their days no longer say."""

    unit: str
    since_ms: int
    step_ms: int
    account_ids: Sequence[str] | None = None
    without: frozenset[str] = frozenset()
    is_ever: bool = False


async def counted(connection: AsyncConnection, owner_id: str, asked: Asked) -> list[Row]:
    """Sums by step and model. Where a reply began and the provider said nothing of usage, or the
    price is not known, what was reserved counts."""
    columns = usage_records.c
    offset = asked.since_ms % asked.step_ms
    step = (columns.started_at_ms - _number(offset)) // _number(asked.step_ms)
    model = sa.func.coalesce(columns.model_used, columns.model_asked)
    query = (
        sa.select(
            step.label("step"), model.label("model"), sa.func.sum(_amount(asked.unit)).label("sum")
        )
        .where(
            columns.owner_id == owner_id,
            columns.attempts > 0,
            columns.started_at_ms >= asked.since_ms,
        )
        .group_by(step, model)
    )
    if asked.is_ever:
        query = query.where(columns.cost_nano.is_(None))
    if asked.account_ids is not None:
        query = query.where(columns.account_id.in_(asked.account_ids))
    if asked.without:
        query = query.where(columns.call_id.not_in(asked.without))
    found: list[Row] = [
        (int(row.step) * asked.step_ms + offset, row.model, int(row.sum or 0))
        for row in await connection.execute(query)
    ]
    return found + await _ever(connection, owner_id, asked) if asked.is_ever else found


def _number(value: int) -> sa.ColumnElement[int]:
    """A constant that reads the same wherever it stands: PostgreSQL groups by the very words."""
    return sa.literal_column(str(value), sa.BigInteger)


def _amount(unit: str) -> sa.ColumnElement[int]:
    """What one record counts for; the same as ``gateway.reserving.used_of``."""
    columns = usage_records.c
    began = sa.and_(columns.status >= 200, columns.status < 300)
    amounts: Mapping[str, sa.ColumnElement[int]] = {
        "requests": _number(1),
        "tokens": sa.case(
            (
                columns.usage_source == REPORTED,
                sa.func.coalesce(columns.input_tokens, 0)
                + sa.func.coalesce(columns.output_tokens, 0),
            ),
            (began, sa.func.coalesce(columns.reserved_tokens, 0)),
            else_=0,
        ),
        "money": sa.case(
            (columns.cost_nano.is_not(None), columns.cost_nano),
            (began, sa.func.coalesce(columns.reserved_nano, 0)),
            else_=0,
        ),
    }
    return amounts[unit]


async def _ever(connection: AsyncConnection, owner_id: str, asked: Asked) -> list[Row]:
    """Known cost of all time by model, less that of the calls left out."""
    hours = usage_hours.c
    query = (
        sa.select(hours.model, sa.func.sum(hours.cost_nano).label("sum"))
        .where(hours.owner_id == owner_id)
        .group_by(hours.model)
    )
    if asked.account_ids is not None:
        query = query.where(hours.account_id.in_(asked.account_ids))
    found: list[Row] = [
        (0, row.model, int(row.sum or 0)) for row in await connection.execute(query)
    ]
    if asked.without:
        columns = usage_records.c
        less = sa.select(columns.model_used, columns.cost_nano).where(
            columns.owner_id == owner_id,
            columns.call_id.in_(asked.without),
            columns.cost_nano.is_not(None),
        )
        found += [
            (0, row.model_used, -int(row.cost_nano)) for row in await connection.execute(less)
        ]
    return found
