"""Limits and budgets through the real server: counted on every account of the path, reserved before
and settled after, told truly, rebuilt from the records."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.rig import Answer, Rig
from tests.system.process import create_owner, start_router
from tests.waiting import until
from xairouter.clock import now_ms
from xairouter.counters.memory import MemoryCounters
from xairouter.policy.windows import DAY, period_of
from xairouter.standin.server import StandIn

pytestmark = pytest.mark.shared_rig

PRICES = {"*": {"input": 1000, "output": 2000}}
"""USD per million: a thousandth of a dollar for each token in, two for each token out."""


async def _limit(rig: Rig, account: str = "", **rules: Any) -> None:
    answer = await rig.ask("PUT", f"/api/v1/accounts/{account or rig.owner_id}/rules", rules)
    assert answer.status == 200, answer.body


def _codes(answers: list[Answer]) -> dict[Any, int]:
    found: dict[Any, int] = {}
    for answer in answers:
        code = answer.code if answer.status >= 400 else answer.status
        found[code] = found.get(code, 0) + 1
    return found


async def test_requests_are_limited_and_headers_tell_the_truth(rig: Rig):
    await rig.add_provider_key()
    await _limit(rig, limits={"rpm": 3, "rpd": 100, "tpm": 100_000})
    for left in (2, 1, 0):
        answer = await rig.chat()
        assert answer.status == 200
        assert answer.headers["x-ratelimit-limit-requests"] == "3"
        assert answer.headers["x-ratelimit-remaining-requests"] == str(left)
        # How many are left of the minute, depends on how long the calls take.
        assert 0 < int(answer.headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 61
        assert answer.headers["x-ratelimit-limit-tokens"] == "100000"
        assert int(answer.headers["x-ratelimit-remaining-tokens"]) < 100_000
    answer = await rig.chat()
    assert (answer.status, answer.code) == (429, "rate_limited")
    assert 0 < int(answer.headers["retry-after"]) <= 61
    assert "x-should-retry" not in answer.headers
    assert "“acme”" in answer.json()["error"]["message"]
    records = await rig.records(expect=4)
    assert (records[0]["outcome"], records[0]["error_code"]) == ("refused", "rate_limited")
    assert records[1]["reserved_tokens"] > 8000


@pytest.mark.own_rig
async def test_a_retry_passes_at_the_moment_that_was_told(rig: Rig):
    await rig.add_provider_key()
    clock = [now_ms()]
    assert isinstance(rig.house.counters, MemoryCounters)
    rig.house.counters._wall_clock = lambda: clock[0]
    rig.house.counters._monotonic = lambda: clock[0] / 1000
    await _limit(rig, limits={"rpm": 1})
    assert (await rig.chat()).status == 200
    answer = await rig.chat()
    clock[0] += int(answer.headers["retry-after"]) * 1000
    assert (await rig.chat()).status == 200


async def test_a_call_counts_against_every_account_above(rig: Rig):
    await rig.add_provider_key()
    await _limit(rig, limits={"rpd": 5})
    one = await rig.add_account("one", rules={"limits": {"rpd": 3}})
    two = await rig.add_account("two")
    answers = [await rig.chat(key=one["api_key"]) for _ in range(4)]
    assert _codes(answers) == {200: 3, "rate_limited": 1}
    assert "“one”" in answers[-1].json()["error"]["message"]
    answers = [await rig.chat(key=two["api_key"]) for _ in range(3)]
    assert _codes(answers) == {200: 2, "rate_limited": 1}
    assert "“acme”" in answers[-1].json()["error"]["message"]


async def test_model_limits_count_the_mapped_name(rig: Rig):
    await rig.add_provider_key()
    await _limit(
        rig,
        model_limits={"opus-*": {"rpd": 2}, "*": {"rpd": 4}},
        model_map={"best": "opus-1"},
    )
    answers = [
        await rig.chat(model) for model in ("best", "opus-2", "best", "mini", "mini", "mini")
    ]
    codes = [answer.code if answer.status >= 400 else 200 for answer in answers]
    assert codes == [200, 200, "rate_limited", 200, 200, "rate_limited"]
    assert "opus-*" in answers[2].json()["error"]["message"]


async def test_tokens_are_reserved_as_declared_and_settled_as_used(rig: Rig):
    await rig.add_provider_key()
    await _limit(rig, limits={"tpm": 1000})
    too_much = await rig.chat(max_tokens=2000)
    assert (too_much.status, too_much.code) == (429, "token_limited")
    assert "retry-after" not in too_much.headers, "waiting would not help"
    assert too_much.headers["x-should-retry"] == "false"
    assert (await rig.chat()).code == "token_limited", "undeclared output reserves a default"
    for _ in range(12):
        # 600 are reserved each time, and given back but for what was used.
        assert (await rig.chat(max_tokens=600)).status == 200
    used = (await rig.ask("GET", "/api/v1/me")).json()["limits"]
    [tokens] = [one for one in used if one["name"] == "tpm"]
    records = await rig.records(expect=14)
    total = sum((r["input_tokens"] or 0) + (r["output_tokens"] or 0) for r in records)
    assert (tokens["used"], tokens["limit"]) == (total, 1000)


async def test_the_rule_s_output_is_put_into_requests_that_declare_none(rig: Rig):
    await rig.add_provider_key()
    await _limit(rig, limits={"tpm": 100_000}, max_output_tokens=50)
    assert (await rig.chat()).status == 200
    assert rig.standin.requests[-1].json()["max_tokens"] == 50
    assert (await rig.record())["reserved_tokens"] < 200
    await rig.chat(max_tokens=7)
    assert rig.standin.requests[-1].json()["max_tokens"] == 7
    await rig.ask("POST", "/v1/responses", {"model": "m", "input": "x"})
    assert rig.standin.requests[-1].json()["max_output_tokens"] == 50
    await rig.ask("POST", "/v1beta/models/m:generateContent", {"contents": []})
    assert rig.standin.requests[-1].json()["generationConfig"] == {"maxOutputTokens": 50}
    await rig.ask("POST", "/v1/embeddings", {"model": "m", "input": "x"})
    assert set(rig.standin.requests[-1].json()) == {"model", "input"}


async def test_concurrency_counts_calls_under_way_and_frees_with_each(rig: Rig):
    await rig.add_provider_key()
    team = await rig.add_account(rules={"limits": {"concurrency": 2}})
    slow = [asyncio.create_task(rig.chat("fault-timeout", key=team["api_key"])) for _ in range(2)]
    await until(lambda: len(rig.standin.requests) == 2)
    answer = await rig.chat(key=team["api_key"])
    assert (answer.status, answer.code) == (429, "concurrency_limited")
    assert answer.headers["retry-after"] == "1"
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    await until(lambda: len(rig.house.running) == 0)
    assert (await rig.chat(key=team["api_key"])).status == 200, "a client that left leaks nothing"


@pytest.mark.both
@pytest.mark.parametrize(
    "model",
    ["fault-500", "fault-401", "fault-reset-before", "fault-reset-after", "fault-400", "none"],
)
async def test_nothing_is_leaked_when_calls_fail(rig: Rig, model: str):
    await rig.add_provider_key(models=["demo*", "fault-*"])
    await _limit(rig, limits={"concurrency": 1, "tpm": 30_000})
    for _ in range(4):
        with contextlib.suppress(aiohttp.ClientError):
            await rig.chat(model, max_tokens=20_000)
        rig.house.health._keys.clear()
    limits = {one["name"]: one for one in (await rig.ask("GET", "/api/v1/me")).json()["limits"]}
    assert limits["concurrency"]["used"] == 0
    # What reached the provider and was not refused by it may be billed whole, so what was reserved
    # counts (8192 at most a call).
    is_billed = model in ("fault-500", "fault-reset-before", "fault-reset-after")
    assert limits["tpm"]["used"] == pytest.approx(3 * 8220 if is_billed else 0, abs=100)
    assert (await rig.chat(max_tokens=20_000)).status == (429 if is_billed else 200)


async def test_two_hundred_clients_at_once_are_admitted_exactly(rig: Rig):
    await rig.add_provider_key()
    await _limit(rig, limits={"rpd": 120})
    team = await rig.add_account(rules={"limits": {"rpd": 70}})
    answers = await asyncio.gather(
        *(rig.chat(key=team["api_key"]) for _ in range(100)), *(rig.chat() for _ in range(100))
    )
    by_team, by_owner = _codes(list(answers[:100])), _codes(list(answers[100:]))
    assert by_team[200] <= 70
    assert by_team[200] + by_owner[200] == 120
    posts = [r for r in rig.standin.requests if r.method == "POST"]
    assert len(posts) == 120


@pytest.mark.own_rig
async def test_a_budget_is_never_overrun_where_the_request_fixes_the_maximum(rig: Rig):
    await rig.ask("PUT", "/api/v1/prices", PRICES)
    await rig.add_provider_key()
    await _limit(rig, budget={"day_usd": 2})
    began = now_ms()
    answers = await asyncio.gather(*(rig.chat(max_tokens=40) for _ in range(100)))
    codes = _codes(list(answers))
    assert set(codes) <= {200, "budget_exhausted"}
    later = [await rig.chat(max_tokens=40) for _ in range(200)]
    assert "budget_exhausted" in _codes(later)
    refused = next(answer for answer in later if answer.status == 429)
    assert refused.headers["x-should-retry"] == "false"
    _, end = period_of(DAY, now_ms(), rig.house.directory._owners[rig.owner_id].zone)
    assert end is not None
    told = int(refused.headers["retry-after"])
    assert (end - now_ms()) // 1000 <= told <= (end - began) // 1000 + 1
    spent = sum(record["cost_usd"] or 0 for record in await rig.records())
    assert 1.5 < spent <= 2
    assert rig.house.metrics.beyond_reservation._value.get() == 0


@pytest.mark.both
async def test_a_total_budget_has_no_moment_to_wait_for(rig: Rig):
    await rig.ask("PUT", "/api/v1/prices", PRICES)
    await rig.add_provider_key()
    await _limit(rig, budget={"total_usd": 0.01})
    answer = await rig.chat(max_tokens=40)
    assert (answer.status, answer.code) == (429, "budget_exhausted")
    assert "retry-after" not in answer.headers


async def test_choices_multiply_what_is_reserved(rig: Rig):
    await rig.ask("PUT", "/api/v1/prices", PRICES)
    await rig.add_provider_key()
    await _limit(rig, budget={"day_usd": 1})
    assert (await rig.chat(max_tokens=100, n=10)).code == "budget_exhausted"
    assert (await rig.chat(max_tokens=100)).status == 200


async def test_an_unpriced_model_under_a_budget_is_refused_unless_the_owner_says_otherwise(
    rig: Rig,
):
    await rig.add_provider_key()
    await _limit(rig, budget={"day_usd": 1})
    assert (await rig.ask("GET", "/api/v1/settings")).json()["unpriced"] == "refuse"
    answer = await rig.chat("nobody-knows")
    assert (answer.status, answer.code) == (403, "model_unpriced")
    await rig.ask("PATCH", "/api/v1/settings", {"unpriced": "allow"})
    assert (await rig.chat("nobody-knows")).status == 200
    records = await rig.records(expect=2)
    assert records[0]["cost_usd"] is None, "and never counts as 0"


async def test_an_unpriced_model_is_estimated_at_its_providers_highest_rates(rig: Rig):
    """What was reserved keeps counting: nobody knows what the call cost."""
    await rig.add_provider_key(provider="openai")
    await _limit(rig, budget={"day_usd": 50})
    await rig.ask("PATCH", "/api/v1/settings", {"unpriced": "estimate"})
    answer = await rig.chat("gpt-nobody-knows", max_tokens=1000)
    assert answer.status == 200, answer.body
    [record] = await rig.records(expect=1)
    assert record["cost_usd"] is None
    highest = rig.house.prices.dearest("openai")
    assert highest is not None
    output = highest.standard[0].rates["output"].base
    assert record["reserved_usd"] >= 1000 * output / 10**15
    me = (await rig.ask("GET", "/api/v1/me")).json()
    [used] = [one["used_usd"] for one in me["budgets"] if one["name"] == "day"]
    assert used == record["reserved_usd"]
    said = (await rig.ask("POST", "/api/v1/explain", {"model": "gpt-nobody-knows"})).json()
    [priced] = [rule for rule in said["rules"] if rule["rule"] == "priced"]
    assert (priced["verdict"], "highest" in priced["why"]) == ("pass", True)


async def test_there_is_nothing_to_estimate_from_where_no_list_knows_the_provider(rig: Rig):
    await rig.add_provider_key()
    await _limit(rig, budget={"day_usd": 50})
    await rig.ask("PATCH", "/api/v1/settings", {"unpriced": "estimate"})
    answer = await rig.chat("nobody-knows")
    assert (answer.status, answer.code) == (403, "model_unpriced")
    said = (await rig.ask("POST", "/api/v1/explain", {"model": "nobody-knows"})).json()
    assert said["code"] == "model_unpriced"


@pytest.mark.both
async def test_counting_tokens_counts_as_a_request_and_costs_nothing(rig: Rig):
    await rig.ask("PUT", "/api/v1/prices", PRICES)
    await rig.add_provider_key()
    await _limit(rig, limits={"rpd": 5, "tpd": 10}, budget={"day_usd": 0.001})
    body = {"model": "m", "messages": [{"role": "user", "content": "x" * 400}]}
    assert (await rig.ask("POST", "/v1/messages/count_tokens", body)).status == 200
    used = {
        one["name"]: one["used"] for one in (await rig.ask("GET", "/api/v1/me")).json()["limits"]
    }
    assert used == {"rpd": 1, "tpd": 0}


@pytest.mark.both
async def test_a_soft_threshold_tells_once_a_period(rig: Rig):
    await rig.ask("PUT", "/api/v1/prices", PRICES)
    await rig.add_provider_key()
    team = await rig.add_account(rules={"budget": {"day_usd": 1, "notify_at": 0.3}})
    for _ in range(40):
        await rig.chat(key=team["api_key"], max_tokens=10)
    await rig.house.herald.watch_budgets()

    async def thresholds() -> list[Any]:
        items = (await rig.ask("GET", "/api/v1/notices")).json()["items"]
        return [one for one in items if one["kind"] == "budget_threshold"]

    # The router's own loop may have taken the crossing, and be storing its notice.
    [notice] = await until(thresholds)
    assert "“team”" in notice["message"]
    assert "30 %" in notice["message"]
    await rig.ask("POST", f"/api/v1/notices/{notice['id']}/dismiss")
    for _ in range(10):
        await rig.chat(key=team["api_key"], max_tokens=10)
    await rig.house.herald.watch_budgets()
    kinds = [one["kind"] for one in (await rig.ask("GET", "/api/v1/notices")).json()["items"]]
    assert "budget_threshold" not in kinds


@pytest.mark.both
async def test_a_limit_that_is_set_later_knows_what_was_used_before(rig: Rig):
    await rig.ask("PUT", "/api/v1/prices", PRICES)
    await rig.add_provider_key()
    team = await rig.add_account()
    for _ in range(4):
        await rig.chat(key=team["api_key"], max_tokens=10)
    await _limit(rig, limits={"rpd": 5})
    await _limit(rig, team["account"]["id"], budget={"total_usd": 50}, limits={"rph": 100})
    me = (await rig.ask("GET", "/api/v1/me", key=team["api_key"])).json()
    used = {(one["account_id"], one["name"]): one["used"] for one in me["limits"]}
    assert used[(rig.owner_id, "rpd")] == 4
    assert used[(team["account"]["id"], "rph")] == 4
    spent = sum(record["cost_usd"] for record in await rig.records(expect=4))
    [budget] = [one for one in me["budgets"] if one["name"] == "total"]
    assert budget["used_usd"] == pytest.approx(spent)
    assert _codes([await rig.chat(key=team["api_key"]) for _ in range(2)]) == {
        200: 1,
        "rate_limited": 1,
    }


@pytest.mark.both
async def test_an_account_that_moves_takes_its_use_along(rig: Rig):
    await rig.add_provider_key()
    one, two = (
        await rig.add_account("one"),
        await rig.add_account("two", rules={"limits": {"rpd": 3}}),
    )
    for _ in range(2):
        await rig.chat(key=one["api_key"])
    assert (await rig.chat(key=two["api_key"])).status == 200
    path = f"/api/v1/accounts/{one['account']['id']}"
    moved = await rig.ask("PATCH", path, {"parent": two["account"]["id"]})
    assert moved.status == 200, moved.body
    assert (await rig.chat(key=one["api_key"])).code == "rate_limited"


@pytest.mark.both
@pytest.mark.slow
async def test_after_a_kill_counters_say_what_the_records_say(tmp_path: Path, storage: str):
    data_dir = tmp_path / "data"
    where = {"XAIROUTER_DATABASE_URL": storage}
    standin = StandIn()
    port = await standin.start()
    key = await create_owner(data_dir, **where)
    try:
        router = await start_router(data_dir, **where)
        await router.add_standin(key, port)
        _, me = await router.ask("GET", "/api/v1/me", key)
        rules = {"limits": {"rpd": 8, "concurrency": 3, "tpd": 100_000}}
        await router.ask("PUT", f"/api/v1/accounts/{me['account']['id']}/rules", key, rules)

        async def chat(model: str = "demo") -> int:
            body = {
                "model": model,
                "max_tokens": 50,
                "messages": [{"role": "user", "content": "x"}],
            }
            status, _ = await router.ask("POST", "/v1/chat/completions", key, body)
            return int(status)

        assert [await chat() for _ in range(4)] == [200] * 4
        hanging = [asyncio.create_task(chat("fault-timeout")) for _ in range(3)]
        await until(lambda: len(standin.requests) == 7)
        assert await chat() == 429
        await router.kill()
        await asyncio.gather(*hanging, return_exceptions=True)
        router = await start_router(data_dir, **where)
        _, me = await router.ask("GET", "/api/v1/me", key)
        used = {one["name"]: one["used"] for one in me["limits"]}
        assert used["concurrency"] == 0, "what was killed holds nothing"
        assert used["rpd"] == 7
        assert [await chat() for _ in range(2)] == [200, 429]
        await router.terminate()
    finally:
        await standin.stop()


@pytest.mark.own_rig
async def test_a_limited_account_costs_the_unlimited_nothing(rig: Rig):
    """No counter is touched for who has no limit."""
    await rig.add_provider_key()
    await rig.chat()
    assert isinstance(rig.house.counters, MemoryCounters)
    assert rig.house.counters._counters == {}
    answer = await rig.chat()
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]
