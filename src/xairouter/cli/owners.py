"""Commands about owners and the links that make them."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from xairouter import settings
from xairouter.cli.asking import DataDir, err, link_url, out, run, with_database

app = typer.Typer()
owner_app = typer.Typer(
    help="Create, list, suspend, resume and delete owners.", no_args_is_help=True
)
app.add_typer(owner_app, name="owner")
operator_app = typer.Typer(no_args_is_help=True, help="The operator's pages.")
app.add_typer(operator_app, name="operator")


@app.command("setup-link")
def setup_link(data_dir: DataDir = None) -> None:
    """Print the one-time link that creates the first owner; the one before stops working."""
    from xairouter.manage.links import SETUP, make_link

    async def make(database: Any, chosen: settings.Settings) -> str:
        _, token = await make_link(database, SETUP)
        return link_url(chosen, token)

    print(run(with_database(data_dir, make)))


@operator_app.command("link")
def operator_link(data_dir: DataDir = None) -> None:
    """Print a one-time link (30 minutes) to the operator's pages: owners, and no keys."""
    from xairouter.manage.operators import make_operator_link

    async def make(database: Any, chosen: settings.Settings) -> str:
        return link_url(chosen, await make_operator_link(database), "operator")

    print(run(with_database(data_dir, make)))


def _invite(name: str, email: str | None, as_json: bool, data_dir: Path | None) -> None:
    from xairouter.manage.links import INVITE, make_link

    async def make(database: Any, chosen: settings.Settings) -> dict[str, str]:
        link, token = await make_link(database, INVITE, name, email)
        return {"account_id": link.account_id, "link": link_url(chosen, token)}

    shown = run(with_database(data_dir, make))
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

    made = run(with_database(data_dir, create))
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
    err.print(
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

    found = [account_view(a) for a in run(with_database(data_dir, lambda db, _: list_owners(db)))]
    if as_json:
        print(json.dumps(found))
        return
    table = Table("id", "name", "status", "created")
    for row in found:
        table.add_row(row["id"], row["name"], row["status"], row["created_at"])
    out.print(table)


@owner_app.command("suspend")
def owner_suspend(owner: str, data_dir: DataDir = None) -> None:
    """Refuse every call of an owner, by id or name, until resumed."""
    from xairouter.manage.owners import suspend_owner

    run(with_database(data_dir, lambda db, _: suspend_owner(db, owner, suspended=True)))
    print(f"{owner} is suspended.")


@owner_app.command("resume")
def owner_resume(owner: str, data_dir: DataDir = None) -> None:
    """Let a suspended owner's calls through again."""
    from xairouter.manage.owners import suspend_owner

    run(with_database(data_dir, lambda db, _: suspend_owner(db, owner, suspended=False)))
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
    run(with_database(data_dir, lambda db, _: delete_owner(db, owner)))
    print(f"{owner} is deleted.")
