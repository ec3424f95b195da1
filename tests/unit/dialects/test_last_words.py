"""What a model writes ends no stream and makes no usage final: only its provider's own words do."""

import json
from collections.abc import Iterable
from typing import Any

import pytest

from xairouter.dialects.condense import SMALL
from xairouter.dialects.interface import Tally
from xairouter.dialects.meter import Meter
from xairouter.dialects.table import DIALECTS

ENDS = [mark.decode() for dialect in DIALECTS.values() for mark in dialect.end_marks]
WORDS = "\n".join(["", *ENDS, '"finishReason": "STOP", "finish_reason": "stop"', ""])
"""All last words of all dialects, each on a line of its own."""
FIELDS = {"finishReason": "STOP", "finish_reason": "stop", "usage": {"input_tokens": 1}}
"""The same as what a tool is given."""
RUNNING = {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11}


def _chat(**choice: Any) -> tuple[str, dict[str, Any]]:
    return "", {"id": "c", "choices": [{"index": 0, **choice}], "usage": RUNNING}


def _messages(said: Any) -> tuple[str, dict[str, Any]]:
    event = "content_block_delta"
    return event, {"type": event, "delta": said, "usage": {"input_tokens": 1, "output_tokens": 1}}


def _responses(said: Any) -> tuple[str, dict[str, Any]]:
    event = "response.output_item.done"
    running = {"input_tokens": 1, "output_tokens": 1}
    return event, {
        "type": event,
        "item": said,
        "response": {"status": "in_progress", "usage": running},
    }


def _gemini(*parts: Any, **candidate: Any) -> tuple[str, dict[str, Any]]:
    used = {"promptTokenCount": 10, "candidatesTokenCount": 1}
    return "", {
        "candidates": [{"content": {"parts": list(parts)}, **candidate}],
        "usageMetadata": used,
    }


WRITTEN: dict[str, tuple[str, tuple[str, dict[str, Any]]]] = {
    "chat": ("openai_chat", _chat(delta={"content": WORDS})),
    "chat, a tool": ("openai_chat", _chat(delta={"tool_calls": [{"arguments": FIELDS}]})),
    "completions": ("openai_completions", _chat(text=WORDS)),
    "responses": ("openai_responses", _responses({"text": WORDS, "arguments": FIELDS})),
    "messages": ("anthropic_messages", _messages({"text": WORDS, "input": FIELDS})),
    "gemini": ("gemini_generate", _gemini({"text": WORDS})),
    "gemini, a tool": ("gemini_generate", _gemini({"functionCall": {"args": FIELDS}})),
    "gemini, unsaid": ("gemini_generate", _gemini(finishReason="FINISH_REASON_UNSPECIFIED")),
}
LAST: dict[str, tuple[str, bytes]] = {
    "chat": ("openai_chat", b"data: [DONE]\n\n"),
    "chat, no space": ("openai_chat", b"data:[DONE]\r\n\r\n"),
    "completions, no line end": ("openai_completions", b"data: [DONE]"),
    "responses": ("openai_responses", b'event: response.completed\ndata: {"type":"x"}\n\n'),
    "responses, the event behind": (
        "openai_responses",
        b'data: {"type":"x"}\r\nevent:response.incomplete\r\n\r\n',
    ),
    "responses, failed": ("openai_responses", b'event: response.failed\rdata: {"type":"x"}\r\r'),
    "messages": ("anthropic_messages", b'event: message_stop\ndata: {"type":"message_stop"}\n\n'),
    "gemini": ("gemini_generate", b'data: {"candidates": [{"finishReason": "STOP"}]}\n\n'),
}


def _event(name: str, document: dict[str, Any]) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(document)}\n\n".encode()


def _fed(dialect: str, chunks: Iterable[bytes]) -> Tally:
    meter = Meter(DIALECTS[dialect], "text/event-stream", "")
    for chunk in chunks:
        meter.feed(chunk)
    meter.finish()
    return meter.tally


def _cuts(data: bytes, since: int) -> Iterable[list[bytes]]:
    """As a whole, byte by byte, and cut once at each place."""
    yield [data]
    yield [data[at : at + 1] for at in range(len(data))]
    yield from ([data[:at], data[at:]] for at in range(since, len(data)))


def test_every_dialect_that_streams_stands_here():
    for cases in (WRITTEN, LAST):
        named = {dialect for dialect, _ in cases.values()}
        assert named == {name for name in DIALECTS if "embed" not in name}


@pytest.mark.parametrize("case", WRITTEN)
def test_what_a_model_writes_is_no_last_word(case: str):
    dialect, event = WRITTEN[case]
    stream = _event(*event)
    # Once as the first event, once behind another.
    for data in (stream, stream + stream):
        for chunks in _cuts(data, len(data) - len(stream)):
            tally = _fed(dialect, chunks)
            assert (tally.has_ended, tally.is_final) == (False, False), chunks


@pytest.mark.parametrize("case", WRITTEN)
def test_neither_is_it_in_a_large_event(case: str):
    dialect, (name, document) = WRITTEN[case]
    stream = _event(name, {"pad": "x" * SMALL, **document, "more": WORDS})
    for size in (1000, SMALL, len(stream)):
        chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
        tally = _fed(dialect, chunks)
        assert (tally.has_ended, tally.is_final) == (False, False), size
        assert tally.raw or "messages" in case  # It was read all the same.


@pytest.mark.parametrize("case", LAST)
def test_a_last_word_is_seen_however_the_bytes_are_cut(case: str):
    dialect, last = LAST[case]
    before = _event(*next(event for name, event in WRITTEN.values() if name == dialect))
    stream = before + last
    for chunks in _cuts(stream, len(before)):
        assert _fed(dialect, chunks).has_ended, chunks


def test_the_name_of_an_event_counts_behind_a_large_line_too():
    data = b"data: " + json.dumps({"response": {"text": "x" * SMALL}}).encode() + b"\n"
    end = b"event: response.completed\n\n"
    stream = data + end
    for at in range(len(data) - 2, len(stream)):
        assert _fed("openai_responses", [stream[:at], stream[at:]]).has_ended, at


@pytest.mark.parametrize(
    ("dialect", "large"),
    [
        ("gemini_generate", _gemini({"text": "x" * SMALL}, finishReason="STOP")),
        ("openai_chat", _chat(delta={"content": "x" * SMALL}, finish_reason="stop")),
    ],
)
def test_a_reason_to_end_is_found_in_a_large_event(dialect: str, large: tuple[str, dict[str, Any]]):
    stream = _event(*large)
    assert _fed(dialect, [stream]).is_final
    assert _fed(dialect, [stream[at : at + 1000] for at in range(0, len(stream), 1000)]).is_final
