"""The router as a process of its own, for what only a process can show: kills, signals, start."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import aiohttp

from tests.forked import context, start_command
from tests.rig import SECRET
from tests.servers import sqlite_database

COMMAND = [sys.executable, "-m", "xairouter"]


def run_command(
    *arguments: str, data_dir: Path | None = None, is_new: bool = False, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``xairouter …`` to its end; ``is_new``: in a process that starts from nothing."""
    words = [*arguments, *(["--data-dir", str(data_dir)] if data_dir else [])]
    settings = {**os.environ, **environment}
    if is_new:
        return subprocess.run(
            [*COMMAND, *words],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env=settings,
        )
    with tempfile.TemporaryDirectory(prefix="xairouter-command-") as folder:
        output, errors = Path(folder, "output"), Path(folder, "errors")
        process = start_command(words, settings, str(output), str(errors))
        process.join(300)
        assert process.exitcode is not None, f"{words} does not end: {errors.read_text()}"
        return subprocess.CompletedProcess(
            words, process.exitcode, output.read_text(), errors.read_text()
        )


class Forked:
    """What asyncio gives for a process, for one of ``tests.forked``."""

    def __init__(self, process: BaseProcess, stdout: asyncio.StreamReader) -> None:
        self._process = process
        self.stdout = stdout
        self.pid = process.pid or 0

    def kill(self) -> None:
        self._process.kill()

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    async def wait(self) -> int:
        await asyncio.to_thread(self._process.join)
        return self._process.exitcode or 0


@dataclass
class Router:
    """A running router process."""

    process: asyncio.subprocess.Process | Forked
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def ask(self, method: str, path: str, key: str, body: Any = None, **headers: str) -> Any:
        async with aiohttp.ClientSession() as session:
            sent = {
                "authorization": f"Bearer {key}",
                **{name.replace("_", "-"): value for name, value in headers.items()},
            }
            data = json.dumps(body).encode() if body is not None else None
            async with session.request(method, self.url + path, data=data, headers=sent) as reply:
                return reply.status, await reply.json(content_type=None)

    async def add_standin(self, key: str, port: int) -> None:
        """Add a provider key to a stand-in, for every model in two dialects."""
        status, added = await self.ask(
            "POST",
            "/api/v1/provider-keys?verify=false",
            key,
            {
                "name": "s",
                "secret": SECRET,
                "models": ["*"],
                "endpoints": {
                    "openai_chat": f"http://127.0.0.1:{port}/v1",
                    "anthropic_messages": f"http://127.0.0.1:{port}",
                },
            },
        )
        assert status == 201, added

    async def kill(self) -> None:
        self.process.kill()
        await self._ended()

    async def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self._ended(), 120)

    async def _ended(self) -> int:
        assert self.process.stdout is not None
        await self.process.stdout.read()
        return await self.process.wait()


async def _forked(words: list[str], settings: dict[str, str], log: Path) -> Forked:
    reader, writer = context().Pipe(duplex=False)
    with writer:
        process = await asyncio.to_thread(start_command, words, settings, writer, str(log))
    stdout = asyncio.StreamReader()
    pipe = os.fdopen(os.dup(reader.fileno()), "rb", buffering=0)
    reader.close()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stdout), pipe
    )
    return Forked(process, stdout)


async def start_router(data_dir: Path, *, is_new: bool = False, **environment: str) -> Router:
    """Start ``xairouter serve`` on a free port and wait until it listens; ``is_new``: in a process that
    starts from nothing."""
    log = data_dir.parent / "stderr.log"
    words = ["serve", "--port", "0", "--data-dir", str(data_dir)]
    settings = {
        **os.environ,
        "XAIROUTER_ALLOW_PRIVATE_PROVIDERS": "true",
        "PYTHONUNBUFFERED": "1",
        **environment,
    }
    process: asyncio.subprocess.Process | Forked
    if is_new or COMMAND[1:] != ["-m", "xairouter"]:
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *COMMAND, *words, stdout=asyncio.subprocess.PIPE, stderr=errors, env=settings
            )
    else:
        process = await _forked(words, settings, log)
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), 120)).decode()
    found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
    assert found, (line, log.read_text())
    return Router(process, int(found.group(1)))


async def create_owner(data_dir: Path, **environment: str) -> str:
    """A first owner; returns its XAI API key. The database is a copy of one that is migrated: a process
    that brings its own to the current schema is ``run_command`` alone."""
    if not environment.get("XAIROUTER_DATABASE_URL"):
        sqlite_database(data_dir / "xairouter.db")
    done = await asyncio.to_thread(
        run_command, "owner", "create", "acme", "--json", data_dir=data_dir, **environment
    )
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["api_key"])
