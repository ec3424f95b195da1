"""Schema migrations: which revision a database has, and the way to a newer one.

Everything here runs on a connection whose transaction belongs to the caller.
"""

from pathlib import Path

import sqlalchemy as sa

from xairouter.errors import StorageError
from xairouter.storage.tables import metadata

HEAD = "head"
_FOLDER = Path(__file__).parent / "migrations"


def known_revisions() -> list[str]:
    """Revisions in order; file names begin with them (0001_….py)."""
    return sorted(path.name[:4] for path in (_FOLDER / "versions").glob("[0-9]*.py"))


def is_missing(file: str | None) -> bool:
    """Whether an SQLite file is not there; opening it would make it."""
    return bool(file) and not Path(str(file)).exists()


def is_unmade(connection: sa.Connection) -> bool:
    """Whether no migration has ever run here."""
    return _revision(connection) is None


def lacking(connection: sa.Connection) -> list[str]:
    """Tables and columns that the code needs and the database does not have, whatever revision it says
    that it is at."""
    inspector = sa.inspect(connection)
    there = set(inspector.get_table_names())
    found = [table.name for table in metadata.sorted_tables if table.name not in there]
    for table in metadata.sorted_tables:
        if table.name in there:
            names = {column["name"] for column in inspector.get_columns(table.name)}
            found += [f"{table.name}.{one.name}" for one in table.columns if one.name not in names]
    return found


def is_at(connection: sa.Connection, wanted: str) -> bool:
    """Whether the schema has the wanted revision; raises StorageError if it has an unknown one."""
    found, known = _revision(connection), known_revisions()
    if found is not None and found not in known:
        raise StorageError(
            f"The database has revision {found}, which this version does not know: it was "
            "written by a newer one. Upgrade the software."
        )
    return found == (known[-1] if wanted == HEAD else wanted)


def upgrade(connection: sa.Connection, to: str) -> None:
    """Run the migrations that are missing; another instance may just have done it."""
    if is_at(connection, to):
        return
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
