"""Rehearsal: proposed rules and routing against the calls that were made, and nothing stored."""

import asyncio
from typing import Any

import pytest

from tests.rig import Rig
from tests.system.test_limits import PRICES
from xairouter.manage import rehearse

pytestmark = pytest.mark.shared_rig


async def _calls(rig: Rig) -> Any:
    """A team that made ten calls to two models."""
    await rig.ask("PUT", "/api/v1/prices", {**PRICES, "small": {"input": 100, "output": 200}})
    await rig.add_provider_key(models=["large", "small"])
    await rig.add_provider_key(name="two", level=2, models=["large", "small"])
    team = (await rig.ask("POST", "/api/v1/accounts", {"name": "team"})).json()
    for number in range(10):
        answer = await rig.chat(
            "large" if number < 6 else "small", key=team["api_key"], max_tokens=9
        )
        assert answer.status == 200
    await rig.chat("large")
    await rig.records(expect=11)
    return team


async def _rehearse(rig: Rig, account: str, rules: Any, method: str = "PUT") -> Any:
    answer = await rig.ask(method, f"/api/v1/accounts/{account}/rules?dry_run=true&days=2", rules)
    assert answer.status == 200, answer.body
    return answer.json()


async def test_of_many_at_once_one_runs_and_the_others_are_told_so(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rehearse, "_START", "spawn")  # as it is outside of tests
    team = await _calls(rig)
    path = f"/api/v1/accounts/{team['account']['id']}/rules?dry_run=true"
    body = {"allow_models": ["small"]}
    answers = await asyncio.gather(*(rig.ask("PUT", path, body) for _ in range(10)))
    assert sorted(answer.status for answer in answers) == [200, *[409] * 9]
    assert {answer.code for answer in answers} == {None, "conflict"}
    assert (await rig.ask("PUT", path, body)).status == 200


@pytest.mark.both
async def test_it_tells_what_would_have_been_refused_and_stores_nothing(rig: Rig):
    team = await _calls(rig)
    account = team["account"]["id"]
    told = await _rehearse(rig, account, {"allow_models": ["small"]})
    rehearsal = told["rehearsal"]
    assert rehearsal["calls"] == 10
    assert rehearsal["refused"]["calls"] == 6
    assert rehearsal["refused"]["by_code"] == {"model_not_allowed": 6}
    assert rehearsal["refused"]["by_account"] == {account: 6}
    assert len(rehearsal["refused"]["examples"]) == 6
    assert rehearsal["refused"]["cost_usd"] > 0
    assert rehearsal["cost_usd"]["proposed"] < rehearsal["cost_usd"]["recorded"]
    assert told["diff"] == [{"rule": "allow_models", "before": None, "after": ["small"]}]
    assert told["own"] == {"allow_models": ["small"]}
    assert "6 would have been refused" in rehearsal["sentence"]
    assert (await rig.ask("GET", f"/api/v1/accounts/{account}/rules")).json()["own"] == {}
    assert (await rig.chat("large", key=team["api_key"])).status == 200


async def test_limits_and_budgets_are_played_through_in_time(rig: Rig):
    team = await _calls(rig)
    account = team["account"]["id"]
    told = (await _rehearse(rig, account, {"limits": {"rpd": 4}}))["rehearsal"]
    assert told["refused"]["by_code"] == {"rate_limited": 6}
    told = (await _rehearse(rig, account, {"limits": {"rpm": 7}}, "PATCH"))["rehearsal"]
    assert told["refused"]["by_code"] == {"rate_limited": 3}
    told = (await _rehearse(rig, rig.owner_id, {"budget": {"day_usd": 0.03}}))["rehearsal"]
    spent = sum(record["cost_usd"] for record in await rig.records())
    assert told["cost_usd"]["recorded"] == round(spent, 9)
    assert told["refused"]["by_code"]["budget_exhausted"] > 3
    assert told["cost_usd"]["proposed"] <= 0.03
    told = (await _rehearse(rig, account, {"limits": {"concurrency": 1}}))["rehearsal"]
    assert told["refused"]["calls"] == 0, "they were made one after the other"


async def test_routing_is_rehearsed_with_the_difference_in_cost(rig: Rig):
    await _calls(rig)
    path = "/api/v1/routing?dry_run=true&days=1"
    told = (await rig.ask("PUT", path, {"level_map": {"large": 2}})).json()
    assert told["rehearsal"]["rerouted"]["calls"] == 7
    assert told["rehearsal"]["rerouted"]["by_route"] == [
        {"from": "large at level 1", "to": "large at level 2", "calls": 7}
    ]
    assert told["rehearsal"]["rerouted"]["cost_difference_usd"] == 0
    assert (await rig.ask("GET", "/api/v1/routing")).json()["level_map"] == {}
    mapped = await _rehearse(rig, rig.owner_id, {"model_map": {"large": "small"}})
    rerouted = mapped["rehearsal"]["rerouted"]
    assert rerouted["calls"] == 7
    large = [r for r in await rig.records() if r["model_used"] == "large"]
    expected = -0.9 * sum(record["cost_usd"] for record in large)
    assert abs(rerouted["cost_difference_usd"] - expected) < 1e-6


async def test_calls_that_were_refused_and_would_be_admitted_are_told(rig: Rig):
    team = await _calls(rig)
    account = team["account"]["id"]
    await rig.ask("PUT", f"/api/v1/accounts/{account}/rules", {"allow_models": ["small"]})
    for _ in range(3):
        await rig.chat("large", key=team["api_key"])
    await rig.records(expect=14)
    told = (await _rehearse(rig, account, {"allow_models": ["small", "large"]}))["rehearsal"]
    assert told["admitted"]["calls"] == 3


async def test_what_could_not_be_written_cannot_be_rehearsed(rig: Rig):
    team = await _calls(rig)
    await rig.ask("PUT", f"/api/v1/accounts/{rig.owner_id}/rules", {"limits": {"rpd": 1000}})
    path = f"/api/v1/accounts/{team['account']['id']}/rules?dry_run=true"
    wide = await rig.ask("PUT", path, {"limits": {"rpd": 1001}})
    assert wide.json()["code"] == "wider_than_parent"
    assert (await rig.ask("PUT", path, {"nonsense": 1})).json()["code"] == "unknown_field"
    assert (await rig.ask("PUT", path + "&days=9999", {})).status == 422
    assert (await rig.ask("PUT", path, {}, key=team["api_key"])).status == 403


async def test_a_budget_would_refuse_what_has_no_price(rig: Rig):
    await rig.add_provider_key()
    for model in ("nobody-knows", "gpt-4o-mini"):
        assert (await rig.chat(model)).status == 200
    await rig.ask("POST", "/v1/messages/count_tokens", {"model": "nobody-knows", "messages": []})
    await rig.records(expect=3)
    budget = {"budget": {"day_usd": 100}}
    told = (await _rehearse(rig, rig.owner_id, budget))["rehearsal"]
    assert told["refused"]["by_code"] == {"model_unpriced": 2}, "no list knows this server's models"
    await rig.ask("PUT", "/api/v1/prices", PRICES)
    assert (await _rehearse(rig, rig.owner_id, budget))["rehearsal"]["refused"]["calls"] == 0
