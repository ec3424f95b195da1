"""What the commands share: settings, the database, words for a person, the way to fail."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from xairouter import settings
from xairouter.errors import ManageError, XAIRouterError
from xairouter.process import make_private

DataDir = Annotated[Path | None, typer.Option(help="Folder for the database and the journal.")]
out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)


def fail(message: str) -> NoReturn:
    """Say what is wrong and end with status 1."""
    err.print(message, style="bold red", markup=False)
    raise typer.Exit(1)


def load(**options: Any) -> settings.Settings:
    try:
        return settings.load(**options)
    except XAIRouterError as error:
        fail(str(error))


def run(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return asyncio.run(work)
    except ManageError as error:
        fail(error.detail)
    except XAIRouterError as error:
        fail(str(error))


async def with_database(data_dir: Path | None, work: Any) -> Any:
    """Run ``work(database, settings)`` beside a running router or without one."""
    from xairouter.custody.witness import Witness
    from xairouter.manage.opening import open_database
    from xairouter.storage.database import Database

    chosen = settings.load(data_dir=data_dir)
    chosen.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    make_private(chosen.data_dir)
    database = Database(chosen.effective_database_url)
    try:
        await open_database(database, Witness(chosen.witness_file), chosen.shown_database)
        return await work(database, chosen)
    finally:
        await database.close()


def link_url(chosen: settings.Settings, token: str, page: str = "setup") -> str:
    base = chosen.console_url(f"http://{chosen.host}:{chosen.port}")
    return f"{base}/console/{page}/{token}"
