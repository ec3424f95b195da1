"""An owner's own prices name every rate that the price list knows."""

from typing import Any

import pytest

from tests.rig import Rig
from tests.system.test_money import _budget, _request
from tests.system.test_price_words import _chat, _message, _played, _response
from xairouter.policy.owner_prices import ALL_UNITS, MOST_TIERS

OWN: dict[str, Any] = {
    "m": {
        "input": 1000,
        "output": 2000,
        "output_audio": 5000,
        "web_searches": 10,
        "service_tiers": {
            "priority": {"input": 2000, "output": 4000},
            "fast+us": {"input": 3000, "output": 6000},
        },
    }
}


@pytest.mark.parametrize(
    ("dialect", "asked", "reply", "cost"),
    [
        ("openai_chat", {}, _chat("default"), 0.05),
        ("openai_chat", {"service_tier": "priority"}, _chat("priority"), 0.1),
        (
            "openai_chat",
            {"modalities": ["audio"]},
            _chat("default", completion_tokens_details={"audio_tokens": 20}),
            0.11,
        ),
        (
            "openai_responses",
            {"tools": [{"type": "web_search"}]},
            _response("default", "web_search_call", "web_search_call"),
            0.07,
        ),
        (
            "anthropic_messages",
            {"speed": "fast", "inference_geo": "us"},
            _message(speed="fast", inference_geo="us"),
            0.15,
        ),
    ],
)
async def test_a_rate_that_the_owner_names_is_reserved_and_billed(
    rig: Rig, dialect: str, asked: dict[str, Any], reply: dict[str, Any], cost: float
):
    answer = await rig.ask("PUT", "/api/v1/prices", OWN)
    assert answer.status == 200, answer.body
    assert (await rig.ask("GET", "/api/v1/prices")).json() == OWN
    await rig.add_provider_key()
    await _budget(rig, day_usd=100)
    path, body = _request(dialect, False, "m")
    rig.standin.scripted = _played(reply)
    answer = await rig.ask("POST", path, body | asked)
    assert answer.status == 200, answer.body
    record = (await rig.records())[-1]
    assert record["cost_usd"] == pytest.approx(cost)
    assert record["reserved_usd"] >= cost


@pytest.mark.parametrize(
    ("rates", "place"),
    [
        ({"smell": 1}, "m.smell"),
        ({"service_tiers": 3}, "m.service_tiers"),
        ({"service_tiers": {str(n): {} for n in range(MOST_TIERS + 1)}}, "m.service_tiers"),
        ({"service_tiers": {"default": {"input": 1}}}, "m.service_tiers.default"),
        ({"service_tiers": {"fast": 1}}, "m.service_tiers.fast"),
        ({"service_tiers": {"fast": {"smell": 1}}}, "m.service_tiers.fast.smell"),
        ({"service_tiers": {"fast": {"input": -1}}}, "m.service_tiers.fast.input"),
        (
            {"service_tiers": {"fast": {"service_tiers": {}}}},
            "m.service_tiers.fast.service_tiers",
        ),
    ],
)
async def test_rates_that_are_none_are_refused_by_their_place(
    rig: Rig, rates: dict[str, Any], place: str
):
    answer = await rig.ask("PUT", "/api/v1/prices", {"m": rates})
    assert answer.status in (400, 422), answer.body
    assert f'"{place}"' in answer.body.decode()
    every = {"m": dict.fromkeys(ALL_UNITS, 1)}
    assert (await rig.ask("PUT", "/api/v1/prices", every)).status == 200
