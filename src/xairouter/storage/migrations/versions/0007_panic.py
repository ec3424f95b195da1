"""Which account's panic suspended a key, so that undo brings back those keys and no others."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("panic_of", sa.String(length=40), nullable=True))
