"""No step of what is done with a request's body is longer where the body is larger.

Counted, not timed: bytecodes of our code between two pauses, for hostile shapes in several sizes. The
borders are made small, so that small bodies cross them many times. What a step gives to a parser or a
pattern in C is counted in bytes: the whole body at most, a few times over.
"""

import sys
from types import ModuleType

import pytest

from tests.work_counting import Work, count_in
from xairouter.dialects import (
    condense,
    conversation,
    gemini_generate,
    look,
    media,
    multipliers,
    named,
    peek,
    plain,
    shorten,
    tokens,
    tools,
)
from xairouter.dialects.conversation import conversation_of
from xairouter.dialects.look import look_over
from xairouter.dialects.media import input_tokens_in_steps
from xairouter.dialects.multipliers import multipliers_in_steps
from xairouter.dialects.paths import find
from xairouter.dialects.table import DIALECTS
from xairouter.domain.calls import Refusal
from xairouter.domain.steps import Steps

MOST_BYTECODES = 8500
MOST_LOOKS = 4
SIZES = (6_000, 24_000)
CHAT, RESPONSES, MESSAGES, BATCH, COMPLETIONS = (
    b"/v1/chat/completions",
    b"/v1/responses",
    b"/v1/messages",
    b"/v1beta/models/m:batchEmbedContents",
    b"/v1/completions",
)
BEGIN = b'{"model":"m",'
# Where it is sent, and what one repeats: (what comes before, the part, what follows).
SHAPES: dict[str, tuple[bytes, bytes, bytes, bytes]] = {
    "deep": (CHAT, BEGIN + b'"x":[', b"[" * 200 + b"]" * 200 + b",", b"0]}"),
    "deep objects": (CHAT, BEGIN + b'"x":[', b'{"a":' * 100 + b"0" + b"}" * 100 + b",", b"0]}"),
    "wide": (CHAT, BEGIN + b'"x":[', b"0,", b"0]}"),
    "lists": (CHAT, BEGIN + b'"x":[', b"[],", b"0]}"),
    "nested lists": (CHAT, BEGIN + b'"x":[', b"[[]],", b"0]}"),
    "fields": (CHAT, BEGIN + b'"x":{"z":0', b',"%06d":0', b"}}"),
    "small objects": (CHAT, BEGIN + b'"x":[', b'{"a_id":1},', b"0]}"),
    "objects with names": (CHAT, BEGIN + b'"x":[', b'{"file_id":"f"},', b"0]}"),
    "empty names": (CHAT, BEGIN + b'"file_ids":[', b'"",', b'""]}'),
    "unlisted fields": (CHAT, BEGIN + b'"x":{"z":0', b',"%06d_id":1', b"}}"),
    "escapes": (CHAT, BEGIN + b'"x":"', b"\\u0041", b'"}'),
    "quotes in a string": (CHAT, BEGIN + b'"x":"', b'\\"', b'"}'),
    "a long string": (CHAT, BEGIN + b'"x":"', b"a", b'"}'),
    "a long text": (CHAT, BEGIN + b'"x":0,"messages":[{"content":"', "é ".encode(), b'"}]}'),
    "a long name": (CHAT, BEGIN + b'"', b"a", b'":0}'),
    "strings": (CHAT, BEGIN + b'"x":[', b'"",', b'""]}'),
    "spaces": (CHAT, BEGIN + b'"x":[', b" ", b"0]}"),
    "links": (CHAT, BEGIN + b'"x":{"z":0', b',"image_url":1', b"}}"),
    "types": (CHAT, BEGIN + b'"x":[', b'{"type" : "image"},', b"0]}"),
    "messages": (CHAT, BEGIN + b'"messages":[', b'{"role":"user"},', b"{}]}"),
    "plain messages": (CHAT, BEGIN + b'"messages":[', b'{"role":"user","content":"a"},', b"{}]}"),
    "parts of a message": (
        CHAT,
        BEGIN + b'"messages":[{"content":[',
        b'{"image_url":{"url":"data:image/png;base64,"}},',
        b"{}]}]}",
    ),
    "tools": (CHAT, BEGIN + b'"tools":[', b'{"type":"function"},', b"{}]}"),
    "tools in tools": (CHAT, BEGIN + b'"tools":[{"tools":[', b'{"type":"a"},', b"{}]}]}"),
    "a tool's fields": (CHAT, BEGIN + b'"tools":[{"z":0', b',"%06d":0', b"}]}"),
    "modalities": (CHAT, BEGIN + b'"modalities":[', b'"a",', b'"a"]}'),
    "prompts": (COMPLETIONS, BEGIN + b'"prompt":[', b'"a",', b'"a"]}'),
    "prompts of numbers": (COMPLETIONS, BEGIN + b'"prompt":[', b"[1],", b"[1]]}"),
    "items": (RESPONSES, BEGIN + b'"input":[', b'{"id":"a","type":"message"},', b"{}]}"),
    "whole items": (
        RESPONSES,
        BEGIN + b'"input":[',
        b'{"id":"a","type":"message","content":"a"},',
        b"{}]}",
    ),
    "functions": (RESPONSES, BEGIN + b'"tools":[', b'{"type":"function"},', b"{}]}"),
    "blocks": (MESSAGES, BEGIN + b'"messages":[{"content":[', b'{"type":"text"},', b"{}]}]}"),
    "results": (MESSAGES, BEGIN + b'"x":[', b'{"source":{"data":""}},', b"{}]}"),
    "a batch": (BATCH, b'{"requests":[', b"{},", b"{}]}"),
    "a part of a batch": (BATCH, b'{"requests":[{"a":[', b"[[]],", b"0]}]}"),
}


def of_size(shape: str, size: int) -> tuple[bytes, bytes]:
    path, before, part, after = SHAPES[shape]
    times = max(1, (size - len(before) - len(after)) // len(part))
    if b"%" in part:
        return path, before + b"".join(part % n for n in range(times)) + after
    return path, before + part * times + after


def taken(path: bytes, body: bytes) -> Steps[None]:
    """What the pipeline does with a body."""
    match = find("POST", path)
    assert match is not None
    found = yield from look_over(match, body)
    if isinstance(found, Refusal) or found is None:
        return
    yield
    read = DIALECTS[match.operation.dialect].peek(match, body, found)
    if isinstance(read, Refusal):
        return
    yield
    yield from input_tokens_in_steps(body, found.top)
    yield
    yield from multipliers_in_steps(found.top)
    yield
    conversation_of(body, None, found.top)


SMALLER: tuple[tuple[ModuleType, str, int], ...] = (
    (conversation, "_READ", 500),
    (gemini_generate, "MOST_REQUESTS", 100),
    (look, "MOST_REQUESTS", 100),
    (look, "LARGE", 500),
    (media, "_AT_ONCE", 500),
    (named, "_AT_ONCE", 50),
    (named, "MOST_NAMED", 50),
    (peek, "LARGE", 500),
    (peek, "_STEP", 200),
    (plain, "LARGE", 500),
    (plain, "_AT_ONCE", 50),
    (shorten, "STEP", 200),
    (shorten, "LARGE", 500),
    (tokens, "STEP", 200),
    (tools, "LARGE", 500),
)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    for module, name, value in SMALLER:
        monkeypatch.setattr(module, name, value)
    return count_in(monkeypatch, [condense, *{module for module, _, _ in SMALLER}, multipliers])


def longest(work: Work, steps: Steps[None]) -> tuple[int, int, int]:
    """(bytecodes, bytes offered) of the longest steps, and how many there are."""
    codes = offered = count = 0
    more = True
    while more:
        work.steps = work.offered = 0
        sys.settrace(work.trace)
        try:
            more = next(steps, 0) is None
        finally:
            sys.settrace(None)
        codes, offered, count = max(codes, work.steps), max(offered, work.offered), count + 1
    return codes, offered, count


@pytest.mark.parametrize("shape", SHAPES)
def test_no_step_is_longer_for_a_larger_body(work: Work, shape: str):
    for size in SIZES:
        path, body = of_size(shape, size)
        codes, offered, count = longest(work, taken(path, body))
        assert codes <= MOST_BYTECODES, (size, codes)
        assert offered <= MOST_LOOKS * size, (size, offered)
        assert count > 5
