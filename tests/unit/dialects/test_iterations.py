"""Anthropic's ``usage.iterations``: what is billed is their sum, not what stands beside them."""

from typing import Any

import msgspec
import pytest

from xairouter.dialects.anthropic_messages import ANTHROPIC_MESSAGES, MOST_ITERATIONS
from xairouter.dialects.meter import Meter
from xairouter.dialects.multipliers import multipliers_of
from xairouter.domain.calls import Multipliers, Usage

COMPACTION = {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3500}
MESSAGE = {"type": "message", "input_tokens": 3600, "output_tokens": 5}


def _of(usage: dict[str, Any], streams: bool) -> Usage:
    if not streams:
        meter = Meter(ANTHROPIC_MESSAGES, "application/json", "")
        document = {"type": "message", "id": "m", "model": "haiku", "usage": usage}
        meter.feed(msgspec.json.encode(document))
        return meter.finish()
    meter = Meter(ANTHROPIC_MESSAGES, "text/event-stream", "")
    started = {"id": "m", "model": "haiku", "usage": {"input_tokens": 3600, "iterations": []}}
    for event in (
        {"type": "message_start", "message": started},
        {"type": "message_delta", "usage": usage},
        {"type": "message_stop"},
    ):
        meter.feed(b"data: " + msgspec.json.encode(event) + b"\n\n")
    return meter.finish()


@pytest.mark.parametrize("streams", [False, True])
def test_usage_is_the_sum_over_its_iterations(streams: bool):
    cached = {
        "cache_read_input_tokens": 50,
        "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_1h_input_tokens": 20, "ephemeral_5m_input_tokens": 10},
    }
    top = {"input_tokens": 3600, "output_tokens": 5, **cached}
    both = [COMPACTION | cached, MESSAGE | cached | {"model": "haiku"}]
    usage = _of({**top, "iterations": both}, streams)
    assert (usage.cached_input_tokens, usage.cache_write_tokens) == (100, 60)
    assert (usage.input_tokens, usage.output_tokens) == (183_600 + 160, 3505)
    assert usage.detail["cache_creation.ephemeral_1h_input_tokens"] == 40
    assert "other_iterations" not in usage.detail


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("none", [None, []])
def test_without_iterations_the_top_stands(none: Any, streams: bool):
    usage = _of({"input_tokens": 3600, "output_tokens": 5, "iterations": none}, streams)
    assert (usage.input_tokens, usage.output_tokens, usage.detail) == (3600, 5, {})


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    "other",
    [
        MESSAGE | {"type": "advisor_message", "model": "opus"},
        MESSAGE | {"type": "fallback_message"},
        MESSAGE | {"model": "opus"},
        {"type": "compaction", "input_tokens": 5},
        {"type": "compaction", "input_tokens": "5", "output_tokens": 1},
        None,
    ],
)
def test_an_iteration_at_rates_that_are_not_known_is_told(other: Any, streams: bool):
    usage = _of({"input_tokens": 3600, "output_tokens": 5, "iterations": [MESSAGE, other]}, streams)
    assert usage.detail["other_iterations"] == 1
    assert (usage.input_tokens or 0) >= 3600


@pytest.mark.parametrize("streams", [False, True])
def test_so_many_iterations_are_looked_at_and_the_rest_is_unknown(streams: bool):
    small = {"type": "message", "input_tokens": 1, "output_tokens": 1}
    usage = _of({"input_tokens": 1, "output_tokens": 1, "iterations": [small] * 1003}, streams)
    assert usage.output_tokens == MOST_ITERATIONS == 1000
    assert usage.detail["other_iterations"] == 3


@pytest.mark.parametrize(
    ("body", "compacts"),
    [
        (b'{"context_management": {"edits": [{"type": "compact_20260112"}]}}', True),
        (b'{"context_management": {"edits": [{"type": "c\\u006fmpact_20260112"}]}}', True),
        (b'{"context_management": [{"type": "compaction", "compact_threshold": 1}]}', True),
        (b'{"compaction": {"type": "summarize"}}', True),
        (b'{"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}', False),
        (b'{"context_management": null, "speed": "fast"}', False),
    ],
)
def test_a_request_for_a_compaction_is_known(body: bytes, compacts: bool):
    read = multipliers_of(body)
    assert isinstance(read, Multipliers)
    assert read.compacts is compacts


@pytest.mark.parametrize(
    ("later", "given"),
    [
        ({"input_tokens": 0, "output_tokens": 5}, 3600),
        ({"input_tokens": 10, "cache_read_input_tokens": 50, "output_tokens": 5}, 3600),
        ({"input_tokens": 10, "cache_read_input_tokens": 4000, "output_tokens": 5}, 4010),
        ({"output_tokens": 5}, 3600),
    ],
)
def test_the_greater_input_of_a_stream_s_beginning_and_end_counts(
    later: dict[str, int], given: int
):
    usage = _of(later, streams=True)
    assert (usage.input_tokens, usage.output_tokens) == (given, 5)
