"""What a provider bills besides tokens is counted in replies of every size and form."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.rows import for_each
from xairouter.dialects.condense import MOST_LISTED, SMALL
from xairouter.dialects.meter import Meter
from xairouter.dialects.table import DIALECTS

STREAM = "text/event-stream"
FORMS = ("application/json", STREAM)
SIZES = {"small": "", "large": "x" * (SMALL + 1)}
KINDS = ("web_search_call", "image_generation_call")


def _detail(dialect: str, form: str, data: bytes, cut: int = 1 << 30) -> Mapping[str, object]:
    meter = Meter(DIALECTS[dialect], form, "")
    for at in range(0, len(data), cut):
        meter.feed(data[at : at + cut])
    usage = meter.finish()
    assert usage.is_whole
    assert (meter.tally.unreadable, meter.tally.is_final) == (0, True)
    return usage.detail


def _response(form: str, output: list[Any], **fields: object) -> bytes:
    made = {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        **fields,
        "output": output,
        "usage": {"input_tokens": 7, "output_tokens": 9},
    }
    if form != STREAM:
        return json.dumps(made).encode()
    last = json.dumps({"type": "response.completed", "response": made})
    return f"event: response.completed\ndata: {last}\n\n".encode()


@pytest.mark.parametrize("form", FORMS)
@for_each("number", [1, MOST_LISTED // 2, MOST_LISTED])
@for_each("size", SIZES)
def test_every_use_of_a_tool_in_a_response_is_counted(form: str, size: str, number: int):
    # What the provider echoes, and what stands in the items, makes a reply large.
    said = {"type": "message", "content": [{"type": "output_text", "text": '"type":"x_call"'}]}
    used = [
        {"id": f"{kind}{one}", "action": {"sources": [{"type": "url"}]}, "type": kind}
        for kind in KINDS
        for one in range(number)
    ]
    made = _response(form, [said, *used, said], instructions=SIZES[size])
    assert _detail("openai_responses", form, made) == {f"{kind}s": number for kind in KINDS}


@pytest.mark.parametrize("form", FORMS)
@for_each("cut", [1000, 1 << 30])
def test_a_picture_that_makes_its_response_large_is_counted(form: str, cut: int):
    picture = {"type": "image_generation_call", "id": "ig_1", "result": SIZES["large"]}
    made = _response(form, [picture, picture])
    assert _detail("openai_responses", form, made, cut) == {"image_generation_calls": 2}


def _generated(form: str, text: str) -> Iterator[bytes]:
    grounded = {
        "searchEntryPoint": {"renderedContent": "<a>"},
        "webSearchQueries": ["a", 'b"', "c"],
    }
    candidate = {
        "content": {"parts": [{"text": text}], "role": "model"},
        "groundingMetadata": grounded,
        "finishReason": "STOP",
    }
    last = {
        "candidates": [candidate, {**candidate, "groundingMetadata": {"webSearchQueries": ["d"]}}],
        "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 9},
    }
    if form == STREAM:
        yield b"data: " + json.dumps(last).encode() + b"\n\n"
    else:
        yield json.dumps(last).encode()
        yield json.dumps([{"candidates": []}, last]).encode()


@pytest.mark.parametrize("form", FORMS)
@for_each("size", SIZES)
@for_each("cut", [1000, 1 << 30])
def test_every_search_of_gemini_is_counted(form: str, cut: int, size: str):
    for made in _generated(form, SIZES[size]):
        assert _detail("gemini_generate", form, made, cut) == {"web_search_calls": 4}
