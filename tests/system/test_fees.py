"""What a request asks for besides tokens, or of several models, is reserved, and counts unless the reply
says otherwise."""

from typing import Any

import pytest

from tests.rig import Rig
from tests.system.test_money import _budget, _everything_agrees, _request, _used
from tests.system.test_price_words import _chat, _gemini, _message, _played, _response
from xairouter.dialects.condense import SMALL

CHEAP = {"input": 1000, "output": 2000, "web_searches": 10_000}
PRICES = dict.fromkeys(("m", "m-search-preview", "m:online"), CHEAP) | {
    "dear": {"input": 100_000, "output": 200_000}
}
OWN = 0.05
"""US dollars for the tokens that each reply states, at the rates of ``m``; a search is 10."""
SEARCH, DEAR = 10, 100


@pytest.fixture
async def ready(rig: Rig) -> Rig:
    answer = await rig.ask("PUT", "/api/v1/prices", PRICES)
    assert answer.status == 200, answer.body
    await rig.add_provider_key()
    await _budget(rig, day_usd=10_000, total_usd=10_000)
    return rig


async def _call(rig: Rig, dialect: str, reply: dict[str, Any], **asked: Any) -> dict[str, Any]:
    path, body = _request(dialect, False, asked.pop("model", "m"))
    rig.standin.scripted = _played(reply)
    answer = await rig.ask("POST", path, body | asked)
    assert answer.status == 200, answer.body
    call_id = answer.headers["x-xairouter-call-id"]
    [found] = [one for one in await rig.records() if one["call_id"] == call_id]
    return dict(found)


async def test_several_named_models_are_reserved_at_the_dearest_and_settled_at_the_one_that_served(
    ready: Rig,
):
    alone = await _call(ready, "openai_chat", _chat("default"), model="dear")
    assert alone["cost_usd"] == pytest.approx(OWN * DEAR)
    counted = OWN * DEAR
    for served, times in (("dear", DEAR), ("m", 1), ("nobody-knows", None)):
        reply = _chat("default") | {"model": served}
        one = await _call(ready, "openai_chat", reply, models=["m", "dear"])
        assert one["reserved_usd"] == pytest.approx(alone["reserved_usd"], rel=0.01)
        cost = None if times is None else pytest.approx(OWN * times)
        assert (one["cost_usd"], one["model_used"]) == (cost, "m")
        counted += one["reserved_usd"] if times is None else OWN * times
        used = await _used(ready)
        assert used["day"] == pytest.approx(counted)
    await _everything_agrees(ready, used)
    path, body = _request("openai_chat", False, "m")
    answer = await ready.ask("POST", path, body | {"models": ["m", "nobody-knows"]})
    assert (answer.status, answer.code) == (403, "model_unpriced")
    answer = await ready.ask(
        "POST", "/api/v1/explain", {"path": path, "body": body | {"models": ["x"]}}
    )
    assert "model_unpriced" in str(answer.json())


_USES = {"server_side_tool_usage_details": {"web_search_calls": 1, "x_search_calls": 2}}
_SEARCH: dict[str, Any] = {"tools": [{"type": "web_search"}]}
_LARGE = {"instructions": "x" * (SMALL + 1)}
_GOOGLE: dict[str, Any] = {"tools": [{"googleSearch": {}}]}


@pytest.mark.parametrize(
    ("dialect", "asked", "reply", "cost", "counted"),
    [
        # A provider's own cost counts where it is the higher one; what a record shows is ours.
        ("openai_chat", {}, _chat("default", cost=7.5), OWN, 7.5),
        ("openai_chat", {}, _chat("default", cost=0.01), OWN, OWN),
        ("openai_chat", {}, _chat("default", cost_in_usd_ticks=75 * 10**9), OWN, 7.5),
        # Searches that no statement tells of.
        ("openai_chat", {"web_search_options": {}}, _chat("default"), OWN, OWN + SEARCH),
        ("openai_chat", {"model": "m-search-preview"}, _chat("default"), OWN, OWN + SEARCH),
        ("openai_chat", {"model": "m:online"}, _chat("default"), OWN, OWN + 10 * SEARCH),
        ("openai_chat", {"model": "m:online"}, _chat("default", cost=20), OWN, 20),
        # Searches by each provider's name, none among them.
        ("openai_chat", {"search_parameters": {}}, _chat("default", num_sources_used=0), OWN, OWN),
        *(
            ("openai_chat", {"search_parameters": {}}, _chat("default", **use), cost, cost)
            for use, cost in (
                ({"num_sources_used": 2}, OWN + 2 * SEARCH),
                (_USES, OWN + 3 * SEARCH),
            )
        ),
        ("anthropic_messages", {"tools": [{"type": "web_search_20250305"}]}, _message(), OWN, OWN),
        ("gemini_generate", _GOOGLE, _gemini(), OWN, OWN),
        ("openai_responses", _SEARCH, _response("default"), OWN, OWN),
        ("openai_responses", _SEARCH, _response("default") | _LARGE, OWN, OWN),
        # A large reply that does not show what was used.
        ("openai_responses", _SEARCH, _response("default") | _LARGE | {"output": None}, OWN, None),
    ],
)
async def test_what_counts_is_no_less_than_what_the_reply_leaves_open(
    ready: Rig,
    dialect: str,
    asked: dict[str, Any],
    reply: dict[str, Any],
    cost: float,
    counted: float | None,
):
    record = await _call(ready, dialect, reply, **asked)
    assert (record["usage_source"], record["cost_usd"]) == ("reported", pytest.approx(cost))
    used = await _used(ready)
    assert used["day"] == pytest.approx(record["reserved_usd"] if counted is None else counted)
