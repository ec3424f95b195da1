"""Laws of the dialects: peeks, splices, meters and streams under any input and any chunking."""

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xairouter.dialects import peek as peek_module
from xairouter.dialects.meter import Meter
from xairouter.dialects.output import OWN_NAMES
from xairouter.dialects.paths import find
from xairouter.dialects.peek import read_object, splice
from xairouter.dialects.sse import data_of
from xairouter.dialects.stripping import UsageStripper
from xairouter.dialects.table import DIALECTS
from xairouter.domain.calls import Peek, Refusal

CHAT = find("POST", b"/v1/chat/completions")
assert CHAT is not None

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.text(max_size=20)
    | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
objects = st.dictionaries(
    st.text(max_size=8) | st.sampled_from(["model", "stream", "x"]), values, max_size=6
)
spacing = st.sampled_from(["", " ", "\n", "\t ", "\r\n"])


def _write(document: dict[str, Any], space: str, escape: bool) -> bytes:
    text = json.dumps(
        document, ensure_ascii=escape, separators=(f"{space},{space}", f"{space}:{space}")
    )
    return (space + text + space).encode()


@given(objects, spacing, st.booleans())
def test_a_governed_field_s_span_is_exactly_its_value(document, space, escape):
    body = _write(document, space, escape)
    read = read_object(body, ("model", "stream"))
    if any(
        name not in ("model", "stream") and name.casefold() in ("model", "stream")
        for name in document
    ):
        assert isinstance(read, Refusal)
        return
    assert not isinstance(read, Refusal), read
    fields, insert_at = read
    assert set(fields) == {"model", "stream"} & set(document)
    for name, (value, (start, end)) in fields.items():
        assert value == document[name]
        assert json.loads(body[start:end]) == document[name]
    assert body[:insert_at].strip() == b"{"


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20), values, spacing)
def test_a_spliced_body_differs_in_the_model_only(asked, wanted, other, space):
    body = _write({"a": other, "model": asked, "messages": [{"model": asked}]}, space, True)
    peek = DIALECTS["openai_chat"].peek(CHAT, body)
    assert isinstance(peek, Peek)
    _, out, injected = DIALECTS["openai_chat"].prepare(
        CHAT, peek, body, model=wanted, ask_usage=True, bound=None
    )
    assert injected is False
    assert json.loads(out) == {**json.loads(body), "model": wanted}
    if wanted == asked:
        assert out is body


@given(objects, spacing, st.sampled_from([None, {}, {"include_usage": False}, {"x": 1}]))
def test_asking_for_usage_adds_that_and_nothing_else(document, space, options):
    document = {
        name: value
        for name, value in document.items()
        if name.casefold()
        not in (
            "model",
            "stream",
            "stream_options",
            "max_tokens",
            "n",
            "best_of",
            "max_completion_tokens",
            *OWN_NAMES,
        )
    }
    document |= {"model": "m", "stream": True}
    if options is not None:
        document["stream_options"] = options
    body = _write(document, space, False)
    peek = DIALECTS["openai_chat"].peek(CHAT, body)
    assert isinstance(peek, Peek), peek
    _, out, injected = DIALECTS["openai_chat"].prepare(
        CHAT, peek, body, model="m", ask_usage=True, bound=None
    )
    assert injected is True
    expected = {**document, "stream_options": {**(options or {}), "include_usage": True}}
    assert json.loads(out) == expected


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_read_or_refused_and_never_raise(body: bytes):
    for name, dialect in DIALECTS.items():
        line = (
            b"/v1beta/models/m:generateContent"
            if name == "gemini_generate"
            else b"/v1/chat/completions"
        )
        match = find("POST", line)
        assert match is not None
        assert isinstance(dialect.peek(match, body), Peek | Refusal)


@given(st.sampled_from(["model", "stream", "max_tokens"]), st.data())
def test_a_governed_field_hidden_by_escapes_or_case_is_refused(name: str, data):
    disguised = "".join(
        f"\\u{ord(c):04x}"
        if data.draw(st.booleans())
        else (c.upper() if data.draw(st.booleans()) else c)
        for c in name
    )
    first = b'"model":"a","stream":false,"max_tokens":1'
    body = b"{" + first + b',"' + disguised.encode() + b'":' + b'"b"}'
    assert isinstance(read_object(body, ("model", "stream", "max_tokens")), Refusal)


@given(
    st.binary(max_size=60),
    st.lists(st.tuples(st.integers(0, 60), st.binary(max_size=5)), max_size=4),
)
def test_splice_inserts_where_it_is_told(body: bytes, inserts):
    places = sorted({at % (len(body) + 1): new for at, new in inserts}.items())
    expected, last = b"", 0
    for at, new in places:
        expected += body[last:at] + new
        last = at
    assert splice(body, [((at, at), new) for at, new in places]) == expected + body[last:]


@given(
    st.lists(st.sampled_from(["[", '"[[{"', '"\\\\"', '"\\""', '{"a":', "1"]), max_size=30),
    st.integers(480, 520),
)
def test_depth_is_that_of_the_brackets_outside_strings(noise: list[str], depth: int):
    """Against the plain definition, read character by character."""
    inner = ",".join(part for part in noise if part not in ("[", '{"a":')) or "1"
    body = ('{"x":' + "[" * (depth - 1) + "[" + inner + "]" + "]" * (depth - 1) + "}").encode()
    json.loads(body)
    assert peek_module._is_too_deep(body) is (depth + 1 > peek_module.MAX_DEPTH)


USAGE = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "prompt_tokens_details": {"cached_tokens": 3},
}
REPLIES: dict[str, tuple[str, str, bytes]] = {
    "chat json": (
        "openai_chat",
        "application/json",
        json.dumps({"id": "x", "model": "m", "choices": [], "usage": USAGE}, indent=1).encode(),
    ),
    "chat stream": (
        "openai_chat",
        "text/event-stream",
        b"".join(
            b"data: " + json.dumps(d).encode() + b"\n\n"
            for d in (
                {"id": "x", "choices": [{"delta": {"content": 'say "usage" \u00e9\u4e2d'}}]},
                {"id": "x", "choices": [], "usage": USAGE},
            )
        )
        + b": comment\r\n\r\ndata: [DONE]\n\n",
    ),
    "messages stream": (
        "anthropic_messages",
        "text/event-stream",
        (
            b'event: message_start\r\ndata: {"type":"message_start","message":{"id":"msg","usage":'
            b'{"input_tokens":5,"cache_read_input_tokens":2,"output_tokens":1}}}\r\n\r\n'
            b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":9}}\n\n'
            b'event: message_stop\rdata: {"type":"message_stop"}\r\r'
        ),
    ),
    "gemini array": (
        "gemini_generate",
        "application/json",
        json.dumps(
            [
                {
                    "candidates": [{"content": {"parts": [{"text": 'a ] } "usageMetadata": {'}]}}],
                    "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 1},
                },
                {
                    "usageMetadata": {
                        "promptTokenCount": 4,
                        "candidatesTokenCount": 6,
                        "thoughtsTokenCount": 2,
                    }
                },
            ],
            indent=2,
        ).encode(),
    ),
    "two data lines": (
        "openai_chat",
        "text/event-stream",
        b'data: {"id":"x",\ndata: "usage":{"prompt_tokens":3}}\n\n',
    ),
    "no last line end": (
        "openai_chat",
        "text/event-stream",
        b'data: {"usage":{"prompt_tokens":3}}',
    ),
}


def _usage(name: str, chunks: list[bytes]):
    dialect, content_type, _ = REPLIES[name]
    meter = Meter(DIALECTS[dialect], content_type, "")
    for chunk in chunks:
        meter.feed(chunk)
    return meter.finish()


def _cut(data: bytes, places: list[int]) -> list[bytes]:
    at = sorted({place % (len(data) + 1) for place in places})
    return [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)]


@pytest.mark.parametrize("name", REPLIES)
def test_byte_by_byte_is_the_same_as_at_once(name: str):
    data = REPLIES[name][2]
    whole = _usage(name, [data])
    assert whole.is_reported
    assert _usage(name, [data[at : at + 1] for at in range(len(data))]) == whole


@pytest.mark.parametrize("name", REPLIES)
@given(places=st.lists(st.integers(0, 5000), max_size=8))
def test_any_chunking_gives_the_same_usage(name: str, places: list[int]):
    data = REPLIES[name][2]
    assert _usage(name, _cut(data, places)) == _usage(name, [data])


@given(
    st.sampled_from(sorted(DIALECTS)),
    st.sampled_from(["text/event-stream", "application/json", ""]),
    st.sampled_from(["", "gzip", "br"]),
    st.lists(st.binary(max_size=80), max_size=6),
)
def test_garbage_never_raises(dialect, content_type, encoding, chunks):
    meter = Meter(DIALECTS[dialect], content_type, encoding)
    for chunk in chunks:
        meter.feed(chunk)
    meter.finish()
    meter.finish()


mutations = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=6)


@pytest.mark.parametrize("name", REPLIES)
@given(changes=mutations)
def test_mutated_replies_never_raise(name: str, changes):
    data = bytearray(REPLIES[name][2])
    for at, byte in changes:
        data[at % len(data)] = byte
    _usage(name, [bytes(data)])


@given(st.lists(st.integers(0, 5000), max_size=8))
def test_only_the_usage_event_is_taken_out_under_any_chunking(places: list[int]):
    keep = (
        b'data: {"id":"x","choices":[{"delta":{"content":"\\"usage\\""}}],"usage":null}\n\n'
        b': ping\n\ndata: {"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}\n\n'
    )
    usage_event = b'data: {"id":"x","choices":[],"usage":{"prompt_tokens":1}}\n\n'
    error = b'data: {"choices":[],"usage":{"a":1},"error":{"message":"x"}}\n\n'
    end = b"data: [DONE]\n\n"
    stripper = UsageStripper()
    out = b"".join(stripper.feed(part) for part in _cut(keep + usage_event + error + end, places))
    assert out + stripper.finish() == keep + error + end


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=6))
def test_the_stripper_loses_nothing_of_what_is_no_usage_event(data: bytes, places: list[int]):
    data = data.replace(b"usage", b"")
    stripper = UsageStripper()
    out = b"".join(stripper.feed(part) for part in _cut(data, places))
    assert out + stripper.finish() == data


def test_data_lines_are_joined_as_the_standard_says():
    assert data_of(b"event: x\ndata: a\ndata:b\nid: 1\n: c\n\n") == b"a\nb"


def test_reasoning_that_stands_beside_the_output_is_counted_into_it():
    beside = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 35,
        "completion_tokens_details": {"reasoning_tokens": 20},
    }
    meter = Meter(DIALECTS["openai_chat"], "application/json", "")
    meter.feed(msgspec.json.encode({"usage": beside}))
    assert (meter.finish().output_tokens, meter.finish().reasoning_tokens) == (25, 20)


def test_no_pattern_of_ours_backtracks_without_bound():
    from xairouter.dialects import condense, meter, openai, peek, sse, tokens

    # Long enough for what doubles its work with each byte never to end; a search that tries every
    # start takes the square of the length, which is why it is no longer.
    hostile = [b'"' * 2000, b"\\" * 2000, b'"\\' * 1000, b"\r" * 2000, b'"file_id"' * 300]
    for module in (meter, openai, peek, sse):
        for pattern in vars(module).values():
            if isinstance(pattern, re.Pattern) and isinstance(pattern.pattern, bytes):
                for data in hostile:
                    pattern.search(data)
    # Those of the condenser are asked at one place only, and the tokens one after the other.
    for pattern in (*vars(condense).values(), *vars(tokens).values()):
        if isinstance(pattern, re.Pattern):
            for data in hostile:
                pattern.match(data)
    for data in hostile:
        reader = condense.Condenser(lambda _: None, frozenset({"id"}))
        reader.feed(b'{"a":[' + data)


BOUNDED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "/v1/chat/completions": ({"model": "m", "messages": []}, ("max_completion_tokens",)),
    "/v1/responses": ({"model": "m", "input": "x"}, ("max_output_tokens",)),
    "/v1/messages": ({"model": "m", "messages": []}, ("max_tokens",)),
    "/v1beta/models/m:generateContent": ({}, ("generationConfig", "maxOutputTokens")),
}
CONFIGS = st.sampled_from([None, {}, {"temperature": 0.5}, "absent"])


@given(st.sampled_from(sorted(BOUNDED)), objects, spacing, CONFIGS)
def test_a_bound_is_put_where_it_belongs_and_nothing_else_changes(path, extra, space, config):
    base, place = BOUNDED[path]
    document = {name: value for name, value in extra.items() if name.startswith("x")}
    document |= base
    if len(place) == 2 and config != "absent":
        document[place[0]] = config
    body = _write(document, space, False)
    match = find("POST", path.encode())
    assert match is not None
    dialect = DIALECTS[match.operation.dialect]
    peek = dialect.peek(match, body)
    assert isinstance(peek, Peek), peek
    _, out, _ = dialect.prepare(
        match, peek, body, model="m", ask_usage=False, bound=(place[-1], 77)
    )
    if len(place) == 2:
        expected = {**document, place[0]: {**(document.get(place[0]) or {}), place[1]: 77}}
    else:
        expected = {**document, place[0]: 77}
    assert json.loads(out) == expected
    again = dialect.peek(match, out)
    assert isinstance(again, Peek)
    assert again.max_output_tokens == 77
