"""The command that moves an installation into another database."""

from pathlib import Path
from typing import Annotated, Any

import typer

from xairouter import settings
from xairouter.cli.asking import fail, run
from xairouter.locks import holders, lock_files

app = typer.Typer()


@app.command()
def migrate(
    source: Annotated[str, typer.Option("--from", help="URL of the database that is there.")] = "",
    target: Annotated[
        str, typer.Option("--to", help="URL of an empty database; its schema is made.")
    ] = "",
) -> None:
    """Copy everything from one database into another, and check it; the router must be stopped.

    After a break the same command goes on where it was. Without --from and --to: bring the schema
    of the installation's own database up to date, as every start does.
    """
    if bool(source) != bool(target):
        fail("Give both --from and --to, or neither.")
    if not source:
        from xairouter.cli.asking import with_database

        run(with_database(None, _nothing))
        print("The schema is up to date.")
        return
    print(run(_move(source, target)))


async def _nothing(database: Any, chosen: settings.Settings) -> None:
    """``with_database`` has done it."""


async def _move(source_url: str, target_url: str) -> str:
    from xairouter.errors import StorageError
    from xairouter.manage.verifying import verify_all
    from xairouter.storage.database import Database
    from xairouter.storage.move import move

    hindrance = _hindrance(source_url)
    if hindrance:
        raise StorageError(hindrance)
    source, target = Database(source_url), Database(target_url)
    try:
        await source.migrate()
        await target.migrate()
        copied = await move(
            source, target, lambda one: print(f"{one.table:20} {one.rows:>12} rows")
        )
        reports = await verify_all(target)
    finally:
        await source.close()
        await target.close()
    broken = [report.owner_id for report in reports if not report.is_whole]
    if broken:
        raise StorageError(f"The chains of these owners are not whole: {', '.join(broken)}.")
    return (
        f"{sum(one.rows for one in copied)} rows are there, and {len(reports)} hash chains are "
        "whole. Keep the data directory: journal and vault witness stay in it. Then start the router "
        "with the target as XAIROUTER_DATABASE_URL."
    )


def _hindrance(url: str) -> str | None:
    """Why an SQLite file cannot be moved now: it is missing, or calls still wait to be stored."""
    scheme, _, path = url.partition(":///")
    if not scheme.startswith("sqlite"):
        return None
    if not Path(path).is_file():
        return f"There is no database {path}."
    locked = lock_files(Path(path).parent, Path(path))
    running = dict.fromkeys(who for one in locked for who in holders(one))
    if running:
        return f"A router still uses the source: {' and '.join(running)}. Stop it with SIGTERM."
    folders = (Path(path).parent / "journal").glob("*")
    waiting = sorted(one.name for one in folders if any(one.glob("*.log")))
    if not waiting:
        return None
    return (
        "Calls are still in the journal: stop the router with SIGTERM, so that it stores them. If it "
        f"was killed, start and stop it once more. ({', '.join(waiting)})"
    )
