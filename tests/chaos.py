"""Installations that are driven with calls while their parts are killed, stopped, emptied and filled, and
the oracle that compares afterwards what the provider saw, what clients got, and what was stored.

What happens, and in which order, follows from a seed; when, from how many calls have ended. Nothing here
is judged by time: everything is mended first, and whoever is slow is waited for.
"""

import asyncio
import contextlib
import itertools
import json
import os
import random
import resource
import signal
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import sqlalchemy as sa

from tests.cluster import Line
from tests.servers import (
    drop_database,
    postgres_database,
    postgres_socket,
    psql,
    start_valkey,
)
from tests.system.process import Router, create_owner, run_command, start_router
from tests.waiting import until
from xairouter.clock import now_ms
from xairouter.standin.server import StandIn
from xairouter.storage.database import Database
from xairouter.storage.tables import (
    chain,
    usage_counted,
    usage_hours,
    usage_records,
    usage_sums,
)

PATIENCE = 400.0
"""Seconds until a wait is given up that would never end."""
DAY_MS = 86_400_000
PRICES = {"*": {"input": 1000, "output": 2000}}
TIMES = int(os.environ.get("XAIROUTER_TEST_CHAOS", "1"))
"""So often each thing happens; limits are reached in each run."""
BUDGET_USD, REQUESTS = TIMES, 60 * TIMES
RULES: Mapping[str, Mapping[str, Any]] = {
    "free": {},
    "daily": {"limits": {"rpd": REQUESTS}},
    "spender": {"budget": {"total_usd": BUDGET_USD}},
}
"""The accounts that call."""
MODELS = ("demo", "demo", "demo", "fault-drip", "fault-500", "fault-reset-after")
NEVER_SENT = frozenset({"rate_limited", "budget_exhausted"})


@dataclass
class Sent:
    """A call of a client: ``status`` is None where no whole answer came."""

    account: str
    status: int | None = None
    code: str | None = None


class Load:
    """Clients that call one after the other, at whichever instance is up."""

    def __init__(self, seed: int, keys: Mapping[str, str], ports: Callable[[], Sequence[int]]):
        self.sent: dict[str, Sent] = {}
        self.done = 0
        self._keys, self._ports, self._seed = keys, ports, seed
        self._numbers = itertools.count()
        self._stop = asyncio.Event()

    async def run(self, clients: int) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            dices = [random.Random(f"{self._seed}/{number}") for number in range(clients)]
            await asyncio.gather(*(self._client(session, dice) for dice in dices))

    def stop(self) -> None:
        self._stop.set()

    async def more(self, calls: int) -> None:
        """Wait until so many more calls have ended, well or badly."""
        target = self.done + calls
        await until(lambda: self.done >= target, PATIENCE)

    async def _client(self, session: aiohttp.ClientSession, dice: random.Random) -> None:
        while not self._stop.is_set():
            await self.call(session, dice.choice(list(RULES)), dice)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), dice.uniform(0.05, 0.15))

    async def call(self, session: aiohttp.ClientSession, account: str, dice: random.Random) -> Sent:
        """One call; its label is what the provider and the record know it by."""
        label = f"c-{next(self._numbers)}"
        one = self.sent[label] = Sent(account)
        body = {
            "model": dice.choice(MODELS),
            "stream": dice.random() < 0.5,
            "user": label,
            "max_tokens": 40,
            "messages": [{"role": "user", "content": "some words to say"}],
        }
        headers = {
            "authorization": f"Bearer {self._keys[account]}",
            "x-xairouter-label": label,
        }
        ports = self._ports()
        try:
            url = f"http://127.0.0.1:{dice.choice(ports)}/v1/chat/completions" if ports else ""
            if url:
                async with session.post(url, json=body, headers=headers) as reply:
                    await reply.read()
                    one.status, one.code = reply.status, reply.headers.get("x-xairouter-error")
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            pass
        self.done += 1
        return one


@dataclass
class Instance:
    """A process, or what is left of one between two."""

    folder: Path
    environment: Mapping[str, str]
    router: Router | None = None

    @property
    def clock(self) -> Path:
        """How many milliseconds the process' wall clock is ahead."""
        return self.folder.parent / "clock"

    async def start(self) -> None:
        hooks = {"XAIROUTER_TEST_CLOCK": str(self.clock), "XAIROUTER_TEST_COMPARE": "15"}
        self.router = await start_router(self.folder, **hooks, **self.environment)

    async def end(self, number: signal.Signals) -> None:
        """End the process; only SIGTERM lets it finish what it does."""
        router, self.router = self.router, None
        assert router is not None
        if number == signal.SIGTERM:
            assert await router.terminate() == 0
        else:
            router.process.send_signal(number)
            await router._ended()

    @property
    def journals(self) -> list[Path]:
        return sorted((self.folder / "journal").glob("*/*.log"))


@dataclass
class Installation:
    """What is driven. ``losses`` counts the occasions at which calls in flight may be counted late."""

    instances: list[Instance]
    standin: StandIn
    database_url: str = ""
    keys: dict[str, str] = field(default_factory=dict)
    accounts: dict[str, str] = field(default_factory=dict)
    losses: int = 0
    valkey: Any = None
    lines: dict[str, Line] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.database_url or f"sqlite:///{self.instances[0].folder}/xairouter.db"

    def ports(self) -> list[int]:
        return [one.router.port for one in self.instances if one.router is not None]

    async def furnish(self) -> None:
        """An owner, its accounts, and a provider key to the stand-in."""
        where = dict(self.instances[0].environment)
        owner = await create_owner(self.instances[0].folder, **where)
        port = await self.standin.start()
        for one in self.instances:
            await one.start()
        first = self.instances[0].router
        assert first is not None
        await first.add_standin(owner, port)
        assert (await first.ask("PUT", "/api/v1/prices", owner, PRICES))[0] == 200
        for name, rules in RULES.items():
            asked = {"name": name, "rules": rules}
            status, made = await first.ask("POST", "/api/v1/accounts", owner, asked)
            assert status == 201, made
            self.keys[name], self.accounts[name] = made["api_key"], made["account"]["id"]

    async def leave(self) -> None:
        for one in self.instances:
            if one.router is not None:
                with contextlib.suppress(ProcessLookupError):
                    await one.router.kill()
        await self.standin.stop()
        for line in self.lines.values():
            line.stop()
        if self.valkey is not None and self.valkey.is_running():
            self.valkey.terminate()
        if self.database_url:
            drop_database(self.database_url)


Event = Callable[[Installation, Load, random.Random], Awaitable[None]]


def _ends(number: signal.Signals) -> Event:
    async def end(there: Installation, load: Load, dice: random.Random) -> None:
        one = dice.choice(there.instances)
        there.losses += number != signal.SIGTERM
        await one.end(number)
        if number != signal.SIGTERM and dice.random() < 0.5:
            _tear(one, dice)
        await load.more(dice.randrange(1, 6))
        await one.start()

    return end


def _tear(one: Instance, dice: random.Random) -> None:
    """What a power cut leaves behind a journal's last whole frame: the beginning of another."""
    for path in one.journals:
        data = path.read_bytes()
        if len(data) > 64:
            begin = data[: dice.randrange(1, 60)]
            path.write_bytes(data + begin)


async def _fill(there: Installation, load: Load, dice: random.Random) -> None:
    """No file of the process can grow; maybe it is killed so."""
    one = dice.choice(there.instances)
    assert one.router is not None
    pid = one.router.process.pid
    _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, most))
    await load.more(dice.randrange(10, 30))
    if dice.random() < 0.3:
        there.losses += 1
        await one.end(signal.SIGKILL)
        await one.start()
    else:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))


async def _lock(there: Installation, load: Load, dice: random.Random) -> None:
    """Somebody holds the SQLite file for himself."""
    held = sqlite3.connect(
        there.instances[0].folder / "xairouter.db",
        timeout=60,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        await asyncio.to_thread(held.execute, "BEGIN IMMEDIATE")
        await load.more(dice.randrange(10, 30))
        held.execute("ROLLBACK")
    finally:
        held.close()


async def _turn_clock(there: Installation, load: Load, dice: random.Random) -> None:
    """The wall clock jumps, and back after a while: twice, calls in flight are of another day."""
    there.losses += 2
    one = dice.choice(there.instances)
    one.clock.write_text(str(dice.choice([-DAY_MS, -3_600_000, 3_600_000, 40 * DAY_MS])))
    await load.more(dice.randrange(10, 30))
    one.clock.write_text("0")


def _cuts(*names: str) -> Event:
    async def cut(there: Installation, load: Load, dice: random.Random) -> None:
        for name in names:
            there.lines[name].refuse()
        there.losses += "valkey" in names
        await load.more(dice.randrange(20, 50))
        for name in names:
            there.lines[name].mend()

    return cut


async def _flush(there: Installation, load: Load, dice: random.Random) -> None:
    from valkey import asyncio as valkey

    there.losses += 1
    client = valkey.from_url(f"valkey://127.0.0.1:{there.valkey.port}/0")
    await client.flushall()
    await client.aclose()


async def _restart_valkey(there: Installation, load: Load, dice: random.Random) -> None:
    """Another one, without its data, at the same address."""
    there.losses += 1
    there.valkey.terminate()
    await load.more(dice.randrange(5, 30))
    there.valkey = await asyncio.to_thread(start_valkey)
    there.lines["valkey"]._to = ("", there.valkey.port)


async def _end_sessions(there: Installation, load: Load, dice: random.Random) -> None:
    """PostgreSQL ends every session, whatever is under way in it."""
    name = there.database_url.partition("?")[0].rpartition("/")[2]
    ask = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    await asyncio.to_thread(psql, there.database_url, f"{ask} AND pid <> pg_backend_pid();")


ALONE: Mapping[str, Event] = {
    "kill": _ends(signal.SIGKILL),
    "term": _ends(signal.SIGTERM),
    "hang up": _ends(signal.SIGHUP),
    "fill": _fill,
    "lock": _lock,
    "clock": _turn_clock,
}
CLUSTER: Mapping[str, Event] = {
    "kill": _ends(signal.SIGKILL),
    "term": _ends(signal.SIGTERM),
    "hang up": _ends(signal.SIGHUP),
    "fill": _fill,
    "flush": _flush,
    "restart Valkey": _restart_valkey,
    "Valkey away": _cuts("valkey"),
    "database away": _cuts("database"),
    "both away": _cuts("valkey", "database"),
    "end sessions": _end_sessions,
}


@asynccontextmanager
async def alone(folder: Path) -> AsyncIterator[Installation]:
    """One process on SQLite."""
    made = Installation([Instance(folder / "data", {})], StandIn())
    try:
        await made.furnish()
        yield made
    finally:
        await made.leave()


@asynccontextmanager
async def cluster(folder: Path, count: int = 3) -> AsyncIterator[Installation]:
    """Several processes on PostgreSQL and Valkey, which they reach by lines that can be cut."""
    url = await asyncio.to_thread(postgres_database)
    name = url.partition("?")[0].rpartition("/")[2]
    valkey = await asyncio.to_thread(start_valkey)
    lines = {
        "database": await Line(path=postgres_socket()).start(),
        "valkey": await Line(port=valkey.port).start(),
    }
    where = {
        "XAIROUTER_DATABASE_URL": f"postgresql://postgres@127.0.0.1:{lines['database'].port}/{name}",
        "XAIROUTER_VALKEY_URL": f"valkey://127.0.0.1:{lines['valkey'].port}/0",
    }
    folders = [folder / f"instance-{number}" / "data" for number in range(count)]
    for one in folders:
        one.mkdir(parents=True)
    made = Installation([Instance(one, where) for one in folders], StandIn(), url)
    made.valkey, made.lines = valkey, lines
    try:
        await made.furnish()
        yield made
    finally:
        await made.leave()


async def drive(
    there: Installation, events: Mapping[str, Event], seed: int, rounds: int, clients: int
) -> Load:
    """Let events happen under load, each once before any comes again; then mend everything and wait
    until all that has ended is stored."""
    dice = random.Random(seed)
    load = Load(seed, there.keys, there.ports)
    running = asyncio.create_task(load.run(clients))
    names: list[str] = []
    try:
        for _ in range(rounds):
            names = names or dice.sample(list(events), len(events))
            name = names.pop()
            print(f"{load.done} calls, then: {name}", flush=True)
            await load.more(dice.randrange(10, 30))
            await events[name](there, load, dice)
        await load.more(10)
    finally:
        load.stop()
        await running
    await until(lambda: _is_stored(there), PATIENCE)
    return load


async def _is_stored(there: Installation) -> bool:
    """Whether nothing is under way, and every journal is in the database."""
    for one in there.instances:
        assert one.router is not None
        async with aiohttp.ClientSession() as session:
            try:
                async with session.get(f"{one.router.url}/readyz") as reply:
                    said = await reply.json(content_type=None)
                async with session.get(f"{one.router.url}/metrics") as reply:
                    lines = (await reply.text()).splitlines()
            except (aiohttp.ClientError, TimeoutError):
                return False
        ended = {"xairouter_calls_running 0.0", "xairouter_journal_bytes 0.0"} <= set(lines)
        folders = {path.parent for path in one.journals}
        if not ended or said["journal_bytes"] or said["status"] != "ready" or len(folders) > 1:
            return False
    return True


class Oracle:
    """What must be true once everything is mended."""

    def __init__(self, there: Installation, load: Load) -> None:
        self._there, self._load = there, load
        self.seen = Counter(received.json()["user"] for received in there.standin.requests)
        self.tables: dict[str, list[dict[str, Any]]] = {}

    async def read(self) -> None:
        database = Database(self._there.url)
        try:
            async with database.snapshot() as connection:
                for table in (usage_records, usage_hours, usage_sums, usage_counted, chain):
                    rows = (await connection.execute(sa.select(table))).mappings()
                    self.tables[table.name] = [dict(row) for row in rows]
        finally:
            await database.close()
        self.records = self.tables["usage_records"]

    def answers(self) -> Counter[str]:
        """What clients got, by status and code."""
        sent = self._load.sent.values()
        return Counter(f"{one.status} {one.code or ''}".strip() for one in sent)

    def every_call_has_one_record(self) -> None:
        recorded = Counter(row["label"] for row in self.records)
        attempts = {row["label"]: row["attempts"] for row in self.records}
        outcomes = {row["label"]: row["outcome"] for row in self.records}
        missing = {label: self._load.sent[label] for label in set(self.seen) - set(recorded)}
        assert not missing, f"the provider saw calls without a record: {missing}"
        assert not set(recorded) - set(self._load.sent), "a record of a call that nobody made"
        assert {label: n for label, n in recorded.items() if n != 1} == {}
        for label, attempted in attempts.items():
            seen = self.seen[label]
            # A request that was about to be sent when its process died may not have been.
            spare = 1 if outcomes[label] == "interrupted" else 0
            assert seen <= attempted <= seen + spare, (label, seen, attempted, outcomes[label])
        for label, one in self._load.sent.items():
            if one.status == 200:
                assert self.seen[label], f"{label} was answered, and no provider saw it"
            if one.code in NEVER_SENT:
                assert not self.seen[label], f"{label} was refused, and sent"

    def sums_are_those_of_the_records(self) -> None:
        names = ("calls", "attempts", "input_tokens", "output_tokens", "cost_nano")
        dimensions = ("account_id", "key_id", "provider_key_id", "provider", "model", "label")
        hours: Counter[Any] = Counter()
        for row in self.records:
            model = row["model_used"] or row["model_asked"]
            of_record = {**row, "model": model, "calls": 1}
            place = (row["started_at_ms"] // 3_600_000 * 3_600_000,)
            place += tuple(of_record[name] or "" for name in dimensions)
            for name in (*names, "counted_nano"):
                hours[*place, name] += of_record[name] or 0
        said: Counter[Any] = Counter()
        for row in self.tables["usage_hours"]:
            place = (row["hour_ms"], *(row[name] for name in dimensions))
            for name in (*names, "counted_nano"):
                said[*place, name] += row[name]
        assert {k: v for k, v in said.items() if v} == {k: v for k, v in hours.items() if v}
        for grain in ("day", "month"):
            for dimension, at in (("all", 0), ("account", 1), ("model", 5)):
                sums: Counter[Any] = Counter()
                for key, amount in hours.items():
                    if key[-1] in names:
                        sums[key[at] if at else "", key[-1]] += amount
                found: Counter[Any] = Counter()
                for row in self.tables["usage_sums"]:
                    if (row["grain"], row["dimension"]) == (grain, dimension):
                        for name in names:
                            found[row["value"], name] += row[name]
                assert +found == +sums, (grain, dimension)
        ever: Counter[Any] = Counter()
        for key, amount in hours.items():
            if key[-1] == "counted_nano":
                ever[key[1], key[5]] += amount
        counted = {
            (r["account_id"], r["model"]): r["counted_nano"] for r in self.tables["usage_counted"]
        }
        assert +Counter(counted) == +ever

    async def the_chain_is_whole(self) -> None:
        first = self._there.instances[0]
        done = await asyncio.to_thread(
            run_command, "audit", "verify", "--json", data_dir=first.folder, **first.environment
        )
        assert done.returncode == 0, (done.stdout, done.stderr)
        [report] = json.loads(done.stdout)
        assert report["faults"] == []
        entries = [row["ref_id"] for row in self.tables["chain"] if row["kind"] == "usage"]
        assert sorted(entries) == sorted(row["call_id"] for row in self.records)

    def _count(self, account: str, day: int) -> tuple[int, int]:
        """(requests of a day, nano-dollars of all time) that an account's records count for."""
        own = [row for row in self.records if row["account_id"] == self._there.accounts[account]]
        made = sum(1 for row in own if row["attempts"] and row["started_at_ms"] // DAY_MS == day)
        return made, sum(row["counted_nano"] or 0 for row in own)

    async def counters_are_those_of_the_records(self) -> None:
        day = now_ms() // DAY_MS
        requests, _ = self._count("daily", day)
        _, nano = self._count("spender", day)

        async def are_equal() -> bool:
            for one in self._there.instances:
                assert one.router is not None
                status, me = await one.router.ask("GET", "/api/v1/me", self._there.keys["daily"])
                of_day = [limit["used"] for limit in me["limits"]] if status == 200 else None
                status, me = await one.router.ask("GET", "/api/v1/me", self._there.keys["spender"])
                ever = [limit["used_usd"] for limit in me["budgets"]] if status == 200 else [None]
                if of_day != [requests] or ever[0] is None:
                    seen[one.folder] = (of_day, ever)
                    return False
                if abs(ever[0] - nano / 10**9) > 1e-6:
                    seen[one.folder] = (of_day, ever)
                    return False
            return True

        seen: dict[Path, Any] = {}
        try:
            await until(are_equal, PATIENCE)
        except TimeoutError:
            if day == now_ms() // DAY_MS:
                raise AssertionError((requests, nano, seen)) from None

    def limits_were_kept(self, late: int, late_spenders: int) -> None:
        """So many calls may have been counted late, of a day and of all time: those in flight when
        something was lost."""
        for day in {row["started_at_ms"] // DAY_MS for row in self.records}:
            assert self._count("daily", day)[0] <= REQUESTS + late
        most = max((row["counted_nano"] or 0 for row in self.records), default=0)
        assert self._count("spender", 0)[1] <= BUDGET_USD * 10**9 + late_spenders * most
