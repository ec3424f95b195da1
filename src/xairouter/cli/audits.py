"""The command that checks the hash chains."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from xairouter import settings
from xairouter.cli.asking import DataDir, fail, run, with_database

_TOLD_EVERY = 100_000
audit_app = typer.Typer(help="Check the hash chains of records.", no_args_is_help=True)


@audit_app.command("verify")
def audit_verify(
    checkpoint: Annotated[
        Path | None, typer.Option(help="A checkpoint's JSON file that was kept elsewhere.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Find records and operations that were removed, inserted or altered; ends with 1 if any."""
    from xairouter.manage import audit, verifying

    async def look(database: Any, _: settings.Settings) -> list[Any]:
        if checkpoint is None:
            return await verifying.verify_all(database, _tell)
        point = audit.read_checkpoint(_json_file(checkpoint))
        report = verifying.Report(point.owner_id)
        return [await verifying.verify(database, report, point, tell=_tell)]

    reports = run(with_database(data_dir, look))
    if as_json:
        print(json.dumps([report.view() for report in reports]))
    else:
        for report in reports:
            state = "whole" if report.is_whole else "NOT WHOLE"
            print(f"{report.owner_id}: {state}, {report.entries} entries, head {report.head[:16]}…")
            for fault in report.faults:
                print(f"  {fault}")
    if not all(report.is_whole for report in reports):
        raise typer.Exit(1)


def _tell(report: Any) -> None:
    """A long verification says how far it is."""
    if report.entries % _TOLD_EVERY == 0 and report.entries < report.of:
        print(f"{report.owner_id}: {report.entries} of {report.of} entries", file=sys.stderr)


def _json_file(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        fail(f"Cannot read {path}: {error}.")
    # What GET /audit answers holds the checkpoint, and so does its part alone.
    if not isinstance(found, dict):
        fail(f"{path} holds no checkpoint.")
    inner = found.get("checkpoint", found)
    return dict(inner) if isinstance(inner, dict) else {}
