"""Load that is meant to hurt, and what it does to others: many streams, bursts, a flooding owner, hours.

``python bench/survive.py [--soak SECONDS] [scenario …]``; needs no nginx. Figures depend on the
machine; ratios of one run are what to compare.
"""

import argparse
import itertools
import json
import os
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from servers import (
    HERE,
    OTHER_CORES,
    PYTHON,
    SERVER_CORE,
    Server,
    add_upstream,
    make_owner,
    percentile,
    start_router,
    start_upstream,
)


def client(
    server: Server, key: str | None = None, nice: int = 0, **task: Any
) -> subprocess.Popen[bytes]:
    """Start a client; ``result`` reads what it found. ``nice`` as the system's command of that name:
    a flood is not to take the core from the upstream and from the client that measures."""
    asked = {
        "host": "127.0.0.1",
        "port": server.port,
        "key": key or server.key,
        "model": "json-900",
        **task,
    }

    def settle() -> None:
        os.sched_setaffinity(0, OTHER_CORES)
        os.nice(nice)

    started = subprocess.Popen(
        [PYTHON, str(HERE / "load.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=settle,
    )
    assert started.stdin is not None
    started.stdin.write(json.dumps(asked).encode())
    started.stdin.close()
    return started


def result(started: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert started.stdout is not None
    found: dict[str, Any] = json.loads(started.stdout.read())
    started.wait()
    return found


def streams(server: Server, count: int = 2000, seconds: int = 12) -> dict[str, Any]:
    """So many streams at once, an event a second each; every one must end well."""
    before = server.memory_mb()
    running = client(
        server,
        kind="closed",
        model=f"stream-{seconds}-1000",
        stream=True,
        calls=count,
        connections=count,
    )
    time.sleep(seconds * 0.8)
    memory = server.memory_mb()
    found = result(running)
    return {
        "streams": count,
        "ended well": found["good"],
        "failed": found["bad"],
        "memory MB": round(memory, 1),
        "kB a stream": round((memory - before) * 1000 / count, 1),
    }


def bursts(server: Server, count: int = 1500) -> dict[str, Any]:
    """So many calls within one second, three times; every one must be answered."""
    good = bad = 0
    slowest = []
    for _ in range(3):
        found = result(client(server, kind="open", rate=count, calls=count, connections=count))
        good, bad = good + found["good"], bad + found["bad"]
        slowest.append(found["seconds"])
        time.sleep(1)
    return {
        "calls a burst": count,
        "answered": good,
        "failed": bad,
        "seconds until the last answer": [round(one, 2) for one in slowest],
    }


def fairness(server: Server, quiet_key: str, seconds: int = 15) -> dict[str, Any]:
    """A quiet owner's latency, alone and while another one floods with 300 connections."""
    quiet: dict[str, Any] = {"kind": "open", "rate": 20, "calls": 20 * seconds, "connections": 20}
    result(client(server, quiet_key, **{**quiet, "calls": 40}))
    alone = result(client(server, quiet_key, **quiet))
    alone["router_ms"] = _told_ms(server, quiet_key, quiet["calls"])
    flood = client(server, nice=19, kind="closed", calls=10**9, connections=300)
    time.sleep(5)
    flooded = result(client(server, quiet_key, **quiet))
    flooded["router_ms"] = _told_ms(server, quiet_key, quiet["calls"])
    flood.kill()
    flood.wait()
    figures = {
        name: [round(percentile(one["latencies_ms"], share), 1) for share in (0.5, 0.99)]
        for name, one in (("alone", alone), ("flooded", flooded))
    }
    p99 = [percentile(one["router_ms"], 0.99) for one in (alone, flooded)]
    return {
        # The client shares its core with the flood and the upstream; the router has one alone.
        "quiet owner by the client's clock, p50 and p99 in ms": figures,
        "by the router's own, p99 in ms": p99,
        "p99 ratio by the router's own": round(p99[1] / max(1, p99[0]), 2),
        "calls of the quiet owner that failed": alone["bad"] + flooded["bad"],
    }


def _told_ms(server: Server, key: str, count: int) -> list[float]:
    """How long the router says the newest calls took."""
    time.sleep(1)
    asked = urllib.request.Request(
        f"http://127.0.0.1:{server.port}/api/v1/usage/records?limit={count}&outcome=completed",
        headers={"authorization": f"Bearer {key}"},
    )
    with urllib.request.urlopen(asked) as reply:
        return [row["total_ms"] for row in json.load(reply)["items"]]


FAULTS = ("500", "429", "reset", "cut", "garbage", "late")


@contextmanager
def spoiling(server: Server, key: str) -> Iterator[list[int]]:
    """Another owner's calls, whose provider does everything wrong, as long as this lasts; how many
    there were so far."""
    count, is_over = [0], threading.Event()

    def spoil() -> None:
        for how in itertools.cycle(FAULTS):
            if is_over.is_set():
                return
            task: dict[str, Any] = {"model": f"fault-{how}", "calls": 20, "connections": 10}
            found = result(client(server, key, kind="closed", **task))
            count[0] += found["bad"] + found["good"]

    thread = threading.Thread(target=spoil)
    thread.start()
    try:
        yield count
    finally:
        is_over.set()
        thread.join()


def soak(server: Server, seconds: int, rate: float) -> dict[str, Any]:
    """Calls, short streams and clients that leave, all the time: ``rate`` calls a second, 0: as many
    as go. What grows is a leak."""
    until = time.time() + seconds
    counts = {"good": 0, "bad": 0}
    few = {"kind": "open", "rate": rate / 2} if rate else {"kind": "closed"}

    def again(**task: Any) -> None:
        while time.time() < until:
            found = result(client(server, **task))
            for name in counts:
                counts[name] += found[name]

    def leave() -> None:
        while time.time() < until:
            running = client(
                server, kind="closed", model="stream-50-100", stream=True, calls=50, connections=50
            )
            time.sleep(1.5)
            running.kill()
            running.wait()
            time.sleep(3 if rate else 0)

    calls = max(2000, int(rate * 10))
    short = {"model": "stream-20-10", "stream": True, "calls": 200, "connections": 20}
    threads = [
        threading.Thread(target=again, kwargs={**few, "calls": calls, "connections": 8}),
        threading.Thread(target=again, kwargs={**few, **short}),
        threading.Thread(target=leave),
    ]
    for one in threads:
        one.start()
    samples = []
    while time.time() < until:
        time.sleep(max(1, seconds / 12))
        samples.append(round(server.memory_mb(), 1))
    for one in threads:
        one.join()
    third = len(samples) // 3
    return {
        "seconds": seconds,
        "calls": counts["good"],
        "failed": counts["bad"],
        "memory MB over time": samples,
        "growth of the last third over the middle one": round(
            sum(samples[-third:]) / sum(samples[third : 2 * third]), 3
        ),
    }


def left_behind(server: Server) -> dict[str, float]:
    """What a router still holds that is left alone for longer than connections to providers rest."""
    time.sleep(40)
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as reply:
        said = reply.read().decode()
    found = {
        name: float(value)
        for name, value in (line.rsplit(" ", 1) for line in said.splitlines() if line[0] != "#")
        if name in ("xairouter_calls_running", "xairouter_journal_bytes")
    }
    sockets = 0
    for one in Path(f"/proc/{server.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            sockets += os.readlink(one).startswith("socket")
    return {**found, "sockets": sockets}


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("scenarios", nargs="*", default=["streams", "bursts", "fairness", "soak"])
    asked.add_argument("--soak", type=int, default=60, help="seconds")
    asked.add_argument("--rate", type=float, default=0, help="calls a second of the soak; 0: all")
    given = asked.parse_args()
    unknown = set(given.scenarios) - {"streams", "bursts", "fairness", "soak"}
    if unknown:
        asked.error(f"There is no scenario {', '.join(sorted(unknown))}.")
    with ExitStack() as stack:
        upstream = start_upstream(stack)
        server, _ = start_router(stack, upstream)
        faulty = _owner(server, upstream, "faulty")
        quiet = _owner(server, upstream, "quiet")
        print(f"router on core {SERVER_CORE}, client and upstream on {OTHER_CORES}")
        for name in given.scenarios:
            if name == "fairness":
                found = fairness(server, quiet)
            else:
                with spoiling(server, faulty) as spoiled:
                    match name:
                        case "streams":
                            found = streams(server)
                        case "bursts":
                            found = bursts(server)
                        case _:
                            found = soak(server, given.soak, given.rate)
                found["calls that a provider spoiled meanwhile"] = spoiled[0]
                found["left behind"] = left_behind(server)
            print(json.dumps({name: found}, indent=1, ensure_ascii=False), flush=True)


def _owner(server: Server, upstream: int, name: str) -> str:
    """Another owner with a key to the same upstream; returns its XAI API key."""
    words = Path(f"/proc/{server.pid}/cmdline").read_bytes().split(b"\0")
    key = make_owner(name, words[words.index(b"--data-dir") + 1].decode())
    add_upstream(server.port, key, upstream)
    return key


if __name__ == "__main__":
    main()
