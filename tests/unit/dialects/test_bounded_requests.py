"""Requests that would take long are refused by a count, in whole bodies and in those looked over
first."""

import json

import pytest

from xairouter.dialects.condense import SMALL
from xairouter.dialects.conversation import conversation_of
from xairouter.dialects.look import MOST_REQUESTS, look_over
from xairouter.dialects.named import MOST_NAMED
from xairouter.dialects.paths import find
from xairouter.dialects.peek import LARGE, MAX_DEPTH, MOST_FIELDS
from xairouter.dialects.table import DIALECTS
from xairouter.domain.calls import Peek, Refusal
from xairouter.domain.steps import at_once

PAD = b',"pad":"' + b"x" * (2 * LARGE) + b'"'


def looked_at(dialect: str, path: bytes, body: bytes) -> Peek | Refusal:
    """As the pipeline does it."""
    match = find("POST", path)
    assert match is not None
    look = at_once(look_over(match, body))
    if isinstance(look, Refusal):
        return look
    return DIALECTS[dialect].peek(match, body, look)


def chat(body: bytes) -> Peek | Refusal:
    return looked_at("openai_chat", b"/v1/chat/completions", body)


def batch(body: bytes) -> Peek | Refusal:
    return looked_at("gemini_generate", b"/v1beta/models/m:batchEmbedContents", body)


@pytest.mark.parametrize("pad", [b"", PAD])
def test_fields_at_the_top_are_counted(pad: bytes):
    taken = 2 if pad else 1
    some = b"".join(b',"f%d":0' % n for n in range(MOST_FIELDS - taken))
    assert isinstance(chat(b'{"model":"m"' + pad + some + b"}"), Peek)
    refused = chat(b'{"model":"m"' + pad + some + b',"one":1}')
    assert isinstance(refused, Refusal)
    assert "fields at its top" in refused.message


@pytest.mark.parametrize("pad", [b"", PAD])
@pytest.mark.parametrize("inner", [b"1", b"[]", b'{"a":"]"}', b'"[[[["', b"[1,2]"])
def test_nesting_is_counted(pad: bytes, inner: bytes):
    depth = MAX_DEPTH - 1 - (inner[:1] in b"[{")
    for more, kind in ((0, Peek), (1, Refusal)):
        deep = b"[" * (depth + more) + inner + b"]" * (depth + more)
        assert isinstance(chat(b'{"model":"m","x":' + deep + pad + b"}"), kind)


@pytest.mark.parametrize("pad", [b"", PAD])
def test_what_is_not_utf_8_is_refused(pad: bytes):
    for text, kind in ((b"\xc3\xa9", Peek), (b"\xc3", Refusal), (b"\xff", Refusal)):
        assert isinstance(chat(b'{"model":"m"' + pad + b',"x":"' + text + b'"}'), kind)


def test_a_character_may_lie_on_the_border_of_two_steps():
    for shift in range(4):
        text = "x" * shift + "é€😀" * LARGE
        body = json.dumps({"model": "m", "x": text}, ensure_ascii=False).encode()
        assert isinstance(chat(body), Peek)


def test_a_large_body_that_is_no_json_object_is_refused_as_a_small_one_is():
    large = b" " * (2 * LARGE)
    for body in (b"[1]", b"x", b'"x"', b'{"model":"m"', b'{"model":"m"}x', b'{"model" 1}'):
        assert isinstance(chat(body), Refusal)
        assert isinstance(chat(large + body), Refusal)
    assert isinstance(chat(large + b'{"model":"m"}'), Peek)


def test_letters_written_as_escapes_hide_no_file():
    body = b'{"model":"m","a":[{"f\\u0069le_id":"f\\u002d1"}]}'
    found = chat(body)
    assert isinstance(found, Peek)
    assert found.bound_ids == ("f-1",)


def test_files_that_a_body_refers_to_are_counted():
    for count, kind in ((MOST_NAMED, Peek), (MOST_NAMED + 1, Refusal)):
        parts = [{"file_id": f"file-{n}"} for n in range(count)]
        assert isinstance(chat(json.dumps({"model": "m", "a": parts}).encode()), kind)


def test_parts_of_a_batch_are_counted_and_read():
    for count, kind in ((MOST_REQUESTS, Peek), (MOST_REQUESTS + 1, Refusal)):
        assert isinstance(batch(json.dumps({"requests": [{}] * count}).encode()), kind)
    for requests, kind in (
        ([{"model": "models/m", "content": {"parts": [{"text": "]"}]}}, {"model": "m"}], Peek),
        ([{"model": "models/m"}, {"model": "models/other"}], Refusal),
        ([{"content": [[]]}, {"model": "other"}], Refusal),
        ([{"model": 5}], Refusal),
        ([5], Refusal),
        ({"model": "m"}, Refusal),
        ("m", Refusal),
        (None, Peek),
        ([], Peek),
    ):
        assert isinstance(batch(json.dumps({"requests": requests}).encode()), kind), requests


CONVERSATIONS = [
    {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]},
    {"system": "s", "messages": [{"role": "user", "content": "a"}]},
    {"system": [{"type": "text", "text": "s"}], "messages": [{"content": [{"text": "a"}]}]},
    {"instructions": "i", "input": "first"},
    {"instructions": "i", "input": [{"role": "user", "content": "first"}]},
    {"systemInstruction": {"parts": []}, "contents": [{"parts": [{"text": "a"}]}]},
    {"prompt_cache_key": "k"},
    {"metadata": {"user_id": "u"}},
]


@pytest.mark.parametrize("beginning", CONVERSATIONS, ids=lambda one: "+".join(one))
def test_each_beginning_tells_its_conversation(beginning: dict[str, object]):
    body = json.dumps({"model": "m", **beginning}).encode()
    known = conversation_of(body, None)
    assert known is not None
    others = {conversation_of(json.dumps(one).encode(), None) for one in CONVERSATIONS}
    assert len(others) == len(CONVERSATIONS)
    for name, value in beginning.items():
        if isinstance(value, list):
            value += [{"role": "assistant", "content": "later"}] * 3
            if len(value) > 4 or name in ("system", "systemInstruction"):
                continue
    changed = {name: [value, "x"] for name, value in beginning.items()}
    assert conversation_of(json.dumps({"model": "m", **changed}).encode(), None) != known


def test_later_turns_belong_to_the_same_conversation_however_long_the_first_was():
    first = {"role": "user", "content": "x" * (3 * SMALL)}
    turns = [first, {"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]
    numbers = {
        conversation_of(json.dumps({"system": "s", "messages": turns[:count]}).encode(), None)
        for count in (1, 2, 3)
    }
    assert len(numbers) == 1


@pytest.mark.parametrize("more", [b"", b',"unusual":{"file_id":"f"}'])
def test_brackets_in_a_prompt_are_no_values(more: bytes):
    code = json.dumps("if (a[0]) { b[1], c } " * 30_000).encode()
    body = b'{"model":"m","messages":[{"role":"user","content":' + code + b"}]" + more + b"}"
    assert isinstance(chat(body), Peek)
