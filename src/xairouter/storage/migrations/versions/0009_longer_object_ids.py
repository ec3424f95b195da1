"""Ids of provider objects of up to 1,024 characters: some gateways wrap more than an id in theirs."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    with op.batch_alter_table("provider_objects") as table:
        table.alter_column(
            "object_id",
            existing_type=sa.String(length=128),
            type_=sa.String(length=1024),
            existing_nullable=False,
        )
