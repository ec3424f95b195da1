"""The ``xairouter`` command: serve, owner, settings, doctor, demo-provider."""

import asyncio
import json
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from xairouter import __version__, settings
from xairouter.errors import ManageError, XAIRouterError

app = typer.Typer(
    help="XAI Router: your keys, your control.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
owner_app = typer.Typer(
    help="Create, list, suspend, resume and delete owners.", no_args_is_help=True
)
app.add_typer(owner_app, name="owner")

DataDir = Annotated[Path | None, typer.Option(help="Folder for the database and the journal.")]
_out = Console(soft_wrap=True)
_err = Console(stderr=True, soft_wrap=True)


def fail(message: str) -> NoReturn:
    """Say what is wrong and end with status 1."""
    _err.print(message, style="bold red", markup=False)
    raise typer.Exit(1)


def _load(**options: Any) -> settings.Settings:
    try:
        return settings.load(**options)
    except XAIRouterError as error:
        fail(str(error))


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return asyncio.run(work)
    except ManageError as error:
        fail(error.detail)
    except XAIRouterError as error:
        fail(str(error))


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0: any free one.")] = None,
    data_dir: DataDir = None,
    workers: Annotated[int | None, typer.Option(help="Processes; 1 for now.")] = None,
) -> None:
    """Run the router."""
    chosen = _load(host=host, port=port, data_dir=data_dir, workers=workers)
    from xairouter.observe import configure_logs, harden_process

    configure_logs(chosen.log_level)
    harden_process()
    import uvloop

    from xairouter.app import serve as run_server

    def listening(at: str, on: int, token: str | None) -> None:
        shown = f"[{at}]" if ":" in at else at
        print(f"XAI Router {__version__} listens on http://{shown}:{on}")
        if token is not None:
            base = chosen.public_url.rstrip("/") or f"http://{shown}:{on}"
            print(
                f"Create the first owner here, once, within 24 hours: {base}/console/setup/{token}"
            )
        sys.stdout.flush()

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run_server(chosen, listening))
    except XAIRouterError as error:
        fail(str(error))
    except OSError as error:
        fail(f"Cannot listen on {chosen.host}:{chosen.port}: {error.strerror}.")


@app.command("settings")
def show_settings(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show every setting, its value and where it came from."""
    chosen = _load()
    rows = []
    for name, field in settings.Settings.model_fields.items():
        value = getattr(chosen, name)
        shown = ("(set)" if value else "") if not field.repr else str(value)
        rows.append(
            (
                f"XAIROUTER_{name.upper()}",
                shown,
                chosen.source_of(name, {}),
                field.description or "",
            )
        )
    if as_json:
        print(
            json.dumps(
                [
                    dict(zip(("name", "value", "source", "meaning"), row, strict=True))
                    for row in rows
                ],
                indent=2,
            )
        )
        return
    table = Table("setting", "value", "from", "meaning")
    for row in rows:
        table.add_row(*row)
    _out.print(table)


@app.command()
def doctor(
    data_dir: DataDir = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask nothing of the network.")] = False,
) -> None:
    """Check the installation and say what to do."""
    chosen = _load(data_dir=data_dir)
    from xairouter.doctor import examine

    findings = _run(examine(chosen, offline=offline))
    for finding in findings:
        style = {"ok": "green", "note": "yellow", "bad": "bold red"}[finding.state]
        _out.print(f"{finding.state:>4}  {finding.what}: {finding.says}", style=style, markup=False)
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)


@app.command("demo-provider")
def demo_provider(
    host: str = "127.0.0.1",
    port: int = 9100,
) -> None:
    """Run the stand-in provider: speaks every dialect and plays every fault."""
    from xairouter.standin.server import run_standin

    def listening(on: int) -> None:
        _out.print(f"The stand-in provider listens on http://{host}:{on}", markup=False)

    try:
        asyncio.run(run_standin(host, port, listening))
    except KeyboardInterrupt:
        return


@app.command()
def demo(
    port: Annotated[int, typer.Option(help="Port of the router; 0: any free one.")] = 8080,
    once: Annotated[bool, typer.Option("--once", help="End after the calls.")] = False,
) -> None:
    """Try the whole product in one process, with no provider account and no network."""
    from xairouter.demo import run
    from xairouter.observe import configure_logs

    configure_logs("warning")

    def say(line: str) -> None:
        print(line)
        sys.stdout.flush()

    _run(run(port, say, once=once))


async def _with_database(data_dir: Path | None, work: Any) -> Any:
    """Run ``work(database, settings)`` beside a running router or without one."""
    from xairouter.storage.database import Database

    chosen = settings.load(data_dir=data_dir)
    chosen.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = Database(chosen.effective_database_url)
    try:
        await database.migrate()
        return await work(database, chosen)
    finally:
        await database.close()


def _link_url(chosen: settings.Settings, token: str) -> str:
    base = chosen.public_url.rstrip("/") or f"http://{chosen.host}:{chosen.port}"
    return f"{base}/console/setup/{token}"


@app.command("setup-link")
def setup_link(data_dir: DataDir = None) -> None:
    """Print the one-time link that creates the first owner; the one before stops working."""
    from xairouter.manage.links import SETUP, make_link

    async def make(database: Any, chosen: settings.Settings) -> str:
        _, token = await make_link(database, SETUP)
        return _link_url(chosen, token)

    print(_run(_with_database(data_dir, make)))


def _invite(name: str, email: str | None, as_json: bool, data_dir: Path | None) -> None:
    from xairouter.manage.links import INVITE, make_link

    async def make(database: Any, chosen: settings.Settings) -> dict[str, str]:
        link, token = await make_link(database, INVITE, name, email)
        return {"account_id": link.account_id, "link": _link_url(chosen, token)}

    shown = _run(_with_database(data_dir, make))
    if as_json:
        print(json.dumps(shown))
        return
    for label, value in shown.items():
        print(f"{label:14} {value}")


@owner_app.command("create")
def owner_create(
    name: str,
    email: Annotated[str | None, typer.Option(help="Where the owner can be reached.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    invite: Annotated[
        bool, typer.Option("--invite", help="Print a one-time link instead of the secrets.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Create an owner; prints its first XAI API key and its recovery code, once. With --invite,
    prints a link (24 hours) at which the owner alone sees them."""
    if invite:
        _invite(name, email, as_json, data_dir)
        return
    from xairouter.custody.witness import Witness
    from xairouter.manage.owners import create_owner

    def create(database: Any, chosen: settings.Settings) -> Any:
        witness = Witness(chosen.witness_file)
        return create_owner(database, witness, name, email, seen_by_operator=True)

    made = _run(_with_database(data_dir, create))
    shown = {
        "account_id": made.account.id,
        "api_key": made.api_key,
        "recovery_code": made.recovery_code,
    }
    if as_json:
        print(json.dumps(shown))
        return
    for label, value in shown.items():
        print(f"{label:14} {value}")
    _err.print(
        "Store both now: they are not shown again. You have seen them, so the owner should "
        "take over with POST /api/v1/me/take-over.",
        style="yellow",
        markup=False,
    )


@owner_app.command("list")
def owner_list(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    data_dir: DataDir = None,
) -> None:
    """List the owners."""
    from xairouter.manage.owners import list_owners
    from xairouter.manage.views import account_view

    found = [account_view(a) for a in _run(_with_database(data_dir, lambda db, _: list_owners(db)))]
    if as_json:
        print(json.dumps(found))
        return
    table = Table("id", "name", "status", "created")
    for row in found:
        table.add_row(row["id"], row["name"], row["status"], row["created_at"])
    _out.print(table)


@owner_app.command("suspend")
def owner_suspend(owner: str, data_dir: DataDir = None) -> None:
    """Refuse every call of an owner, by id or name, until resumed."""
    from xairouter.manage.owners import suspend_owner

    _run(_with_database(data_dir, lambda db, _: suspend_owner(db, owner, suspended=True)))
    print(f"{owner} is suspended.")


@owner_app.command("resume")
def owner_resume(owner: str, data_dir: DataDir = None) -> None:
    """Let a suspended owner's calls through again."""
    from xairouter.manage.owners import suspend_owner

    _run(_with_database(data_dir, lambda db, _: suspend_owner(db, owner, suspended=False)))
    print(f"{owner} is active.")


@owner_app.command("delete")
def owner_delete(
    owner: str,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Delete an owner: every slot and sealed provider key goes; records stay readable."""
    from xairouter.manage.owners import delete_owner

    if not yes and not typer.confirm(f"Delete {owner} and everything sealed for it?"):
        raise typer.Exit(1)
    _run(_with_database(data_dir, lambda db, _: delete_owner(db, owner)))
    print(f"{owner} is deleted.")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point; the last edge: a person gets a sentence, not a traceback."""
    try:
        app()
    except XAIRouterError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
