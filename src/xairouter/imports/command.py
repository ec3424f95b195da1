"""``xairouter import``: what is read, asked for, brought in and shown."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from xairouter.errors import ConfigError
from xairouter.imports.proposal import KeyWish, Line

_MOST_YAML = 8 << 20
_out = Console(soft_wrap=True)
_err = Console(stderr=True, soft_wrap=True)
import_app = typer.Typer(help="Bring in another gateway's set-up.", no_args_is_help=True)


@import_app.callback()
def _root() -> None:
    """Bring in another gateway's set-up."""


@import_app.command("litellm")
def import_litellm(
    file: Path,
    url: Annotated[str, typer.Option(help="Where the router is.")] = "http://127.0.0.1:8080",
    teams: Annotated[
        Path | None, typer.Option(help="Teams beside the file's own: what GET /team/list answers.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be brought in.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Bring in LiteLLM's YAML: provider keys, names, prices, fallbacks, teams and budgets.

    The owner's XAI API key is taken from XAI_KEY or asked for, and so are provider keys that
    neither the file nor the environment holds. Ends with 1 if a part was refused.
    """
    from xairouter.imports import apply, litellm

    def find_secret(wish: KeyWish) -> str | None:
        if wish.source.literal is not None:
            return wish.source.literal
        found = os.environ.get(wish.source.variable or "")
        if found or not sys.stdin.isatty():
            return found or None
        return (
            typer.prompt(f"Secret of {wish.name}", hide_input=True, default="", show_default=False)
            or None
        )

    more = None if teams is None else _yaml_file(teams)
    proposal = litellm.read(_yaml_file(file), os.environ, more)
    lines, made, failed = list(proposal.lines), [], 0
    if not dry_run:
        apply.checked_url(url)
        key = os.environ.get("XAI_KEY") or typer.prompt("The owner's XAI API key", hide_input=True)
        done = asyncio.run(apply.bring_in(proposal, url, key.strip(), find_secret))
        lines, made, failed = lines + done.lines, done.made, done.failed
    _show(lines, made, as_json=as_json)
    if failed:
        raise typer.Exit(1)


def _show(lines: list[Line], made: list[dict[str, str]], *, as_json: bool) -> None:
    if as_json:
        shown = [{"state": one.state, "what": one.what, "says": one.says} for one in lines]
        print(json.dumps({"lines": shown, "accounts": made}, indent=1))
    else:
        styles = {"failed": "bold red", "left out": "yellow", "changed": "yellow"}
        for one in lines:
            _out.print(
                f"{one.state:>9}  {one.what}: {one.says}",
                style=styles.get(one.state, ""),
                markup=False,
            )
        for account in made:
            print(f"{account['name']}: {account['api_key']}")
        if made:
            _err.print("Store these XAI API keys now: they are not shown again.", style="yellow")


def _yaml_file(path: Path) -> Any:
    """A YAML or JSON file of plain values; raises ConfigError if it is none."""
    import yaml

    try:
        if path.stat().st_size > _MOST_YAML:
            raise ConfigError([f"{path} is larger than {_MOST_YAML >> 20} MiB."])
        return yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError([f"Cannot read {path}: {error.strerror}."]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # The parser's words quote the file's line, which may hold a secret: only its place is told.
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        raise ConfigError([f"{path} is no YAML that can be read{where}."]) from None
