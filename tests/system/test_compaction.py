"""A compaction of Anthropic's is one more sampling, which is billed, and which limits and budgets see."""

from typing import Any

import pytest

from tests.rig import Rig
from xairouter.standin import replies
from xairouter.standin.faults import Reply

PRICES = {"*": {"input": 1000, "output": 2000}}
ASKED = {
    "model": "m",
    "max_tokens": 300,
    "messages": [{"role": "user", "content": "one two three"}],
}
COMPACTED = {"context_management": {"edits": [{"type": "compact_20260112"}]}}
ITERATIONS = [
    {"type": "compaction", "input_tokens": 1000, "output_tokens": 350},
    {"type": "message", "input_tokens": 36, "output_tokens": 5},
]
OTHER = {"type": "advisor_message", "model": "dear", "input_tokens": 1, "output_tokens": 1}


@pytest.fixture
async def ready(rig: Rig) -> Rig:
    await rig.ask("PUT", "/api/v1/prices", PRICES)
    await rig.add_provider_key()
    rules = {"budget": {"day_usd": 100}}
    await rig.ask("PUT", f"/api/v1/accounts/{rig.owner_id}/rules", rules)
    return rig


def _reply(iterations: list[dict[str, Any]], streams: bool) -> Reply:
    usage = {"input_tokens": 36, "output_tokens": 5, "iterations": iterations}
    message = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": []}
    if not streams:
        return replies.whole({**message, "usage": usage})
    begun = {**message, "usage": {"input_tokens": 36, "output_tokens": 1}}
    events = [
        {"type": "message_start", "message": begun},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
        {"type": "message_stop"},
    ]
    return Reply(200, (("content-type", "text/event-stream"),), events=replies.named_events(events))


@pytest.mark.parametrize("streams", [False, True])
async def test_a_compaction_counts_in_full(ready: Rig, streams: bool):
    ready.standin.scripted = _reply(ITERATIONS, streams)
    await ready.ask("POST", "/v1/messages", {**ASKED, **COMPACTED, "stream": streams})
    (record,) = await ready.records(expect=1)
    assert (record["input_tokens"], record["output_tokens"]) == (1036, 355)
    assert record["cost_usd"] == pytest.approx(1.036 + 0.71)


@pytest.mark.parametrize("streams", [False, True])
async def test_where_another_model_took_part_the_cost_is_unknown_and_what_was_reserved_counts(
    ready: Rig, streams: bool
):
    ready.standin.scripted = _reply([ITERATIONS[1], OTHER], streams)
    await ready.ask("POST", "/v1/messages", {**ASKED, "stream": streams})
    (record,) = await ready.records(expect=1)
    assert record["cost_usd"] is None
    (budget,) = (await ready.ask("GET", "/api/v1/me")).json()["budgets"]
    assert budget["used_usd"] == pytest.approx(record["reserved_usd"])
    assert budget["used_usd"] > 0.6


async def test_a_compaction_reserves_its_output_too(ready: Rig):
    for more in ({}, COMPACTED):
        await ready.ask("POST", "/v1/messages", {**ASKED, **more})
    plain, twice = sorted(record["reserved_usd"] for record in await ready.records(expect=2))
    assert twice - plain == pytest.approx(0.6, abs=0.05)


@pytest.mark.parametrize(
    "usage",
    [
        {"completion_tokens": 5},
        {"prompt_tokens": None, "completion_tokens": 5},
        {"prompt_tokens": 5},
    ],
)
async def test_a_statement_of_one_side_is_not_final(ready: Rig, usage: dict[str, Any]):
    ready.standin.scripted = replies.whole({"id": "c", "choices": [], "usage": usage})
    assert (await ready.chat("m", max_tokens=300)).status == 200
    (record,) = await ready.records(expect=1)
    (budget,) = (await ready.ask("GET", "/api/v1/me")).json()["budgets"]
    assert record["usage_source"] == "estimated"
    assert budget["used_usd"] == pytest.approx(record["reserved_usd"])


async def test_a_statement_on_the_way_is_not_final(ready: Rig):
    usage = {"input_tokens": 36, "output_tokens": 1}
    message = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": []}
    events = [
        {"type": "message_start", "message": {**message, "usage": usage}},
        {"type": "message_delta", "delta": {"stop_reason": None}, "usage": usage},
    ]
    sent = replies.named_events(events)
    ready.standin.scripted = Reply(200, (("content-type", "text/event-stream"),), events=sent)
    await ready.ask("POST", "/v1/messages", {**ASKED, "stream": True})
    (record,) = await ready.records(expect=1)
    assert record["usage_source"] == "estimated"
    [used] = await ready.sql("SELECT counted_tokens FROM usage_records")
    assert used[0] >= 300, "what was reserved"
