"""Commands that run the router, or the stand-in provider beside it; settings and check-up."""

import asyncio
import json
import sys
from typing import Annotated, Any

import typer
from rich.table import Table

from xairouter import __version__, settings
from xairouter.cli.asking import DataDir, fail, load, out, run, with_database
from xairouter.errors import XAIRouterError

app = typer.Typer()


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0: any free one.")] = None,
    data_dir: DataDir = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes; more than 1 needs PostgreSQL and Valkey.")
    ] = None,
    listen_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the router."""
    chosen = load(host=host, port=port, data_dir=data_dir, workers=workers)
    from xairouter.observe import configure_logs
    from xairouter.process import allow_descriptors, end_with_parent, harden_process

    configure_logs(chosen.log_level)
    harden_process()
    allow_descriptors()

    def listening(at: str, on: int, token: str | None) -> None:
        shown = f"[{at}]" if ":" in at else at
        print(f"XAI Router {__version__} listens on http://{shown}:{on}")
        if token is not None:
            base = chosen.console_url(f"http://{shown}:{on}")
            print(
                f"Create the first owner here, once, within 24 hours: {base}/console/setup/{token}"
            )
        sys.stdout.flush()

    try:
        if chosen.workers > 1:
            raise typer.Exit(_supervise(chosen, listening))
        if listen_fd is not None:
            end_with_parent()
        import uvloop

        from xairouter.app import serve as run_server

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run_server(chosen, listening, listen_fd))
    except XAIRouterError as error:
        fail(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        fail(f"Cannot start: {where}{error.strerror or error}.")


def _supervise(chosen: settings.Settings, listening: Any) -> int:
    """Run several workers; returns the exit status."""
    from xairouter.manage.links import first_link
    from xairouter.workers import Supervisor

    async def link(database: Any, _: settings.Settings) -> str | None:
        return await first_link(database, is_shared=True)

    # Before any worker: the schema is brought up to date once.
    token = run(with_database(chosen.data_dir, link))
    return Supervisor(chosen, lambda at, on: listening(at, on, token)).run()


@app.command("settings")
def show_settings(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show every setting, its value and where it came from."""
    chosen = load()
    rows = []
    for name, field in settings.Settings.model_fields.items():
        rows.append(
            (
                f"XAIROUTER_{name.upper()}",
                chosen.shown(name),
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
    out.print(table)


@app.command()
def doctor(
    data_dir: DataDir = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask nothing of the network.")] = False,
) -> None:
    """Check the installation and say what to do."""
    chosen = load(data_dir=data_dir)
    from xairouter.doctor import State, examine

    styles = {State.OK: "green", State.NOTE: "yellow", State.BAD: "bold red"}
    findings = run(examine(chosen, offline=offline))
    for finding in findings:
        style = styles[finding.state]
        out.print(f"{finding.state:>4}  {finding.what}: {finding.says}", style=style, markup=False)
    if any(finding.state is State.BAD for finding in findings):
        raise typer.Exit(1)


@app.command("demo-provider")
def demo_provider(
    host: str = "127.0.0.1",
    port: int = 9100,
) -> None:
    """Run the stand-in provider: speaks every dialect and plays every fault."""
    from xairouter.standin.server import run_standin

    def listening(on: int) -> None:
        out.print(f"The stand-in provider listens on http://{host}:{on}", markup=False)

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
    from xairouter.demo import run as run_demo
    from xairouter.observe import configure_logs

    configure_logs("warning")

    def say(line: str) -> None:
        print(line)
        sys.stdout.flush()

    run(run_demo(port, say, once=once))
