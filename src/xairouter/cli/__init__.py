"""The ``xairouter`` command. Each file here is a group of commands; ``asking.py`` is what they share."""

import sys
from typing import Annotated

import typer

from xairouter import __version__
from xairouter.cli import moving, owners, serving
from xairouter.cli.audits import audit_app
from xairouter.errors import XAIRouterError
from xairouter.imports.command import import_app
from xairouter.process import keep_files_private

app = typer.Typer(
    help="XAI Router: your keys, your control.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(serving.app)
app.add_typer(owners.app)
app.add_typer(moving.app)
app.add_typer(audit_app, name="audit")
app.add_typer(import_app, name="import")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main() -> None:
    """Entry point; the last edge: a person gets a sentence, not a traceback."""
    keep_files_private()
    try:
        app()
    except XAIRouterError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
