"""Work is proportional to what comes in: every reader, every form, every size and cut.

Counted, not timed: bytecodes of our code, and bytes offered to patterns and parsers. For each input
the work may not exceed so much a byte and so much a piece, whatever the size: that is the line that
nothing may leave.
"""

import gzip
from collections.abc import Callable

import pytest

from tests.work_counting import Work, count_in, counted
from xairouter.dialects import (
    anthropic_messages,
    condense,
    conversation,
    gemini_generate,
    meter,
    openai,
    peek,
    sse,
    stripping,
    tokens,
)
from xairouter.dialects.condense import Condenser
from xairouter.dialects.conversation import conversation_of
from xairouter.dialects.inflate import Inflater, TooDenseError, unfold
from xairouter.dialects.look import look_over
from xairouter.dialects.meter import Meter
from xairouter.dialects.paths import find
from xairouter.dialects.stripping import UsageStripper
from xairouter.dialects.table import DIALECTS
from xairouter.dialects.tokens import first_items
from xairouter.domain.calls import Refusal
from xairouter.domain.steps import at_once

MODULES = [
    anthropic_messages,
    condense,
    conversation,
    gemini_generate,
    meter,
    openai,
    peek,
    sse,
    stripping,
    tokens,
]
MOST_STEPS_A_BYTE = 40
MOST_STEPS_A_PIECE = 600
MOST_STEPS_A_CALL = 5000
MOST_LOOKS_A_BYTE = 12
"""How often a byte may be offered to a pattern or parser, a few more bytes a piece aside."""
MOST_LOOKS_A_PIECE = 60

# What one repeats to make a hostile input of any size: (what comes before, the part, what follows).
FORMS: dict[str, tuple[bytes, bytes, bytes]] = {
    "a long string": (b'["', b"A", b'"]'),
    "a long string of escapes": (b'["', b'\\"', b'"]'),
    "a long string of backslashes": (b'{"a":"', b"\\\\", b'"}'),
    "many empty lists": (b"[", b"[],", b"0]"),
    "many empty objects": (b"[", b"{},", b"{}]"),
    "many lists in a field": (b'{"a":[', b"[],", b"0]}"),
    "many strings": (b'{"a":[', b'"",', b'""]}'),
    "many numbers": (b'{"a":[', b"0.25,", b"0]}"),
    "many brackets": (b'{"a":', b"[", b"0"),
    "many closing brackets": (b'{"a":[', b"]", b"0"),
    "objects in objects": (b"", b'{"a":', b"0"),
    "objects with strings in lists": (b'{"a":[', b'[{"b":["c"]}],', b"0]}"),
    "many fields": (b'{"z":0', b',"a":1', b"}"),
    "a field again and again": (b'{"z":0', b',"usage":{"prompt_tokens":1}', b"}"),
    "many elements": (b"[", b'{"":0},', b"{}]"),
    "elements with usage": (b"[", b'{"usageMetadata":{"promptTokenCount":1}},', b"{}]"),
    "long usage": (b'{"usage":{"z":0', b',"ab":1', b"}}"),
    "a large field that is wanted": (b'{"id":"', b"x", b'"}'),
    "spaces": (b"", b" ", b"{}"),
    "commas": (b"[", b",", b"]"),
    "quotes": (b"", b'"', b""),
    "no JSON": (b"{", b"x\\", b""),
    "empty events": (b"data: {}\n\n", b"\n\n", b""),
    "small events": (b"data: {}\n\n", b"a\n\n", b""),
    "events of usage": (b"", b'data:{"usage":{}}\n\n', b"data: [DONE]\n\n"),
    "events without data": (b"", b"event: usage\r\n\r\n", b""),
    "carriage returns": (b"data:{}\r\r", b"\r", b"\r"),
    "lines in one event": (b"data: {}\n\n", b"a\n", b"\n"),
    "data lines in one event": (b'data: {"usage":{}}\n', b"data:\n", b"\n"),
    "an event without end": (b'data: {"usage":"', b"data: ", b""),
    "object ids": (b'{"model":"m","a":[', b'{"file_id":"f"},', b"0]}"),
    "escaped letters": (b'{"model":"m","file_id":"', b"\\u0041", b'"}'),
    "batch": (b'{"requests":[', b"{},", b"{}]}"),
    "messages": (b'{"model":"m","messages":[', b"0,", b"0]}"),
    "beginnings": (b'{"model":"m","system":[', b"{},", b'{}],"messages":[{"a":[1]}]}'),
}


def of_size(form: str, size: int) -> bytes:
    before, part, after = FORMS[form]
    return before + part * max(1, (size - len(before) - len(after)) // len(part)) + after


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def _metered(dialect: str, content_type: str) -> Callable[[list[bytes]], object]:
    def act(parts: list[bytes]) -> object:
        read = Meter(DIALECTS[dialect], content_type, "")
        for part in parts:
            read.feed(part)
        return read.finish()

    return act


def _stripped(parts: list[bytes]) -> object:
    stripper = UsageStripper()
    passed = [stripper.feed(part) for part in parts]
    return b"".join(passed) + stripper.finish()


def _inflated(parts: list[bytes]) -> object:
    inflater = Inflater()
    packed = gzip.compress(b"".join(parts))
    size = max(1, len(packed) // len(parts))
    try:
        return [len(block) for part in pieces(packed, size) for block in unfold(inflater, part)]
    except TooDenseError:
        return None


def _condensed(parts: list[bytes]) -> object:
    found: list[bytes] = []
    reader = Condenser(found.append, frozenset({"id"}), within="data")
    for part in parts:
        reader.feed(part)
    reader.close()
    return found


def _peeked(dialect: str, path: bytes) -> Callable[[list[bytes]], object]:
    match = find("POST", path)
    assert match is not None

    def act(parts: list[bytes]) -> object:
        body = b"".join(parts)
        look = at_once(look_over(match, body))
        return None if isinstance(look, Refusal) else DIALECTS[dialect].peek(match, body, look)

    return act


STREAMED = {
    "JSON reply": _metered("openai_chat", "application/json"),
    "array reply": _metered("gemini_generate", "application/json"),
    "stream of chat": _metered("openai_chat", "text/event-stream"),
    "stream of messages": _metered("anthropic_messages", "text/event-stream"),
    "usage stripper": _stripped,
    "list of models": _condensed,
}
WHOLE = {
    "chat request": _peeked("openai_chat", b"/v1/chat/completions"),
    "responses request": _peeked("openai_responses", b"/v1/responses"),
    "messages request": _peeked("anthropic_messages", b"/v1/messages"),
    "gemini request": _peeked("gemini_generate", b"/v1beta/models/m:batchEmbedContents"),
    "conversation": lambda parts: conversation_of(b"".join(parts), None),
    "first items": lambda parts: first_items(b"".join(parts), 2),
    "gzip": _inflated,
}


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    # Small borders, so that small inputs cross them.
    for module in (condense, meter):
        monkeypatch.setattr(module, "SMALL", 500)
    monkeypatch.setattr(peek, "LARGE", 500)
    monkeypatch.setattr(peek, "_STEP", 500)
    monkeypatch.setattr(conversation, "_READ", 500)
    return count_in(monkeypatch, MODULES)


def _hold(work: Work, act: Callable[[list[bytes]], object], form: str, size: int, cut: int) -> None:
    parts = pieces(of_size(form, size), cut)
    total = sum(map(len, parts))
    act(parts[:1])  # What is made once is made.
    steps, offered = counted(work, lambda: act(parts))
    most = MOST_STEPS_A_BYTE * total + MOST_STEPS_A_PIECE * len(parts) + MOST_STEPS_A_CALL
    assert steps <= most, (form, size, cut, steps / total)
    looks = MOST_LOOKS_A_BYTE * total + MOST_LOOKS_A_PIECE * len(parts) + MOST_STEPS_A_CALL
    assert offered <= looks, (form, size, cut, offered / total)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reader", STREAMED)
def test_reading_a_reply_takes_work_in_proportion(work: Work, reader: str, form: str):
    for size, cut in ((1200, 1), (4800, 37), (4800, 4800)):
        _hold(work, STREAMED[reader], form, size, cut)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reader", WHOLE)
def test_reading_a_request_takes_work_in_proportion(work: Work, reader: str, form: str):
    _hold(work, WHOLE[reader], form, 4800, 4800)


def test_a_list_of_models_is_read_in_steps_and_as_a_whole():
    from xairouter.manage.probe import names_in_steps
    from xairouter.providers.interface import Probe

    def names(body: bytes) -> object:
        steps = names_in_steps(body, Probe("openai_chat", strip="models/"))
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value

    long = b'"' + b"x" * 100_000 + b'"'
    listed = (
        b'[{"about":' + long + b',"id":"models/a"},{"id":"b*"},{"id":5},{"id":"a"},0,{"id":"c"}]'
    )
    assert names(listed) == ("a", "c")
    assert names(b'{"more":[{"id":"z"}],"data":' + listed + b"}") == ("a", "c")
    assert names(b'{"data":[]}') == ()
    for none in (b"", b"{}", b'{"data":{}}', b'"x"', b"[1", b'{"data":[{"id":"a"}', b'[{"id"}]'):
        assert names(none) is None
