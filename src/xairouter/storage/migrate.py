"""Schema migrations: which revision a database has, and the way to a newer one.

Everything here runs on a connection whose transaction belongs to the caller.
"""

from pathlib import Path

import sqlalchemy as sa

from xairouter.errors import StorageError

HEAD = "head"
_FOLDER = Path(__file__).parent / "migrations"


def known_revisions() -> list[str]:
    """Revisions in order; file names begin with them (0001_….py)."""
    return sorted(path.name[:4] for path in (_FOLDER / "versions").glob("[0-9]*.py"))


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
