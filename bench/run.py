"""Measure the router beside nginx, on this machine, in one run: ``make bench``.

The server under test has one core to itself, client and upstream share the others. CPU is what the
operating system charged to all processes of the server between two moments, per call or event; it
survives a noisy machine better than times do. Every figure is the median of several rounds in
which the servers take turns. ``--quick`` only shows that everything still works.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PYTHON = sys.executable
PAGE = os.sysconf("SC_PAGE_SIZE")
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, OTHER_CORES = CORES[:1], CORES[1:] or CORES


@dataclass
class Server:
    """Something that takes calls: where, with which key, and its first process."""

    name: str
    port: int
    key: str
    pid: int

    def _processes(self) -> list[int]:
        found, queue = [], [self.pid]
        while queue:
            pid = queue.pop()
            found.append(pid)
            try:
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            except OSError:
                children = []
            queue += [int(child) for child in children]
        return found

    def cpu_seconds(self) -> float:
        """Time on a core of all threads of all its processes so far, as the scheduler counts it."""
        total = 0
        for pid in self._processes():
            for thread in Path(f"/proc/{pid}/task").iterdir():
                total += int((thread / "schedstat").read_text().split()[0])
        return total / 1e9

    def memory_mb(self) -> float:
        """Resident memory of all its processes."""
        return sum(
            int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / 1e6
            for pid in self._processes()
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, seconds: float = 30) -> float:
    """Wait until something listens; seconds that took."""
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return time.perf_counter() - began
        except OSError:
            time.sleep(0.01)
    raise SystemExit(f"Nothing listens on port {port}.")


@contextmanager
def process(command: list[str], cores: list[int], **environment: str) -> Iterator[subprocess.Popen]:  # type: ignore[type-arg]
    """A process on certain cores, ended at the end."""
    started = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(15)
        except subprocess.TimeoutExpired:
            started.kill()


NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log /dev/null;
worker_rlimit_nofile 30000;
events {{ worker_connections 20000; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  keepalive_requests 10000000; client_max_body_size 64m; client_body_buffer_size 2m;
  upstream provider {{ server 127.0.0.1:{upstream}; keepalive 4096; keepalive_requests 10000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=8192;
    location / {{
      proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


def start_nginx(stack: ExitStack, upstream: int) -> Server | None:
    command = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if command is None:
        return None
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-nginx-")))
    folder.chmod(0o755)
    port = free_port()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, upstream=upstream))
    run = [command, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    started = stack.enter_context(process(run, SERVER_CORE))
    wait_for(port)
    return Server("nginx", port, "none", started.pid)


def make_owner(name: str, folder: str) -> str:
    """An owner in a data directory; returns its XAI API key."""
    made = subprocess.run(
        [PYTHON, "-m", "xairouter", "owner", "create", name, "--json", "--data-dir", folder],
        check=True,
        capture_output=True,
    )
    return str(json.loads(made.stdout)["api_key"])


def add_upstream(port: int, key: str, upstream: int) -> None:
    """Give an owner of the router on ``port`` a provider key to the upstream."""
    body = {
        "name": "upstream",
        "secret": "sk-bench-0123456789abcdefgh",
        "models": ["*"],
        "endpoints": {"openai_chat": f"http://127.0.0.1:{upstream}/v1"},
    }
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/v1/provider-keys?verify=false",
        data=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {key}"},
    )
    urllib.request.urlopen(asked).close()


def start_router(stack: ExitStack, upstream: int) -> tuple[Server, float]:
    """The router with an owner and a key to the upstream; and seconds from start to ready."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-router-"))
    key = make_owner("bench", folder)
    port = free_port()
    started = stack.enter_context(
        process(
            [PYTHON, "-m", "xairouter", "serve", "--port", str(port), "--data-dir", folder],
            SERVER_CORE,
            XAIROUTER_ALLOW_PRIVATE_PROVIDERS="true",
            XAIROUTER_CONNECTIONS_PER_ADDRESS="20000",
            XAIROUTER_LOG_LEVEL="error",
        )
    )
    ready = wait_for(port)
    add_upstream(port, key, upstream)
    return Server("router", port, key, started.pid), ready


def load(server: Server, **task: Any) -> dict[str, Any]:
    """Run the client against a server; what it found."""
    asked = {
        "host": "127.0.0.1",
        "port": server.port,
        "path": "/v1/chat/completions",
        "key": server.key,
        **task,
    }
    done = subprocess.run(
        [PYTHON, str(HERE / "load.py")],
        input=json.dumps(asked).encode(),
        check=True,
        capture_output=True,
        preexec_fn=lambda: os.sched_setaffinity(0, OTHER_CORES),
    )
    found: dict[str, Any] = json.loads(done.stdout)
    if found["bad"]:
        raise SystemExit(f"{server.name}: {found['bad']} calls failed.")
    return found


def settle() -> None:
    """Let the ledger's drain and other work of the last round be charged to that round."""
    time.sleep(0.7)


def cpu_per(server: Server, unit: str, **task: Any) -> float:
    """CPU microseconds per call or per event."""
    before = server.cpu_seconds()
    found = load(server, kind="closed", **task)
    settle()
    count = found["good"] if unit == "call" else found["events"]
    return (server.cpu_seconds() - before) / count * 1e6


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def latency(server: Server, share: float, **task: Any) -> float:
    found = load(server, kind="open", **task)
    return percentile(found["latencies_ms"], share)


def interleaved(
    servers: list[Server], rounds: int, measure: Callable[[Server], float]
) -> dict[str, float]:
    """The median of each server's rounds, the servers taking turns."""
    figures: dict[str, list[float]] = {server.name: [] for server in servers}
    for _ in range(rounds):
        for server in servers:
            figures[server.name].append(measure(server))
    return {name: statistics.median(found) for name, found in figures.items()}


def open_streams(server: Server, count: int, seconds: int) -> float:
    """Memory while so many streams are open, one event a second each."""
    asked = {
        "host": "127.0.0.1",
        "port": server.port,
        "path": "/v1/chat/completions",
        "key": server.key,
        "kind": "closed",
        "model": f"stream-{seconds}-1000",
        "stream": True,
        "calls": count,
        "connections": count,
    }
    client = subprocess.Popen(
        [PYTHON, str(HERE / "load.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: os.sched_setaffinity(0, OTHER_CORES),
    )
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(json.dumps(asked).encode())
    client.stdin.close()
    time.sleep(seconds * 0.7)
    memory = server.memory_mb()
    found = json.loads(client.stdout.read())
    client.wait()
    if found["bad"]:
        raise SystemExit(f"{server.name}: {found['bad']} streams failed.")
    return memory


def measure(quick: bool) -> list[tuple[str, str, dict[str, float]]]:
    """Every figure: (what, unit, by server)."""
    rounds = 1 if quick else 5
    calls = 500 if quick else 8000
    streams, events = (20, 20) if quick else (200, 100)
    with ExitStack() as stack:
        upstream = free_port()
        stack.enter_context(
            process([PYTHON, str(HERE / "upstream.py"), str(upstream)], OTHER_CORES)
        )
        wait_for(upstream)
        router, ready = start_router(stack, upstream)
        at_start = router.memory_mb()
        nginx = start_nginx(stack, upstream)
        servers = [server for server in (nginx, router) if server is not None]
        direct = Server("direct", upstream, "none", os.getpid())
        for server in servers:
            load(server, kind="closed", model="json-900", calls=calls // 4)
        return [
            ("start to ready", "s", {"router": ready}),
            ("memory at start", "MB", {"router": at_start}),
            (
                "CPU per JSON call (0.3 kB in, 0.9 kB out, 32 connections)",
                "µs",
                interleaved(
                    servers, rounds, lambda s: cpu_per(s, "call", model="json-900", calls=calls)
                ),
            ),
            (
                "CPU per JSON call (20 kB in, 2 kB out)",
                "µs",
                interleaved(
                    servers,
                    rounds,
                    lambda s: cpu_per(
                        s, "call", model="json-2000", calls=calls // 2, body_bytes=20_000
                    ),
                ),
            ),
            (
                f"CPU per streamed event ({streams} streams, {events} events 20 ms apart)",
                "µs",
                interleaved(
                    servers,
                    1 if quick else 3,
                    lambda s: cpu_per(
                        s,
                        "event",
                        model=f"stream-{events}-20",
                        stream=True,
                        calls=streams,
                        connections=streams,
                    ),
                ),
            ),
            *(
                (
                    f"latency by the client's clock, 200 calls/s, open loop, {name}",
                    "ms",
                    interleaved(
                        [direct, *servers],
                        rounds,
                        lambda s, share=share: latency(
                            s, share, model="json-900", calls=100 if quick else 1000, rate=200
                        ),
                    ),
                )
                for name, share in (("p50", 0.5), ("p99", 0.99))
            ),
            (
                f"memory with {50 if quick else 1000} open streams",
                "MB",
                {
                    s.name: open_streams(s, 50 if quick else 1000, 4 if quick else 12)
                    for s in servers
                },
            ),
        ]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--quick", action="store_true", help="only show that everything works")
    rows = measure(asked.parse_args().quick)
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    print(
        f"{model}, {len(CORES)} cores, Linux {platform.release()}, Python {platform.python_version()}\n"
    )
    print("| what | unit | direct | nginx | router | router ÷ nginx |")
    print("| --- | --- | --: | --: | --: | --: |")
    for what, unit, figures in rows:
        shown = [f"{figures[n]:.4g}" if n in figures else "" for n in ("direct", "nginx", "router")]
        ratio = f"{figures['router'] / figures['nginx']:.2f}" if "nginx" in figures else ""
        print(f"| {what} | {unit} | {' | '.join(shown)} | {ratio} |")


if __name__ == "__main__":
    main()
