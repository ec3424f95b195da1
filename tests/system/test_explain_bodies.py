"""Explain, given the request's own body, and a rehearsal say of its cost what a call says."""

from typing import Any

import pytest

from tests.rig import Rig
from tests.system.test_money import _budget
from tests.system.test_price_words import _chat, _message, _played

PRICES = {"*": {"input": 1000, "output": 2000}}
SAID = [{"role": "user", "content": "one two three"}]
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@pytest.fixture
async def ready(rig: Rig) -> Rig:
    await rig.ask("PUT", "/api/v1/prices", PRICES)
    await rig.add_provider_key()
    return rig


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (CHAT, {"max_tokens": 100}),
        (CHAT, {"max_tokens": 100, "n": 4}),
        (CHAT, {"max_tokens": 100, "n": 50}),
        (CHAT, {}),
        (COMPLETIONS, {"prompt": "x", "max_tokens": 100}),
        (COMPLETIONS, {"prompt": ["x"] * 50, "max_tokens": 100}),
        (COMPLETIONS, {"prompt": [1] * 5000, "max_tokens": 1}),
        (COMPLETIONS, {"prompt": [[1], "x"], "max_tokens": 1}),
        (CHAT, {"service_tier": "priority"}),
        (CHAT, {"service_tier": "flex", "max_tokens": 1}),
        (CHAT, {"speed": "fast"}),
        (CHAT, {"modalities": ["audio"]}),
        (CHAT, {"num_beams": 4}),
        (CHAT, {"tools": [{"type": "namespace", "tools": [{"type": "web_search"}]}]}),
        (CHAT, {"tools": [{"type": "function", "function": {"name": "f"}}], "max_tokens": 1}),
        (CHAT, {"model": "gpt-4o-search-preview", "max_tokens": 1}),
        (CHAT, {"max_tokens": -1}),
        ("/v1/embeddings", {"input": [1] * 5000}),
        ("/v1beta/models/m:generateContent", {"generationConfig": {"candidateCount": 8}}),
        (
            "/v1beta/models/m:generateContent",
            {"generationConfig": {"responseModalities": ["IMAGE"]}},
        ),
    ],
)
async def test_the_verdict_on_a_body_is_the_call_s(ready: Rig, path: str, fields: dict[str, Any]):
    rules = {"budget": {"day_usd": 2}, "max_output_tokens": 200}
    await ready.ask("PUT", f"/api/v1/accounts/{ready.owner_id}/rules", rules)
    if "generateContent" in path:
        body = {"contents": [{"role": "user", "parts": [{"text": "x"}]}], **fields}
    else:
        body = {"model": "m", "messages": SAID, **fields}
    told = (await ready.ask("POST", "/api/v1/explain", {"path": path, "body": body})).json()
    answer = await ready.ask("POST", path, body)
    given = answer.json() if answer.status != 200 else {}
    details = given.get("error", {}).get("details") if given else None
    code = None if answer.status == 200 else details[0]["reason"] if details else answer.code
    assert told["code"] == code, told["rules"]
    assert told["allowed"] == (answer.status == 200)


async def test_a_call_that_was_made_is_explained_by_what_was_reserved_for_it(ready: Rig):
    await _budget(ready, day_usd=5)
    body = {"model": "m", "messages": SAID, "max_tokens": 100, "n": 8}
    assert (await ready.ask("POST", CHAT, body)).status == 200
    record = (await ready.records())[-1]
    assert record["reserved_usd"] > 1.6
    await _budget(ready, day_usd=1)
    told = (await ready.ask("POST", "/api/v1/explain", {"call_id": record["call_id"]})).json()
    assert (told["allowed"], told["code"]) == (False, "budget_exhausted")


async def test_a_rehearsal_counts_what_calls_counted_for_and_knows_words(rig: Rig):
    """A call of unknown cost counts as reserved, and would be refused where it asked for that."""
    await rig.add_provider_key(provider="openai", endpoints=rig.endpoints("openai_chat"))
    await _budget(rig, day_usd=1000)
    for tier in ("default", "scale"):
        rig.standin.scripted = _played(_chat(tier))
        answer = await rig.chat("gpt-4o", max_tokens=1000)
        assert answer.status == 200, answer.body
    unknown, known = await rig.records(expect=2)
    assert unknown["cost_usd"] is None
    place = f"/api/v1/accounts/{rig.owner_id}/rules?dry_run=true&days=2"
    told = (await rig.ask("PUT", place, {"budget": {"day_usd": 1000}})).json()["rehearsal"]
    assert told["refused"]["by_code"] == {"model_unpriced": 1}
    told = (await rig.ask("PUT", place, {"limits": {"tpd": 1500}})).json()["rehearsal"]
    assert told["refused"]["by_code"] == {}
    room = known["reserved_usd"] * 0.9
    told = (await rig.ask("PUT", place, {"budget": {"day_usd": room}})).json()["rehearsal"]
    assert told["refused"]["by_code"] == {"budget_exhausted": 1, "model_unpriced": 1}


async def test_a_rehearsal_prices_other_routes_by_the_words_of_the_reply(rig: Rig):
    await rig.add_provider_key(
        provider="anthropic",
        endpoints=rig.endpoints("anthropic_messages"),
        models=["claude-opus-5", "claude-opus-4-8", "claude-haiku-4-5"],
    )
    rig.standin.scripted = _played(_message(speed="fast", inference_geo="us"))
    body = {"model": "claude-opus-5", "max_tokens": 9, "messages": SAID}
    assert (await rig.ask("POST", "/v1/messages", body)).status == 200
    await rig.records(expect=1)
    place = f"/api/v1/accounts/{rig.owner_id}/rules?dry_run=true&days=2"
    for model, unpriced in (("claude-opus-4-8", 0), ("claude-haiku-4-5", 1)):
        rules = {"model_map": {"claude-opus-5": model}}
        answer = await rig.ask("PUT", place, rules)
        assert answer.status == 200, answer.body
        assert answer.json()["rehearsal"]["rerouted"]["unpriced"] == unpriced
