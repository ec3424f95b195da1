"""What is measured: the router, nginx and the peers, as processes on a core of their own.

CPU is what the operating system charged to all processes of a server between two moments, per
call or event; it survives a noisy machine better than times do.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

HERE = Path(__file__).parent
PYTHON = sys.executable
PAGE = os.sysconf("SC_PAGE_SIZE")
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, OTHER_CORES = CORES[:1], CORES[1:] or CORES


@dataclass
class Server:
    """Something that takes calls: where, with which key, and its first process. ``shapes`` – what is
    different where a call has another shape than OpenAI's: ``prefix`` of the path, ``headers``."""

    name: str
    port: int
    key: str
    pid: int
    headers: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, dict[str, Any]] = field(default_factory=dict)

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


def percentile(values: list[float], share: float) -> float:
    """The value below which that share of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


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
      proxy_pass {scheme}://provider; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


def start_nginx(stack: ExitStack, upstream: int, *, tls: bool = False) -> Server | None:
    command = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if command is None:
        return None
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-nginx-")))
    folder.chmod(0o755)
    port = free_port()
    (folder / "nginx.conf").write_text(
        NGINX.format(folder=folder, port=port, upstream=upstream, scheme="https" if tls else "http")
    )
    run = [command, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    started = stack.enter_context(process(run, SERVER_CORE))
    wait_for(port)
    return Server("nginx", port, "none", started.pid)


def make_owner(name: str, folder: str, **environment: str) -> str:
    """An owner in a data directory; returns its XAI API key."""
    made = subprocess.run(
        [PYTHON, "-m", "xairouter", "owner", "create", name, "--json", "--data-dir", folder],
        check=True,
        capture_output=True,
        env={**os.environ, **environment},
    )
    return str(json.loads(made.stdout)["api_key"])


DIALECTS = {
    "openai_chat": "/v1",
    "openai_embeddings": "/v1",
    "anthropic_messages": "",
    "gemini_generate": "",
}


def add_upstream(
    port: int, key: str, upstream: int, *, name: str = "upstream", scheme: str = "http", **more: Any
) -> None:
    """Give an owner of the router on ``port`` a provider key to the upstream."""
    base = f"{scheme}://127.0.0.1:{upstream}"
    body = {
        "name": name,
        "secret": "sk-bench-0123456789abcdefgh",
        "models": ["*"],
        "endpoints": {dialect: base + path for dialect, path in DIALECTS.items()},
        **more,
    }
    Api(port, key).ask("POST", "/provider-keys?verify=false", body)


def start_router(
    stack: ExitStack,
    upstream: int,
    *,
    scheme: str = "http",
    folder: Path | None = None,
    key: str = "",
    environment: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Server, float]:
    """The router with an owner and a key to the upstream; and seconds from start to ready. With a
    ``folder``: the installation there, whose owner's key is ``key``."""
    place = str(folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-router-")))
    key = key or make_owner("bench", place, **environment)
    port = free_port()
    started = stack.enter_context(
        process(
            [PYTHON, "-m", "xairouter", "serve", "--port", str(port), "--data-dir", place],
            SERVER_CORE,
            XAIROUTER_ALLOW_PRIVATE_PROVIDERS="true",
            XAIROUTER_CONNECTIONS_PER_ADDRESS="20000",
            XAIROUTER_LOG_LEVEL="error",
            **environment,
        )
    )
    ready = wait_for(port)
    add_upstream(port, key, upstream, scheme=scheme)
    return Server("router", port, key, started.pid), ready


def load(server: Server, **task: Any) -> dict[str, Any]:
    """Run the client against a server; what it found."""
    own = server.shapes.get(task.get("shape", ""), {})
    asked = {
        "host": "127.0.0.1",
        "port": server.port,
        "key": server.key,
        "prefix": own.get("prefix", ""),
        "headers": {**server.headers, **own.get("headers", {})},
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


def start_upstream(stack: ExitStack, tls: Path | None = None) -> int:
    """The upstream of everything, with TLS where a certificate's file is given; its port."""
    port = free_port()
    command = [PYTHON, str(HERE / "upstream.py"), str(port), *([str(tls)] if tls else [])]
    stack.enter_context(process(command, OTHER_CORES))
    wait_for(port)
    return port


class Api:
    """The management API of a running router, for setting scenes."""

    def __init__(self, port: int, key: str) -> None:
        self.port = port
        self.key = key

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        asked = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/v1{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"authorization": f"Bearer {self.key}"},
            method=method,
        )
        with urllib.request.urlopen(asked) as reply:
            text = reply.read()
        return json.loads(text) if text else None

    def account(self, name: str, parent: str | None = None, rules: Any = None) -> tuple[str, str]:
        """A new account below another one: its id and its XAI API key."""
        body = {"name": name, "rules": rules or {}, **({"parent": parent} if parent else {})}
        made = self.ask("POST", "/accounts", body)
        return made["account"]["id"], made["api_key"]


PEER_KEY = "sk-bench-7Yq2LmR0vT5xWc8ZpN4dKs"


def start_peer(stack: ExitStack, name: str, command: list[str], port: int, **env: str) -> Server:
    """Another gateway; it may take minutes to start."""
    started = stack.enter_context(process(command, SERVER_CORE, **env))
    wait_for(port, 120)
    return Server(name, port, PEER_KEY, started.pid)


def start_litellm(
    stack: ExitStack, upstream: int, *, scheme: str = "http", **environment: str
) -> Server | None:
    """LiteLLM's proxy without a database, from the virtual environment that ``BENCH_LITELLM`` names.
    The shapes of Anthropic and Gemini go through its pass-through, as they do through the router."""
    home = os.environ.get("BENCH_LITELLM")
    if not home:
        return None
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-litellm-")))
    base = f"{scheme}://127.0.0.1:{upstream}"
    served = {"model": "openai/*", "api_base": f"{base}/v1", "api_key": "sk-bench"}
    config = {"model_list": [{"model_name": "*", "litellm_params": served}]}
    (folder / "config.yaml").write_text(json.dumps(config))
    port = free_port()
    command = [
        *(f"{home}/bin/litellm", "--config", str(folder / "config.yaml")),
        *("--port", str(port), "--host", "127.0.0.1", "--num_workers", "1", "--telemetry", "False"),
    ]
    server = start_peer(
        stack,
        "litellm",
        command,
        port,
        LITELLM_LOCAL_MODEL_COST_MAP="True",
        LITELLM_MASTER_KEY=PEER_KEY,
        ANTHROPIC_API_BASE=base,
        ANTHROPIC_API_KEY="sk-bench",
        GEMINI_API_BASE=base,
        GEMINI_API_KEY="sk-bench",
        **environment,
    )
    server.shapes = {
        "anthropic": {"prefix": "/anthropic"},
        "gemini": {"prefix": "/gemini", "headers": {"x-goog-api-key": PEER_KEY}},
    }
    return server


def start_portkey(
    stack: ExitStack, upstream: int, *, scheme: str = "http", **environment: str
) -> Server | None:
    """Portkey's gateway, from the folder of node modules that ``BENCH_PORTKEY`` names."""
    home = os.environ.get("BENCH_PORTKEY")
    if not home:
        return None
    port = free_port()
    script = f"{home}/@portkey-ai/gateway/build/start-server.js"
    # Node has its own word for what ``SSL_CERT_FILE`` is elsewhere.
    if "SSL_CERT_FILE" in environment:
        environment["NODE_EXTRA_CA_CERTS"] = environment["SSL_CERT_FILE"]
    command = ["node", script, f"--port={port}", "--headless"]
    server = start_peer(stack, "portkey", command, port, **environment)
    base = f"{scheme}://127.0.0.1:{upstream}"
    server.headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"{base}/v1"}
    server.shapes = {"anthropic": {"headers": {"x-portkey-provider": "anthropic"}}}
    return server
