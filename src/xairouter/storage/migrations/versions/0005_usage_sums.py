"""Sums by day, by month and by one dimension alone: a year of many accounts is summed at once.

They are filled from the sums by hour, which know records that are past their days too.
"""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_SUMS = (
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
_DIMENSIONS = ("account_id", "key_id", "provider_key_id", "provider", "model", "label")


def upgrade() -> None:
    for name in ("refused", "cache_write_tokens"):
        op.add_column(
            "usage_hours", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")
        )
    op.create_index(
        "ix_usage_hours_owner_account_hour", "usage_hours", ["owner_id", "account_id", "hour_ms"]
    )
    op.create_table(
        "usage_sums",
        sa.Column("owner_id", sa.String(length=40), nullable=False),
        sa.Column("grain", sa.String(length=8), nullable=False),
        sa.Column("dimension", sa.String(length=16), nullable=False),
        sa.Column("start_ms", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _SUMS),
        sa.Column("last_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "owner_id", "grain", "dimension", "start_ms", "value", name=op.f("pk_usage_sums")
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_usage_sums_value",
        "usage_sums",
        ["owner_id", "grain", "dimension", "value", "start_ms"],
    )
    _fill_hours()
    _fill_days()
    _fill_months()


def _fill_hours() -> None:
    """What the sums by hour did not hold yet, from the records that are still there."""
    hours = sa.table(
        "usage_hours",
        *(sa.column(name) for name in ("owner_id", "hour_ms", "refused", *_DIMENSIONS)),
        sa.column("cache_write_tokens"),
    )
    records = sa.table(
        "usage_records",
        *(sa.column(name) for name in ("owner_id", "started_at_ms", "outcome", *_DIMENSIONS[:4])),
        *(sa.column(name) for name in ("label", "model_used", "model_asked")),
        sa.column("cache_write_tokens"),
    )
    same = [
        records.c.owner_id == hours.c.owner_id,
        records.c.account_id == hours.c.account_id,
        records.c.started_at_ms >= hours.c.hour_ms,
        records.c.started_at_ms < hours.c.hour_ms + 3_600_000,
        records.c.key_id == hours.c.key_id,
        sa.func.coalesce(records.c.provider_key_id, "") == hours.c.provider_key_id,
        sa.func.coalesce(records.c.provider, "") == hours.c.provider,
        sa.func.coalesce(records.c.model_used, records.c.model_asked, "") == hours.c.model,
        sa.func.coalesce(records.c.label, "") == hours.c.label,
    ]
    refused = sa.func.sum(sa.case((records.c.outcome == "refused", 1), else_=0))
    written = sa.func.sum(sa.func.coalesce(records.c.cache_write_tokens, 0))
    op.execute(
        hours.update().values(
            {
                name: sa.func.coalesce(sa.select(total).where(*same).scalar_subquery(), 0)
                for name, total in (("refused", refused), ("cache_write_tokens", written))
            }
        )
    )


def _fill_days() -> None:
    hours = sa.table(
        "usage_hours",
        *(sa.column(name, sa.String) for name in ("owner_id", *_DIMENSIONS)),
        *(sa.column(name, sa.BigInteger) for name in ("hour_ms", *_SUMS)),
    )
    names = ("owner_id", "grain", "dimension", "start_ms", "value", *_SUMS, "last_ms")
    days = sa.table("usage_sums", *(sa.column(name) for name in names))
    day = hours.c.hour_ms - hours.c.hour_ms % sa.literal_column("86400000")
    hour = sa.cast(hours.c.hour_ms / sa.literal_column("3600000"), sa.BigInteger)
    values: dict[str, sa.ColumnElement[str]] = {
        name.removesuffix("_id"): hours.c[name] for name in _DIMENSIONS
    }
    values["all"] = sa.literal_column("''")
    values["hour"] = sa.cast(hour, sa.String)
    for dimension, value in values.items():
        chosen = sa.select(
            hours.c.owner_id,
            sa.literal_column("'day'"),
            sa.literal_column(f"'{dimension}'"),
            day.label("day"),
            value.label("value"),
            *(sa.cast(sa.func.sum(hours.c[name]), sa.BigInteger) for name in _SUMS),
            sa.func.max(hours.c.hour_ms),
        )
        inner = chosen.group_by(hours.c.owner_id, sa.text("4"), sa.text("5"))
        op.execute(days.insert().from_select(names, inner))


def _fill_months() -> None:
    """The days of each month of UTC together; months are told by the calendar, one by one."""
    names = ("owner_id", "grain", "dimension", "start_ms", "value", *_SUMS, "last_ms")
    sums = sa.table("usage_sums", *(sa.column(name) for name in names))
    first, last = (
        op.get_bind()
        .execute(sa.select(sa.func.min(sums.c.start_ms), sa.func.max(sums.c.start_ms)))
        .one()
    )
    if first is None:
        return
    month = datetime.fromtimestamp(first / 1000, UTC).replace(day=1, hour=0, minute=0, second=0)
    while month.timestamp() * 1000 <= last:
        following = (month + timedelta(days=32)).replace(day=1)
        begin, end = (int(at.timestamp()) * 1000 for at in (month, following))
        chosen = (
            sa.select(
                sums.c.owner_id,
                sa.literal_column("'month'"),
                sums.c.dimension,
                sa.literal_column(str(begin), sa.BigInteger),
                sums.c.value,
                *(sa.cast(sa.func.sum(sums.c[name]), sa.BigInteger) for name in _SUMS),
                sa.func.max(sums.c.last_ms),
            )
            .where(
                sums.c.grain == "day",
                sums.c.dimension != "hour",
                sums.c.start_ms >= begin,
                sums.c.start_ms < end,
            )
            .group_by(sums.c.owner_id, sums.c.dimension, sums.c.value)
        )
        op.execute(sums.insert().from_select(names, chosen))
        month = following
