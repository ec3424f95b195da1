"""What budgets count of all time, by account and model: a total budget's counter begins with as many
rows as there are of these, however many hours and calls there were."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_MOST = (1 << 63) - 1


def _largest() -> sa.ColumnElement[int]:
    return sa.literal_column(str(_MOST), sa.BigInteger())


def upgrade() -> None:
    table = op.create_table(
        "usage_counted",
        sa.Column("owner_id", sa.String(length=40), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("counted_nano", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "account_id", "model", name=op.f("pk_usage_counted")),
        sqlite_with_rowid=False,
    )
    places = [sa.column(name, sa.Text()) for name in ("owner_id", "account_id", "model")]
    nano = sa.column("counted_nano", sa.BigInteger())
    hours = sa.table("usage_hours", *places, nano)
    # In two parts, because a sum that is too large is an error in either database.
    billion = sa.literal_column("1000000000", sa.BigInteger())
    high, low = sa.func.sum(nano // billion), sa.func.sum(nano % billion)
    summed = sa.case(
        (high >= sa.literal_column(str(_MOST // 10**9 - 1), sa.BigInteger()), _largest()),
        else_=sa.cast(high * billion + low, sa.BigInteger()),
    )
    op.execute(
        table.insert().from_select(
            [*(place.name for place in places), "counted_nano"],
            sa.select(*places, summed).select_from(hours).group_by(*places),
        )
    )
