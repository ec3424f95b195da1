"""What a single message may do to everybody else: nothing. Each of these once held the process up
for a minute or took more than a gigabyte."""

import asyncio
import gzip
import json
import resource

import pytest

from tests.rig import Rig
from xairouter.standin.faults import Reply

CHAT = b'{"model":"gpt-4o","messages":[],'
PAD = b'"pad":"' + b"x" * 100_000 + b'"'
REQUESTS = {
    "nesting": (
        "/v1/chat/completions",
        CHAT + b'"x":' + b"[" * 600 + b"]" * 600 + b"," + PAD + b"}",
    ),
    "fields": (
        "/v1/chat/completions",
        CHAT + b"".join(b'"f%d":0,' % n for n in range(20_000)) + PAD + b"}",
    ),
    "batch": (
        "/v1beta/models/gemini-2.0-flash:batchEmbedContents",
        b'{"requests":[' + b"{}," * 100_000 + b"{}]}",
    ),
    "letters": ("/v1/chat/completions", CHAT + b'"x":"\xff",' + PAD + b"}"),
}


@pytest.mark.parametrize("kind", REQUESTS)
async def test_a_hostile_request_is_refused_and_nothing_is_sent(rig: Rig, kind: str):
    await rig.add_provider_key()
    path, body = REQUESTS[kind]
    asked = await rig.ask("POST", path, gzip.compress(body, 1), content_encoding="gzip")
    assert (asked.status, asked.code) in ((400, "invalid_request"), (413, "body_too_large"))
    plain = await rig.ask("POST", path, body)
    assert (plain.status, plain.code) == (400, "invalid_request")
    assert rig.standin.requests == []


async def test_a_large_honest_request_is_served(rig: Rig):
    await rig.add_provider_key()
    text = json.dumps([{"type": "text", "text": "é [[[ {{{ \\ " * 50}] * 400, ensure_ascii=False)
    body = b'{"model":"gpt-4o","messages":[{"role":"user","content":' + text.encode() + b"}]}"
    answer = await rig.ask("POST", "/v1/chat/completions", body)
    assert answer.status == 200
    assert json.loads(rig.standin.requests[-1].body) == json.loads(body)


REPLIES = {
    "a compressed array": (
        "application/json",
        gzip.compress(b"[" + b"[]," * 12_000_000 + b"0]"),
        True,
    ),
    "compressed events": (
        "text/event-stream",
        gzip.compress(b'data: {"usage":{"prompt_tokens":1}}\n\n' * 300_000),
        True,
    ),
    "a long string": ("application/json", b'["' + b"A" * 3_000_000, False),
}


@pytest.mark.parametrize("kind", REPLIES)
async def test_a_hostile_reply_passes_while_others_are_served(rig: Rig, kind: str):
    """Whoever else asks meanwhile is answered many times over before it has passed."""
    await rig.add_provider_key()
    content_type, body, is_packed = REPLIES[kind]
    headers = (("content-type", content_type), *((("content-encoding", "gzip"),) * is_packed))
    pieces = tuple(body[at : at + 16_384] for at in range(0, len(body), 16_384))
    rig.standin.scripted = Reply(200, headers, events=pieces)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    asking = asyncio.create_task(rig.chat())
    answered = 0
    while not asking.done():
        assert (await rig.ask("GET", "/healthz", key=None)).status == 200
        answered += 1
    await asking
    assert answered >= 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000
    assert (await rig.record())["status"] == 200
