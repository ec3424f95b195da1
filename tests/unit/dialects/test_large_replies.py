"""Replies of any size are metered, in memory that does not grow with them."""

import gzip
import json
import tracemalloc
from collections.abc import Iterator

import pytest

from tests.rows import for_each
from xairouter.dialects.condense import SMALL, Condenser
from xairouter.dialects.inflate import (
    FREE_BYTES,
    FREE_OF_A_REPLY,
    MOST_TIMES,
    Inflater,
    TooDenseError,
    unfold,
)
from xairouter.dialects.late import STEP
from xairouter.dialects.meter import Meter
from xairouter.dialects.table import DIALECTS
from xairouter.dialects.tokens import first_items

BLOCK = 64 * 1024
IMAGE = b"iVBORw0KGgo/" * (BLOCK // 12)
USAGE = (
    b'"usage":{"prompt_tokens":7,"completion_tokens":9,"prompt_tokens_details":{"cached_tokens":2}}'
)
FORMS = {
    "JSON, usage behind": (
        "openai_chat",
        "application/json",
        b'{"id":"x","model":"m","data":[{"b64_json":"',
        b'"}],' + USAGE + b"}",
    ),
    "JSON, usage before": (
        "openai_chat",
        "application/json",
        b"{" + USAGE + b',"id":"x","model":"m","data":[{"b64_json":"',
        b'"}]}',
    ),
    "array": (
        "gemini_generate",
        "application/json",
        b'[{"candidates":[]},\n{"candidates":[{"content":{"parts":[{"inlineData":{"data":"',
        b'"}}]}}],"usageMetadata":{"promptTokenCount":5,"cachedContentTokenCount":2,'
        b'"candidatesTokenCount":9,"toolUsePromptTokenCount":2},"modelVersion":"m","responseId":"x"}]',
    ),
    "stream": (
        "openai_responses",
        "text/event-stream",
        b'event: response.created\ndata: {"type":"response.created","response":{"id":"x"}}\n\n'
        b'event: response.completed\ndata: {"type":"response.completed","response":{"id":"x",'
        b'"model":"m","output":[{"result":"',
        b'"}],"usage":{"input_tokens":7,"output_tokens":9,"input_tokens_details":'
        b'{"cached_tokens":2}}}}\n\n',
    ),
}


def reply(form: str, megabytes: int) -> Iterator[bytes]:
    """The same image again and again, so that the test itself holds nothing."""
    _, _, before, after = FORMS[form]
    yield before
    for _ in range((megabytes << 20) // len(IMAGE)):
        yield IMAGE
    yield after


@pytest.mark.parametrize("megabytes", [1, 20, 40])
@pytest.mark.parametrize("form", FORMS)
def test_a_large_reply_is_metered_in_flat_memory(form: str, megabytes: int):
    meter = Meter(DIALECTS[FORMS[form][0]], FORMS[form][1], "")
    tracemalloc.start()
    try:
        for piece in reply(form, megabytes):
            meter.feed(piece)
        usage, peak = meter.finish(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (usage.input_tokens, usage.cached_input_tokens, usage.output_tokens) == (7, 2, 9)
    assert (usage.model, usage.object_id) == ("m", "x")
    assert meter.tally.unreadable == 0
    assert peak < 12 * SMALL


@pytest.mark.parametrize("cut", [1, 7, 1000])
@pytest.mark.parametrize("form", FORMS)
def test_a_large_reply_may_be_cut_anywhere(form: str, cut: int):
    _, _, before, after = FORMS[form]
    meter = Meter(DIALECTS[FORMS[form][0]], FORMS[form][1], "")
    for part in (before, IMAGE, IMAGE, after):
        step = len(part) if part is IMAGE else cut
        for at in range(0, len(part), step):
            meter.feed(part[at : at + step])
    usage = meter.finish()
    assert (usage.input_tokens, usage.output_tokens, usage.object_id) == (7, 9, "x")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("cut", [100, 2000, 16 * 1024, BLOCK])
@pytest.mark.parametrize("form", FORMS)
def test_a_large_reply_is_read_in_parts(
    monkeypatch: pytest.MonkeyPatch, form: str, cut: int, packed: bool
):
    """Where others wait for the event loop: each step takes a part, and none is left out."""
    taken: list[int] = []
    feed = Condenser.feed

    def counted(self: Condenser, data: bytes) -> None:
        taken.append(len(data))
        feed(self, data)

    monkeypatch.setattr(Condenser, "feed", counted)
    dialect, content_type, before, after = FORMS[form]
    data = before + b"[],{}," * BLOCK + IMAGE + after
    meter = Meter(DIALECTS[dialect], content_type, "gzip" if packed else "")
    data = gzip.compress(data) if packed else data
    piece = meter.feeder()
    for at in range(0, len(data), cut):
        piece(data[at : at + cut])
        for _ in meter.catching_up():
            assert sum(taken) <= STEP
            taken.clear()
    assert meter.finish().output_tokens in (None, 9)
    list(meter.closing())
    assert meter.finish().output_tokens == 9


@pytest.mark.parametrize("size", [100, SMALL // 2])
def test_a_document_that_ends_with_its_reply_is_read_in_a_step_of_its_own(size: int):
    meter = Meter(DIALECTS["openai_chat"], "application/json", "")
    meter.feeder()(b'{"a":"' + b"x" * size + b'",' + USAGE + b"}")
    assert meter.is_open is (size > 4096)
    assert meter.finish().output_tokens == (None if meter.is_open else 9)
    list(meter.closing())
    assert meter.finish().output_tokens == meter.finish().output_tokens == 9


def test_a_compressed_reply_is_read_block_by_block_and_no_further_than_it_may_unfold():
    image = json.dumps([n * 7919 % 10007 for n in range(400_000)]).encode()
    body = b'{"a":' + image + b"," + USAGE + b"}"
    packed = gzip.compress(body)
    meter = Meter(DIALECTS["openai_chat"], "application/json", "gzip")
    turns = 0
    for at in range(0, len(packed), BLOCK):
        meter.feed(packed[at : at + BLOCK])
        while meter.is_behind:
            meter.go_on()
            turns += 1
    assert meter.finish().output_tokens == 9
    assert turns >= len(body) // BLOCK - len(packed) // BLOCK - 2
    bomb = Meter(DIALECTS["openai_chat"], "application/json", "gzip")
    bomb.feed(gzip.compress(b'{"a":"' + b" " * 20_000_000 + b'",' + USAGE + b"}"))
    while bomb.is_behind:
        bomb.go_on()
    assert bomb.tally.unreadable == 1
    assert bomb.finish().output_tokens is None


def test_compression_that_nobody_asked_for_is_not_read():
    packed = gzip.compress(b"{" + USAGE + b"}")
    for asked_for, tokens in ((True, 9), (False, None)):
        meter = Meter(DIALECTS["openai_chat"], "application/json", "gzip", asked_for=asked_for)
        meter.feed(packed)
        assert meter.finish().output_tokens == tokens


@pytest.mark.parametrize("cut", [1, 100, 1 << 20])
def test_inflating_gives_the_same_bytes_however_they_are_cut(cut: int):
    body = json.dumps([str(n * n) for n in range(20_000)]).encode()
    packed = gzip.compress(body)
    inflater = Inflater()
    parts = [packed[at : at + cut] for at in range(0, len(packed), cut)]
    assert b"".join(block for part in parts for block in unfold(inflater, part)) == body
    assert inflater.is_whole
    assert not inflater.has_rest
    assert list(unfold(inflater, b"more")) == []
    assert inflater.has_rest


@pytest.mark.parametrize("free", [FREE_BYTES, FREE_OF_A_REPLY])
def test_a_body_unfolds_a_little_in_any_case_and_then_in_proportion(free: int):
    assert sum(map(len, unfold(Inflater(free), gzip.compress(b" " * free)))) == free
    packed = gzip.compress(b" " * 3 * free)
    assert len(packed) * MOST_TIMES + free < 3 * free
    with pytest.raises(TooDenseError):
        list(unfold(Inflater(free), packed))


def _condensed(data: bytes, cut: int, **how: str) -> list[object]:
    found: list[bytes] = []
    reader = Condenser(found.append, frozenset({"id", "usage"}), frozenset({"response"}), **how)
    for at in range(0, len(data), cut):
        reader.feed(data[at : at + cut])
    reader.close()
    return [json.loads(one) for one in found]


WANTED = {"id": 'q"\\u', "usage": {"a": [1, {"b": "]}"}], "c": None}}


@for_each("space", ["", " ", "\n\t"])
@for_each("cut", [1, 2, 3, 5, 1000])
def test_condensing_keeps_the_wanted_fields_as_they_are(cut: int, space: str):
    other = {"x": [[], [[]], {"id": 1}], "y": {"usage": 2, "z": {}}, "n": -1.5e3, "t": True}
    document = {**other, **WANTED, "response": {**other, **WANTED, "response": WANTED}}
    text = json.dumps(document, separators=(f"{space},{space}", f"{space}:{space}")).encode()
    expected = {**WANTED, "response": WANTED}
    assert _condensed(text, cut) == [expected]
    array = b"[0, [] , " + text + b' ,{}, "}" , {' + b'"a" : [{ }] } ,' + text + b"]"
    assert _condensed(array, cut) == [expected, expected]
    within = b'{"a":1,"x":[[{}]],"data" :' + array + b',"data":[{"id":3}]}'
    assert _condensed(within, cut, within="data") == [expected, expected]


@pytest.mark.parametrize("cut", [1, 3, 1000])
def test_a_name_written_with_escapes_is_known(cut: int):
    assert _condensed(b'{"\\u0069d":1,"i\\\\d":2,"\\"":3}', cut) == [{"id": 1}]
    assert _condensed(b'[{"\\u0069d":1}]', cut) == [{"id": 1}]


def test_a_wanted_field_that_is_too_large_is_left_out_and_the_others_are_not():
    text = b'{"id":1,"usage":"' + b"x" * (SMALL + 10) + b'","response":{"id":2}}'
    for cut in (1000, 1 << 20):
        assert _condensed(text, cut) == [{"id": 1, "response": {"id": 2}}]


def test_what_is_no_json_ends_the_reading():
    for text in (b'{"id":1,,]', b"{1}", b'"id"', b"x", b'{"id" 1}', b"[}", b'{"\\q":1,"id":2}'):
        assert _condensed(text, 1) == []


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (b" [ ]", []),
        (b"{}", []),
        (b"", []),
        (b'[1 , "a\\"]" ,[[]] ]', [b"1", b'"a\\"]"']),
        (b'[{"a":[{}]},[[],[]]]', [b'{"a":[{}]}', b"[[],[]]"]),
        (b'[[{"a":"b', [b'[{"a":"b']),
        (b'[null,{"cut', [b"null", b'{"cut']),
    ],
)
def test_first_items_of_an_array(array: bytes, expected: list[bytes]):
    assert first_items(array, 2) == expected
