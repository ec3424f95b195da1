"""What is booked under a budget is no less than a provider bills: for replies served at other rates than
the standard ones, and for requests with whatever multiplies their cost."""

from typing import Any

import pytest

from tests.rig import Rig
from tests.system.test_money import _budget, _everything_agrees, _request, _used
from xairouter.standin import replies
from xairouter.standin.faults import Reply

PRICES = {"*": {"input": 1000, "output": 2000}}
GIVEN, MADE = 10, 20
"""Tokens that each reply states: 0.05 USD at the standard rates."""
_SAID = {"role": "assistant", "content": "yes"}


def _chat(tier: str, **usage: Any) -> dict[str, Any]:
    used = {"prompt_tokens": GIVEN, "completion_tokens": MADE, "total_tokens": GIVEN + MADE}
    choices = [{"index": 0, "message": _SAID, "finish_reason": "stop"}]
    whole = {"id": "c", "object": "chat.completion", "choices": choices, "usage": used | usage}
    return whole | {"service_tier": tier}


def _chat_stream(tier: str) -> tuple[bytes, ...]:
    chunk = {"id": "c", "object": "chat.completion.chunk", "service_tier": tier, "usage": None}
    delta = [{"index": 0, "delta": _SAID, "finish_reason": "stop"}]
    last = chunk | {"choices": [], "usage": _chat(tier)["usage"]}
    return replies.data_events([chunk | {"choices": delta}, last], done=True)


def _response(tier: str, *items: str) -> dict[str, Any]:
    used = {"input_tokens": GIVEN, "output_tokens": MADE, "total_tokens": GIVEN + MADE}
    output = [{"type": item, "id": f"i_{at}"} for at, item in enumerate(items)]
    whole = {"id": "r", "object": "response", "status": "completed", "output": output}
    return whole | {"usage": used, "service_tier": tier}


def _message(**words: str) -> dict[str, Any]:
    used = {"input_tokens": GIVEN, "output_tokens": MADE, "service_tier": "standard"}
    content = [{"type": "text", "text": "yes"}]
    whole = {"id": "m", "type": "message", "role": "assistant", "content": content}
    return whole | {"stop_reason": "end_turn", "usage": used | words}


def _message_stream(**words: str) -> tuple[bytes, ...]:
    first = _message(**words)
    delta = {"stop_reason": "end_turn"}
    return replies.named_events(
        [
            {"type": "message_start", "message": first | {"content": [], "stop_reason": None}},
            {"type": "message_delta", "delta": delta, "usage": {"output_tokens": MADE}},
            {"type": "message_stop"},
        ]
    )


def _gemini(**words: Any) -> dict[str, Any]:
    used = {"promptTokenCount": GIVEN, "candidatesTokenCount": MADE, "totalTokenCount": 30}
    said = [{"content": {"parts": [{"text": "yes"}]}, "finishReason": "STOP"}]
    return {"candidates": said, "usageMetadata": used | words}


def _played(reply: Any) -> Reply:
    if isinstance(reply, dict):
        return replies.whole(reply)
    return Reply(200, (("content-type", "text/event-stream"),), events=reply)


_IMAGE = [{"modality": "IMAGE", "tokenCount": MADE}]
UNKNOWN = {
    "chat priority": ("openai_chat", _chat("priority")),
    "chat scale": ("openai_chat", _chat("scale")),
    "chat priority stream": ("openai_chat", _chat_stream("priority")),
    "chat audio": ("openai_chat", _chat("default", completion_tokens_details={"audio_tokens": 7})),
    "chat images": ("openai_chat", _chat("default", completion_tokens_details={"image_tokens": 7})),
    "responses fast": ("openai_responses", _response("fast")),
    "responses search": ("openai_responses", _response("default", "web_search_call")),
    "responses files": ("openai_responses", _response("default", "file_search_call")),
    "responses code": ("openai_responses", _response("default", "code_interpreter_call")),
    "responses image": ("openai_responses", _response("default", "image_generation_call")),
    "messages fast": ("anthropic_messages", _message(speed="fast")),
    "messages us": ("anthropic_messages", _message(inference_geo="us")),
    "messages priority": ("anthropic_messages", _message(service_tier="priority")),
    "messages fast stream": ("anthropic_messages", _message_stream(speed="fast")),
    "messages us stream": ("anthropic_messages", _message_stream(inference_geo="us")),
    "gemini priority": ("gemini_generate", _gemini(serviceTier="priority")),
    "gemini traffic": ("gemini_generate", _gemini(trafficType="PROVISIONED_THROUGHPUT")),
    "gemini images": ("gemini_generate", _gemini(candidatesTokensDetails=_IMAGE)),
}
STANDARD = {
    "chat default": ("openai_chat", _chat("default")),
    "chat auto": ("openai_chat", _chat("auto")),
    "chat on demand": ("openai_chat", _chat("on_demand")),
    "chat stream": ("openai_chat", _chat_stream("default")),
    "responses default": ("openai_responses", _response("default", "function_call")),
    "messages standard": (
        "anthropic_messages",
        _message(speed="standard", inference_geo="not_available"),
    ),
    "messages global stream": ("anthropic_messages", _message_stream(inference_geo="global")),
    "gemini standard": (
        "gemini_generate",
        _gemini(serviceTier="standard", trafficType="ON_DEMAND"),
    ),
}


@pytest.fixture
async def ready(rig: Rig) -> Rig:
    await rig.ask("PUT", "/api/v1/prices", PRICES)
    await rig.add_provider_key()
    return rig


async def _calls(rig: Rig, dialect: str, reply: Any, count: int) -> list[int]:
    path, body = _request(dialect, not isinstance(reply, dict), "m")
    rig.standin.scripted = _played(reply)
    return [(await rig.ask("POST", path, body)).status for _ in range(count)]


@pytest.mark.parametrize("kind", UNKNOWN)
async def test_what_nobody_knows_the_rate_of_costs_null_and_counts_as_reserved(
    ready: Rig, kind: str
):
    """0.60 USD and more are reserved, so that two calls do not fit into 1.2."""
    dialect, reply = UNKNOWN[kind]
    await _budget(ready, day_usd=1.2, total_usd=1.2)
    assert await _calls(ready, dialect, reply, 2) == [200, 429]
    record = (await ready.records())[-1]
    assert (record["usage_source"], record["output_tokens"]) == ("reported", MADE)
    assert record["cost_usd"] is None
    used = await _used(ready)
    assert used["day"] == pytest.approx(record["reserved_usd"])
    assert used["day"] >= 0.6
    await _everything_agrees(ready, used)


@pytest.mark.parametrize("kind", STANDARD)
async def test_words_of_the_standard_rates_cost_the_standard(ready: Rig, kind: str):
    dialect, reply = STANDARD[kind]
    await _budget(ready, day_usd=1.2, total_usd=1.2)
    assert await _calls(ready, dialect, reply, 2) == [200, 200]
    records = await ready.records(expect=2)
    assert [one["cost_usd"] for one in records] == [pytest.approx(0.05)] * 2
    assert (await _used(ready))["day"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("words", "times"),
    [({"speed": "fast"}, 2), ({"inference_geo": "us"}, 1.1)],
)
async def test_a_word_that_the_list_knows_is_reserved_and_billed_at_its_rates(
    rig: Rig, words: dict[str, str], times: float
):
    await rig.add_provider_key(provider="anthropic", endpoints=rig.endpoints("anthropic_messages"))
    await _budget(rig, day_usd=1)
    path, body = _request("anthropic_messages", False, "claude-opus-5")
    for asked in ({}, words):
        rig.standin.scripted = _played(_message(**asked))
        answer = await rig.ask("POST", path, body | asked)
        assert answer.status == 200, answer.body
    dear, plain = await rig.records(expect=2)
    assert dear["cost_usd"] == pytest.approx(times * plain["cost_usd"])
    assert dear["reserved_usd"] == pytest.approx(times * plain["reserved_usd"], rel=0.1)
    answer = await rig.ask("POST", path, body | {"speed": "ludicrous"})
    assert (answer.status, answer.code) == (403, "model_unpriced")
    assert answer.json()["error"]["message"].count("ludicrous") == 1


BOUND = 50
"""Tokens of each answer that the rules allow."""


@pytest.mark.parametrize(
    ("path", "fields", "answers"),
    [
        ("/v1/chat/completions", {"n": 8}, 8),
        ("/v1/completions", {"prompt": "x", "best_of": 8}, 8),
        ("/v1/completions", {"prompt": ["x"] * 8}, 8),
        ("/v1/completions", {"prompt": ["x"] * 4, "n": 2}, 8),
        ("/v1/completions", {"prompt": [[1, 2]] * 8}, 8),
        ("/v1/completions", {"prompt": [1] * 8}, 1),
        ("/v1beta/models/m:generateContent", {"generationConfig": {"candidateCount": 8}}, 8),
    ],
)
async def test_the_rules_bound_on_output_is_of_each_answer_and_multiplies_the_reservation(
    ready: Rig, path: str, fields: dict[str, Any], answers: int
):
    """The provider makes as much as the bound lets it, in each answer."""
    rules = {"max_output_tokens": BOUND, "budget": {"day_usd": 100, "total_usd": 100}}
    rules["limits"] = {"tph": 10_000_000}
    await ready.ask("PUT", f"/api/v1/accounts/{ready.owner_id}/rules", rules)
    most = BOUND * answers
    if "generateContent" in path:
        reply = _gemini(candidatesTokenCount=most, totalTokenCount=GIVEN + most)
        body: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": "x"}]}]}
    else:
        reply = _chat("default", completion_tokens=most, total_tokens=GIVEN + most)
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    ready.standin.scripted = _played(reply)
    answer = await ready.ask("POST", path, body | fields)
    assert answer.status == 200, answer.body
    sent = ready.standin.requests[-1].body
    assert f":{BOUND}" in sent.decode().replace(" ", ""), "the bound went to the provider"
    record = (await ready.records())[-1]
    billed = (GIVEN * 1000 + most * 2000) / 10**6
    assert record["cost_usd"] == pytest.approx(billed)
    assert record["reserved_usd"] >= most * 2000 / 10**6
    assert record["reserved_tokens"] >= most
    used = await _used(ready)
    assert used["day"] == pytest.approx(billed)
    await _everything_agrees(ready, used)


_SEARCH = {"type": "web_search", "name": "web_search"}


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "namespace", "name": "n", "tools": [_SEARCH]}]},
        {"tools": [{"type": "function", "name": "f"}, {"type": "x_search", "name": "s"}]},
        {"modalities": ["text", "audio"]},
        {"modalities": ["image"]},
        {"speed": "fast"},
        {"inference_geo": "us"},
        {"service_tier": "priority"},
        {"prompt": {"id": "pmpt_1"}},
        {"model": "gpt-4o-search-preview"},
    ],
)
async def test_what_multiplies_a_cost_by_an_unknown_rate_is_refused_under_a_budget_alone(
    ready: Rig, fields: dict[str, Any]
):
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 5, **fields}
    assert (await ready.ask("POST", "/v1/chat/completions", body)).status == 200
    await _budget(ready, day_usd=100)
    answer = await ready.ask("POST", "/v1/chat/completions", body)
    assert (answer.status, answer.code) == (403, "model_unpriced")
    assert answer.json()["error"]["param"]


async def test_searches_inside_a_namespace_are_reserved(rig: Rig):
    await rig.add_provider_key(provider="openai", endpoints=rig.endpoints("openai_responses"))
    await _budget(rig, day_usd=100)
    inside = [{"type": "namespace", "name": "n", "tools": [{"type": "web_search"}]}]
    for tools in (inside, []):
        answer = await rig.ask(
            "POST",
            "/v1/responses",
            {"model": "gpt-4o", "input": "x", "max_output_tokens": 5, "tools": tools},
        )
        assert answer.status == 200, answer.body
    plain, searching = await rig.records(expect=2)
    assert searching["reserved_usd"] - plain["reserved_usd"] == pytest.approx(0.1, rel=0.01)


async def test_images_are_reserved_at_their_own_rate(rig: Rig):
    """30 USD a million, of text 2.50."""
    await rig.add_provider_key(provider="gemini", endpoints=rig.endpoints("gemini_generate"))
    await _budget(rig, day_usd=100)
    path, body = _request("gemini_generate", False, "gemini-2.5-flash-image")
    body["generationConfig"] = {"maxOutputTokens": 1300, "responseModalities": ["TEXT", "IMAGE"]}
    details = [{"modality": "IMAGE", "tokenCount": 1290}]
    used = {"candidatesTokenCount": 1300, "candidatesTokensDetails": details}
    rig.standin.scripted = _played(_gemini(**used))
    answer = await rig.ask("POST", path, body)
    assert answer.status == 200, answer.body
    record = (await rig.records())[-1]
    assert 0.0387 < record["cost_usd"] <= record["reserved_usd"]
    path, body = _request("gemini_generate", False, "gemini-2.5-flash")
    body["generationConfig"]["responseModalities"] = ["IMAGE"]
    answer = await rig.ask("POST", path, body)
    assert answer.json()["error"]["details"][0]["reason"] == "model_unpriced"


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/embeddings"])
async def test_each_token_that_is_given_as_a_number_is_reserved(ready: Rig, path: str):
    await _budget(ready, day_usd=9.9)
    field = "input" if path.endswith("embeddings") else "prompt"
    body = {"model": "m", field: [1] * 10_000, "max_tokens": 1}
    answer = await ready.ask("POST", path, body)
    assert (answer.status, answer.code) == (429, "budget_exhausted")
