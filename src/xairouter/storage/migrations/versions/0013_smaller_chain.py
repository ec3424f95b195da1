"""An entry of a hash chain takes half the room: its hash follows from the leaves before it, and no query
needs the index by row. Where entries of forgotten records were pruned, ``chain_bases`` says where the
chain begins."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_table(
        "chain_bases",
        sa.Column("owner_id", sa.String(length=40), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("kept", sa.LargeBinary(length=32), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("mac", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", name=op.f("pk_chain_bases")),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP INDEX IF EXISTS ix_chain_ref")
        op.execute("ALTER TABLE chain DROP COLUMN IF EXISTS hash")
        return
    op.execute("ALTER TABLE chain RENAME TO chain_before")
    op.create_table(
        "chain",
        sa.Column("owner_id", sa.String(length=40), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("ref_id", sa.String(length=40), nullable=False),
        sa.Column("salt", sa.LargeBinary(length=16), nullable=False),
        sa.Column("leaf", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "seq", name=op.f("pk_chain")),
        sqlite_with_rowid=False,
    )
    names = ("owner_id", "seq", "kind", "ref_id", "salt", "leaf")
    before = sa.table("chain_before", *map(sa.column, names))
    rows = sa.select(before).order_by(before.c.owner_id, before.c.seq)
    op.execute(sa.table("chain", *map(sa.column, names)).insert().from_select(names, rows))
    op.execute("DROP TABLE chain_before")
