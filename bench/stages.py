"""Where a call's time goes: the parts of its way, each timed alone on real values.

``python bench/stages.py`` prints microseconds, the best of several rounds, in this process and
without a network: what is missing to the CPU that ``make bench`` finds is the servers' protocols, the
kernel, and what threads cost each other. The account has limits, a budget and two parents.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import uvloop

from xairouter.accounting.cost import cost_of
from xairouter.app import House
from xairouter.clock import fresh_id, now_ms
from xairouter.custody import room as custody
from xairouter.custody.vault import unseal
from xairouter.custody.withhold import Search
from xairouter.dialects.meter import Meter
from xairouter.dialects.openai_chat import OPENAI_CHAT
from xairouter.dialects.paths import find
from xairouter.directory.identity import Identifier, Identity
from xairouter.domain.calls import Plan
from xairouter.domain.records import EndFields, Outcome, ReplyFields, UsageRecord
from xairouter.gateway import sending
from xairouter.gateway.bodies import BodyBudget
from xairouter.gateway.bookkeeping import first_record, known_so_far
from xairouter.gateway.link import LINK
from xairouter.gateway.reply_headers import returned
from xairouter.gateway.reserving import reserve, settle
from xairouter.gateway.talk import Talk
from xairouter.gateway.work import Parts, Work
from xairouter.manage.owners import create_owner
from xairouter.policy.decide import enter, plan_call, wake
from xairouter.policy.interface import Situation
from xairouter.providers.table import provider_row
from xairouter.settings import load

RULES = {"limits": {"rpm": 10**6, "tpm": 10**9, "concurrency": 1000}, "budget": {"day_usd": 10**5}}
REPLY_HEADERS = (
    ("date", "Thu, 26 Nov 2026 05:00:00 GMT"),
    ("content-type", "application/json"),
    ("content-length", "900"),
    ("x-request-id", "req_123"),
    ("openai-processing-ms", "312"),
    ("x-ratelimit-remaining-requests", "9999"),
)


def request_body() -> bytes:
    said = [{"role": "user", "content": "x" * 200}]
    return json.dumps({"model": "bench-1", "messages": said, "max_tokens": 100}).encode()


def reply_body() -> bytes:
    document = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "bench-1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "y" * 600}}],
        "usage": {"prompt_tokens": 50, "completion_tokens": 150, "total_tokens": 200},
    }
    return json.dumps(document).encode()


class NoLink:
    """A connection that takes everything."""

    is_gone = is_full = False
    is_whole = True

    def __init__(self, send: Any = None) -> None:
        self.send = send

    def take_body(self) -> bytes:
        return request_body()

    def start(self, status: int, headers: Any) -> None:
        b"".join(b"%b: %b\r\n" % one for one in headers)

    def write(self, data: bytes) -> None:
        """Gone."""

    def end(self) -> None:
        """Gone."""

    def when_gone(self, listener: Any) -> None:
        """It never is."""


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """A coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise RuntimeError("It waits.")


def best(work: Callable[[], Any], count: int = 2000, rounds: int = 7) -> float:
    """Microseconds of one piece of work."""
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(count):
            work()
        found.append((time.perf_counter() - began) / count * 1e6)
    return min(found)


async def ask(app: Any, key: str, method: str, path: str, body: Any) -> Any:
    """A call of the management API, without a server."""
    said: dict[str, Any] = {"body": b""}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

    async def send(message: Any) -> None:
        said["status"] = message.get("status", said.get("status"))
        said["body"] += message.get("body", b"")

    path, _, query = path.partition("?")
    scope = {**scope_of(key, method, path), "query_string": query.encode(), LINK: NoLink(send)}
    await app(scope, receive, send)
    if said["status"] >= 300:
        raise SystemExit(said["body"].decode())
    return json.loads(said["body"]) if said["body"] else None


def scope_of(key: str, method: str = "POST", path: str = "/v1/chat/completions") -> dict[str, Any]:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "server": ("127.0.0.1", 8080),
        "client": ("127.0.0.1", 50_000),
        "state": {},
        "headers": [
            (b"host", b"127.0.0.1:8080"),
            (b"authorization", b"Bearer " + key.encode()),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(request_body())),
            (b"user-agent", b"OpenAI/Python 2.9"),
        ],
        LINK: NoLink(),
    }


async def set_up(house: House) -> tuple[Any, str]:
    """The application, and the key of an account with limits, a budget and two parents."""
    database, witness = house.database, house.room.witness
    owner = await create_owner(database, witness, "bench", None, seen_by_operator=True)
    app = house.application()
    key = owner.api_key
    provider_key = {
        "name": "upstream",
        "secret": "sk-bench-0123456789abcdefgh",
        "models": ["bench-*"],
        "endpoints": {"openai_chat": "http://127.0.0.1:9/v1"},
    }
    await ask(app, key, "POST", "/api/v1/provider-keys?verify=false", provider_key)
    await ask(app, key, "PUT", "/api/v1/prices", {"bench-*": {"input": 2.5, "output": 10}})
    parent: dict[str, str] = {}
    for name in ("team", "person"):
        body = {"name": name, "rules": RULES, **parent}
        made = await ask(app, key, "POST", "/api/v1/accounts", body)
        parent = {"parent": made["account"]["id"]}
    return app, made["api_key"]


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-stages-") as folder:
        house = House(load(data_dir=Path(folder), allow_private_providers=True, log_level="error"))
        await house.start()
        try:
            app, key = await set_up(house)
            rows = await stages(house, app._pipeline._parts, key)
        finally:
            await house.stop()
    for what, micros in rows:
        print(f"{micros:6.1f} µs  {what}")
    print(f"{sum(micros for _, micros in rows):6.1f} µs  together")


async def stages(house: House, parts: Parts, key: str) -> list[tuple[str, float]]:
    budget = BodyBudget(1 << 30)
    scope = scope_of(key)
    identifier: Identifier = parts.identifier

    def talk() -> Talk:
        return Talk(dict(scope), None, fresh_id("call"), budget)  # type: ignore[arg-type]

    asked = talk()
    await asyncio.sleep(1)  # until the changes of setting up have been heard of
    await identifier.resolve(asked.headers, b"")
    identity = run(identifier.resolve(asked.headers, b""))
    assert isinstance(identity, Identity)
    match = find("POST", b"/v1/chat/completions")
    assert match is not None
    work = Work(asked, match, OPENAI_CHAT, identity, parts.running.now(), "127.0.0.1")
    work.began_ms = now_ms()
    work.body = request_body()
    peek = OPENAI_CHAT.peek(match, work.body)
    work.peek = peek  # type: ignore[assignment]
    situation = Situation(0)

    def plan() -> Any:
        made = plan_call(identity.view, identity.caller, match, work.peek, situation)
        return wake(made, work.peek, situation)  # type: ignore[arg-type]

    planned = plan()
    assert isinstance(planned, Plan)
    await reserve(parts, work, planned)
    route = planned.routes[0]
    row = provider_row(route.key.provider)
    meter = work.meter = Meter(OPENAI_CHAT, "application/json", "")
    reply = reply_body()
    meter.feed(reply)
    usage = meter.finish()
    record: UsageRecord = first_record(parts, work, Outcome.INTERRUPTED)
    price = sending_price(parts, work)
    search = Search("sk-bench-0123456789abcdefgh")

    def counted() -> None:
        run(reserve(parts, work, planned))
        settle(parts, work, record)

    def read() -> None:
        fresh = Meter(OPENAI_CHAT, "application/json", "")
        fresh.feed(reply)
        work.meter = fresh
        known_so_far(parts, work)
        cost_of(price, usage, 0)

    def open_key() -> None:
        outbound = sending._outbound(work, route, row)
        secret = unseal(identity.vault, route.key).decode()
        custody._with_credential(
            outbound, "http://127.0.0.1:9/v1", custody._SCHEMES["bearer"], secret, "pk_1"
        )
        Search(secret)

    def answer() -> None:
        search.finds_in_header("\n".join(map("\n".join, REPLY_HEADERS)))
        asked.start(200, [*returned(REPLY_HEADERS), (b"x-xairouter-origin", b"provider")])
        asked.end(reply)

    found = [
        (
            "the request taken up: ids, headers, path",
            best(lambda: (talk(), find("POST", asked.path))),
        ),
        (
            "identity: form, checksum, look-up, admission, the vault at hand",
            best(lambda: run(identifier.resolve(asked.headers, b""))),
        ),
        (
            "entry rules: addresses, paths of three accounts",
            best(lambda: enter(identity.caller, 0, "127.0.0.1", match.path)),
        ),
        ("the peek at the body", best(lambda: OPENAI_CHAT.peek(match, work.body))),
        ("decision: models, levels, the plan", best(plan)),
        ("reserve and settle: 12 counters on three accounts", best(counted)),
        (
            "the outbound request, its provider key opened",
            best(open_key),
        ),
        ("the reply's head searched, written", best(answer)),
        ("the reply metered, its cost", best(read)),
    ]
    return [*found, *await ledger(house, parts, work, record)]


def sending_price(parts: Parts, work: Work) -> Any:
    from xairouter.directory.prices import price_of

    return price_of(work.identity.view, parts.prices, "custom", "bench-1")


async def ledger(
    house: House, parts: Parts, work: Work, record: UsageRecord
) -> list[tuple[str, float]]:
    """The book's part, and the drain's, for 16 calls of a turn at a time."""
    import msgspec

    count = 16 * 60
    plan = plan_call(work.identity.view, work.identity.caller, work.match, work.peek, Situation(0))
    assert isinstance(plan, Plan)

    async def one() -> None:
        fresh = msgspec.structs.replace(record, call_id=fresh_id("call"))
        entry = parts.book.open(fresh)
        await entry.attempt(plan.routes[0], None, 0)
        entry.close(ReplyFields(), EndFields(outcome=Outcome.COMPLETED))

    writing, storing = [], []
    for _ in range(7):
        began = time.perf_counter()
        for _ in range(count // 16):
            await asyncio.gather(*(one() for _ in range(16)))
        writing.append((time.perf_counter() - began) / count * 1e6)
        began = time.process_time()
        await house.drain.drain()
        storing.append((time.process_time() - began) / count * 1e6)
    return [
        ("the journal: three frames, a write for 16 calls", min(writing)),
        ("the drain: record, sums, chain, in batches (both threads)", min(storing)),
    ]


if __name__ == "__main__":
    uvloop.run(main())
