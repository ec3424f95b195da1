"""What a call costs in a large installation: ``python bench/large.py [KEYS [RECORDS]]``.

SQLite. Every one of 100,000 XAI keys calls for the first time, then for the second; and the same
call with 10,000,000 recorded calls of a year in the database, beside a router that has none, by
turns. Takes some fifteen minutes and 12 GiB of disk.
"""

import asyncio
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

from console import fill
from scenarios import cpu_per

from servers import Server, load, make_owner, percentile, start_router, start_upstream
from xairouter.clock import fresh_id, now_ms
from xairouter.custody.witness import Witness
from xairouter.domain.accounts import Account, AccountStatus, KeyScope
from xairouter.manage.owners import NewKey, add_key, store_owner
from xairouter.storage import owners
from xairouter.storage.database import Database

CALLS = 4000
ROUNDS = 5
IN_ONE_GO = 1000


async def fill_keys(folder: Path, count: int) -> tuple[str, list[str]]:
    """An owner with so many accounts; its XAI API key, and one of each account."""
    database = Database(f"sqlite:///{folder / 'xairouter.db'}")
    await database.migrate()
    async with database.write() as connection:
        made, vault = await store_owner(
            connection, fresh_id("acc"), "bench", None, seen_by_operator=True
        )
    Witness(folder / "vault-witness").note(vault)
    keys: list[str] = []
    for start in range(0, count, IN_ONE_GO):
        async with database.write(seconds=None) as connection:
            for number in range(start, min(start + IN_ONE_GO, count)):
                owner = made.account.id
                name = f"account {number}"
                account = Account(
                    fresh_id("acc"), owner, owner, name, None, AccountStatus.ACTIVE, False, now_ms()
                )
                await owners.add_account(connection, account)
                keys.append(
                    (await add_key(connection, vault, account, NewKey("first", KeyScope.CALL)))[1]
                )
    await database.close()
    return made.api_key, keys


def cold_keys(stack: ExitStack, upstream: int, count: int) -> dict[str, float]:
    """CPU and latency of each key's first call, and of its second."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-keys-")))
    began = time.perf_counter()
    owner_key, keys = asyncio.run(fill_keys(folder, count))
    made = time.perf_counter() - began
    router, ready = start_router(stack, upstream, folder=folder, key=owner_key)
    before = router.memory_mb()
    listed = folder / "keys"
    listed.write_text("\n".join(keys))
    found = {"seconds to make them": round(made, 1), "start to ready, s": round(ready, 2)}
    for name in ("first", "second"):
        task = {"model": "json-900", "keys": str(listed), "calls": count}
        found[f"CPU of a key's {name} call, µs"] = round(cpu_per(router, "call", **task), 1)
    found["memory before, MB"] = round(before, 1)
    found["memory with all vaults open, MB"] = round(router.memory_mb(), 1)
    return found


def beside_records(stack: ExitStack, upstream: int, count: int) -> dict[str, float]:
    """The same call with so many records, and with none, by turns."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-records-"))
    key = make_owner("bench", folder)
    [file] = Path(folder).glob("*.db")
    # An owner may have a thousand provider keys, and one is the upstream's.
    fill(file, _owner_of(file), count, keys=999)
    servers = {
        "none": start_router(stack, upstream)[0],
        "many": start_router(stack, upstream, folder=Path(folder), key=key)[0],
    }
    cpu: dict[str, list[float]] = {name: [] for name in servers}
    for one in servers.values():
        load(one, kind="closed", model="json-900", calls=1000)
    for _ in range(ROUNDS):
        for name, one in servers.items():
            cpu[name].append(cpu_per(one, "call", model="json-900", calls=CALLS))
    slow = {name: _p99(one) for name, one in servers.items()}
    middle = {name: statistics.median(each) for name, each in cpu.items()}
    ratios = [many / none for none, many in zip(cpu["none"], cpu["many"], strict=True)]
    return {
        "CPU per call without records, µs": round(middle["none"], 1),
        f"with {count:,} records, µs": round(middle["many"], 1),
        "ratio, median of the rounds": round(statistics.median(ratios), 3),
        "p99 at 500 calls a second without, ms": slow["none"],
        "with, ms": slow["many"],
    }


def _p99(server: Server) -> float:
    found = load(server, kind="open", model="json-900", rate=500, calls=5000, connections=64)
    return round(percentile(found["latencies_ms"], 0.99), 1)


def _owner_of(file: Path) -> str:
    with closing(sqlite3.connect(file)) as database:
        return str(database.execute("SELECT id FROM accounts").fetchone()[0])


def main() -> None:
    asked = [int(one) for one in sys.argv[1:]] + [100_000, 10_000_000][len(sys.argv) - 1 :]
    keys, records = asked
    with ExitStack() as stack:
        upstream = start_upstream(stack)
        if keys:
            found = cold_keys(stack, upstream, keys)
            print(json.dumps({f"{keys:,} keys": found}, indent=1, ensure_ascii=False), flush=True)
        if records:
            found = beside_records(stack, upstream, records)
            said = {f"{records:,} records": found}
            print(json.dumps(said, indent=1, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
