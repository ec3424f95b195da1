"""What a reply may claim about its usage, and what of it is believed."""

import json
from typing import Any

import msgspec
import pytest

from xairouter.dialects import openai
from xairouter.dialects.interface import MOST_TOKENS, Tally


def test_numbers_and_names_beyond_reason_are_not_believed():
    tally = Tally()
    tally.add_usage(
        {
            "prompt_tokens": MOST_TOKENS + 1,
            "completion_tokens": 10**30,
            "total_tokens": -1,
            "n" * 10_000: 5,
            "details": {"audio": 10**25, "text": 7},
        }
    )
    assert tally.count("prompt_tokens") is None
    assert tally.count("completion_tokens") is None
    assert tally.count("total_tokens") is None
    detail = tally.detail(frozenset())
    assert detail["details.text"] == 7
    assert max(len(name) for name in detail) < 200
    msgspec.msgpack.encode(dict(detail))


def test_the_largest_count_that_is_believed_is_counted():
    tally = Tally()
    tally.add_usage({"prompt_tokens": MOST_TOKENS, "completion_tokens": 3.0})
    assert tally.count("prompt_tokens") == MOST_TOKENS
    assert tally.count("completion_tokens") == 3


@pytest.mark.parametrize(
    ("beside", "output", "has_total"),
    [
        # Gemini's OpenAI endpoint: thoughts stand in the total alone.
        ({"total_tokens": 38}, 32, False),
        # xAI: reasoning beside the completion.
        ({"total_tokens": 38, "completion_tokens_details": {"reasoning_tokens": 28}}, 32, False),
        # OpenAI: a part of it.
        ({"total_tokens": 10, "completion_tokens_details": {"reasoning_tokens": 3}}, 4, False),
        # Thoughts of which one field tells a part.
        ({"total_tokens": 38, "completion_tokens_details": {"reasoning_tokens": 20}}, 32, False),
        # As many as another sum says by chance.
        ({"total_tokens": 16}, 10, False),
        # Mistral: the input in sound; and a total that counts the cache twice.
        ({"total_tokens": 38, "prompt_tokens_details": {"audio_tokens": 28}}, 4, True),
        ({"total_tokens": 12, "prompt_tokens_details": {"cached_tokens": 2}}, 4, True),
        ({"total_tokens": 9}, 4, True),
        ({"total_tokens": None}, 4, False),
        ({}, 4, False),
    ],
)
@pytest.mark.parametrize("given", [("prompt", "completion"), ("input", "output")])
def test_output_that_stands_in_the_total_alone_is_counted(
    beside: dict[str, Any], output: int, has_total: bool, given: tuple[str, str]
):
    tally = Tally()
    tally.add_usage({f"{given[0]}_tokens": 6, f"{given[1]}_tokens": 4, **beside})
    usage = openai.total(tally)
    assert (usage.input_tokens, usage.output_tokens) == (6, output)
    assert ("total_tokens" in usage.detail) is has_total


@pytest.mark.parametrize(
    ("document", "is_over", "is_final"),
    [
        ({"object": "response", "status": "completed"}, True, True),
        ({"object": "response", "status": "incomplete"}, True, True),
        ({"object": "response", "status": "cancelled"}, True, True),
        ({"object": "response", "status": "queued"}, False, False),
        ({"object": "response", "status": "in_progress"}, False, False),
        ({"status": "in_progress"}, False, False),
        ({"object": "response", "status": ["completed"]}, None, False),
        ({"object": "response", "status": {"x": 1}}, None, False),
        ({"object": "response"}, None, False),
        ({"object": "chat.completion", "status": [], "choices": []}, None, True),
    ],
)
def test_the_usage_of_a_response_that_still_runs_is_not_final(
    document: dict[str, Any], is_over: bool | None, is_final: bool
):
    used = {"input_tokens": 1, "output_tokens": 2}
    alone, inside = Tally(), Tally()
    openai.absorb(alone, json.dumps({"usage": used, **document}).encode())
    assert (alone.is_over, alone.is_final) == (is_over, is_final)
    openai.absorb(inside, json.dumps({"response": {"usage": used, **document}}).encode())
    assert (inside.is_over, inside.is_final) == (is_over, is_over is True)
