"""What a record counts for against limits and budgets, kept with it and summed up by the hour."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    for name in ("counted_tokens", "counted_nano"):
        op.add_column("usage_records", sa.Column(name, sa.BigInteger(), nullable=True))
    op.add_column(
        "usage_hours",
        sa.Column("counted_nano", sa.BigInteger(), nullable=False, server_default="0"),
    )
    hours = sa.table("usage_hours", sa.column("counted_nano"), sa.column("cost_nano"))
    op.execute(hours.update().values(counted_nano=hours.c.cost_nano))
