"""The migrations make exactly the tables that the code knows."""

from pathlib import Path

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from xairouter.storage.database import migrate
from xairouter.storage.tables import metadata


def test_migrations_and_tables_agree(tmp_path: Path):
    file = tmp_path / "x.db"
    migrate(f"sqlite+aiosqlite:///{file}")
    engine = sa.create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        difference = compare_metadata(MigrationContext.configure(connection), metadata)
    engine.dispose()
    assert difference == []


def test_a_sqlite_database_overwrites_what_it_deletes(tmp_path: Path):
    import asyncio

    from xairouter.storage.database import Database

    async def pragma() -> tuple:
        database = Database(f"sqlite+aiosqlite:///{tmp_path}/x.db")
        async with database.read() as connection:
            found = [
                (await connection.execute(sa.text(f"PRAGMA {name}"))).scalar()
                for name in ("secure_delete", "journal_mode", "foreign_keys")
            ]
        await database.close()
        return tuple(found)

    assert asyncio.run(pragma()) == (1, "wal", 1)
