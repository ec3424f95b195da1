"""Records of responses in the background are settled when their end is seen: what a record said
before, which call an object's end settles, and an index by which old objects are forgotten."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("usage_records", sa.Column("settled", sa.Text(), nullable=True))
    op.add_column("provider_objects", sa.Column("call_id", sa.String(length=40), nullable=True))
    op.add_column("provider_objects", sa.Column("final", sa.Text(), nullable=True))
    op.create_index(
        "ix_provider_objects_owner_created", "provider_objects", ["owner_id", "created_at_ms"]
    )
