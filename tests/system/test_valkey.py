"""Limits and budgets with counters in Valkey, through the real server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from functools import partial
from pathlib import Path

import pytest

from tests.rig import Rig, start_rig
from tests.servers import start_valkey, valkey_url
from tests.system.process import create_owner, start_router
from tests.system.test_limits import PRICES, _codes, _limit
from tests.waiting import until
from xairouter.clock import now_ms
from xairouter.standin.server import StandIn
from xairouter.storage.valkey import valkey_client


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[Rig]:
    made = await start_rig(tmp_path, valkey_url=valkey_url())
    await made.add_provider_key()
    yield made
    await made.stop()


async def test_admission_is_exact_and_what_is_used_is_counted(shared: Rig):
    await _limit(shared, limits={"rpd": 60, "concurrency": 500, "tpd": 1_000_000})
    team = await shared.add_account(rules={"limits": {"rpd": 40}})
    answers = await asyncio.gather(
        *(shared.chat(key=team["api_key"], max_tokens=20) for _ in range(60)),
        *(shared.chat(max_tokens=20) for _ in range(60)),
    )
    assert _codes(list(answers[:60])).get(200, 0) <= 40, _codes(list(answers))
    assert _codes(list(answers))[200] == 60
    records = await shared.records()
    used = {
        one["name"]: one["used"] for one in (await shared.ask("GET", "/api/v1/me")).json()["limits"]
    }
    tokens = sum((r["input_tokens"] or 0) + (r["output_tokens"] or 0) for r in records)
    assert used == {"rpd": 60, "concurrency": 0, "tpd": tokens}
    assert (await shared.ask("GET", "/readyz", key=None)).json()["counters"] == "valkey"


async def test_a_budget_holds_and_a_limit_set_later_knows_the_past(shared: Rig):
    await shared.ask("PUT", "/api/v1/prices", PRICES)
    for _ in range(5):
        assert (await shared.chat(max_tokens=10)).status == 200
    await shared.records(expect=5)
    await _limit(shared, budget={"day_usd": 0.3}, limits={"rpd": 100})
    me = (await shared.ask("GET", "/api/v1/me")).json()
    assert [one["used"] for one in me["limits"]] == [5]
    answers = [await shared.chat(max_tokens=10) for _ in range(40)]
    assert "budget_exhausted" in _codes(answers)
    spent = sum(r["cost_usd"] or 0 for r in await shared.records(expect=45))
    assert 0.2 < spent <= 0.3


async def test_a_wrong_clock_of_the_server_forgets_nothing_and_stops_nobody(tmp_path: Path):
    server = start_valkey()
    rig = await start_rig(tmp_path, valkey_url=f"valkey://127.0.0.1:{server.port}/0")
    client = valkey_client(f"valkey://127.0.0.1:{server.port}/0")
    try:
        await rig.add_provider_key()
        await _limit(rig, limits={"rpd": 3})
        assert _codes([await rig.chat() for _ in range(4)]) == {200: 3, "rate_limited": 1}
        await rig.records(expect=4)
        # What one call leaves behind while the server's clock is 400 days ahead.
        ahead = now_ms() + 400 * 86_400_000
        await client.hset("xr:generation", mapping={"at": ahead, "seen": ahead})
        for key in await client.keys("*:c:*"):
            for name in await client.hkeys(key):
                if name.isdigit():
                    await client.hdel(key, name)

        async def is_known_again() -> bool:
            me = await rig.ask("GET", "/api/v1/me")
            return me.status == 200 and [one["used"] for one in me.json()["limits"]] == [3]

        await until(is_known_again)
        assert (await rig.chat()).code == "rate_limited"
        other = await rig.new_owner("other")
        rules = {"limits": {"rpd": 3}}
        path = f"/api/v1/accounts/{other.account.id}/rules"
        assert (await rig.ask("PUT", path, rules, key=other.api_key)).status == 200

        await rig.add_provider_key(key=other.api_key)
        await until(partial(_serves, rig, other.api_key))
    finally:
        await client.aclose()
        await rig.stop()
        server.stop()


async def _serves(rig: Rig, key: str) -> bool:
    return (await rig.chat(key=key)).status == 200


async def _is(found: Awaitable[int], wanted: int) -> bool:
    return await found == wanted


async def test_a_killed_instance_leaves_nothing_held(tmp_path: Path):
    data_dir = tmp_path / "data"
    where = {"XAIROUTER_VALKEY_URL": valkey_url()}
    standin = StandIn()
    port = await standin.start()
    key = await create_owner(data_dir)
    try:
        router = await start_router(data_dir, **where)
        await router.add_standin(key, port)
        _, me = await router.ask("GET", "/api/v1/me", key)
        account = me["account"]["id"]
        rules = {"limits": {"rpd": 100, "concurrency": 3}}
        await router.ask("PUT", f"/api/v1/accounts/{account}/rules", key, rules)

        async def chat(model: str = "demo") -> int:
            body = {"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
            status, _ = await router.ask("POST", "/v1/chat/completions", key, body)
            return int(status)

        hanging = [asyncio.create_task(chat("fault-timeout")) for _ in range(3)]
        await until(lambda: len(standin.requests) == 3)
        assert await chat() == 429
        await router.kill()
        await asyncio.gather(*hanging, return_exceptions=True)
        router = await start_router(data_dir, **where)
        # Its journal tells what became of its calls, so nobody waits for their leases.
        assert await chat() == 200
        _, me = await router.ask("GET", "/api/v1/me", key)
        used = {one["name"]: one["used"] for one in me["limits"]}

        async def reached() -> int:
            _, page = await router.ask("GET", "/api/v1/usage/records?limit=500", key)
            return len([record for record in page["items"] if record["attempts"]])

        # The three that were killed, and the one that was admitted.
        await until(lambda: _is(reached(), 4))
        assert used["rpd"] == 4, "each counts as a request, once"
        await router.terminate()
    finally:
        await standin.stop()
