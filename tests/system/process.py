"""The router as a process of its own, for what only a process can show: kills, signals, start."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.rig import SECRET

COMMAND = [sys.executable, "-m", "xairouter"]


def run_command(*arguments: str, data_dir: Path | None = None, **environment: str) -> Any:
    """Run ``xairouter …`` to its end."""
    extra = ["--data-dir", str(data_dir)] if data_dir else []
    return subprocess.run(
        [*COMMAND, *arguments, *extra],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )


@dataclass
class Router:
    """A running router process."""

    process: asyncio.subprocess.Process
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
        return await asyncio.wait_for(self._ended(), 20)

    async def _ended(self) -> int:
        assert self.process.stdout is not None
        await self.process.stdout.read()
        return await self.process.wait()


async def start_router(data_dir: Path, **environment: str) -> Router:
    """Start ``xairouter serve`` on a free port and wait until it listens."""
    log = (data_dir.parent / "stderr.log").open("ab")
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        "serve",
        "--port",
        "0",
        "--data-dir",
        str(data_dir),
        stdout=asyncio.subprocess.PIPE,
        stderr=log,
        env={
            **os.environ,
            "XAIROUTER_ALLOW_PRIVATE_PROVIDERS": "true",
            "PYTHONUNBUFFERED": "1",
            **environment,
        },
    )
    log.close()
    assert process.stdout is not None
    line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
    found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
    assert found, (line, (data_dir.parent / "stderr.log").read_text())
    return Router(process, int(found.group(1)))


async def create_owner(data_dir: Path, **environment: str) -> str:
    """A first owner; returns its XAI API key."""
    done = await asyncio.to_thread(
        run_command, "owner", "create", "acme", "--json", data_dir=data_dir, **environment
    )
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["api_key"])
