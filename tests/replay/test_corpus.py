"""Recorded exchanges with real providers, where XAIROUTER_TEST_CORPUS names a folder of them.

Skipped by name without it. The expected usage comes from a reader of its own below, written from
the providers' documentation and sharing no code with the dialects.
"""

import gzip
import json
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.rig import Rig
from xairouter.dialects.meter import Meter
from xairouter.dialects.paths import find
from xairouter.dialects.query import query_for_provider
from xairouter.dialects.table import DIALECTS
from xairouter.domain.calls import Peek
from xairouter.standin.faults import Reply

CORPUS = os.environ.get("XAIROUTER_TEST_CORPUS")
pytestmark = pytest.mark.skipif(
    not CORPUS, reason="XAIROUTER_TEST_CORPUS names no folder of recorded exchanges"
)
OPENAI = {
    "openai.chat": ("openai_chat", "/v1/chat/completions"),
    "openai.completions": ("openai_completions", "/v1/completions"),
    "openai.embeddings": ("openai_embeddings", "/v1/embeddings"),
    "openai.responses": ("openai_responses", "/v1/responses"),
    "anthropic.messages": ("anthropic_messages", "/v1/messages"),
}
GEMINI = {"gemini.generate", "gemini.stream", "gemini.embed"}


def recorded(name: str) -> Iterator[dict[str, Any]]:
    with gzip.open(Path(CORPUS or "") / name, "rt") as lines:
        yield from map(json.loads, lines)


def exchanges(name: str, part: int = 1) -> Iterator[dict[str, Any]]:
    """All exchanges with known interfaces, or each third."""
    for number, exchange in enumerate(recorded(name)):
        if (exchange["api"] in OPENAI or exchange["api"] in GEMINI) and number % part == 0:
            yield exchange


# A third of them every day, and all with the slow tests.
in_part = pytest.mark.parametrize("part", [3, pytest.param(1, marks=pytest.mark.slow)])


def dialect_of(exchange: dict[str, Any]) -> str:
    return OPENAI.get(exchange["api"], ("gemini_generate", ""))[0]


def content_type(exchange: dict[str, Any]) -> str:
    stated = exchange["response"]["headers"].get("content-type")
    stated = stated[0] if isinstance(stated, list) else stated
    body = exchange["response"]["body"]
    return stated or (
        "text/event-stream" if body.startswith(("data:", "event:")) else "application/json"
    )


def documents(body: str) -> Iterator[Any]:
    """Every JSON document of a reply: the body, the array's elements, or the events' data."""
    try:
        whole = json.loads(body)
    except ValueError:
        for line in re.split(r"\r\n|\n|\r", body):
            if line.startswith("data:"):
                try:
                    yield json.loads(line[5:])
                except ValueError:
                    continue
        return
    yield from whole if isinstance(whole, list) else [whole]


def _dig(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _last(found: list[Any], *names: str) -> int | None:
    """The last whole number stated at a path."""
    stated = [value for usage in found if isinstance(value := _dig(usage, *names), int)]
    return stated[-1] if stated else None


def expected_usage(dialect: str, body: str) -> dict[str, int | None]:
    """Input, cached, output and reasoning tokens as the provider stated them last."""
    docs = [doc for doc in documents(body) if isinstance(doc, dict)]
    if dialect == "gemini_generate":
        found = [doc.get("usageMetadata") for doc in docs]
        asked = [_last(found, "promptTokenCount"), _last(found, "toolUsePromptTokenCount")]
        parts = [_last(found, "candidatesTokenCount"), _last(found, "thoughtsTokenCount")]
        return {
            "input": sum(g or 0 for g in asked) if asked != [None, None] else None,
            "cached": _last(found, "cachedContentTokenCount"),
            "output": sum(m or 0 for m in parts) if parts != [None, None] else None,
            "reasoning": parts[1],
        }
    if dialect == "anthropic_messages":
        found = [
            usage for doc in docs for usage in (_dig(doc, "message", "usage"), doc.get("usage"))
        ]
        plain = _last(found, "input_tokens")
        read = _last(found, "cache_read_input_tokens")
        written = _last(found, "cache_creation_input_tokens")
        # What the top leaves out; Anthropic bills it, and says so under "compaction".
        compacted = [
            entry
            for usage in [one for one in found if isinstance(one, dict)][-1:]
            for entry in usage.get("iterations") or ()
            if entry["type"] == "compaction"
        ]
        made = _last(found, "output_tokens")
        for entry in compacted:
            plain, made = plain + entry["input_tokens"], made + entry["output_tokens"]
            read = (read or 0) + entry["cache_read_input_tokens"]
            written = (written or 0) + entry["cache_creation_input_tokens"]
        return {
            "input": None if plain is None else plain + (read or 0) + (written or 0),
            "cached": read,
            "output": made,
            "reasoning": _last(found, "output_tokens_details", "thinking_tokens"),
        }
    found = [
        usage
        for doc in docs
        for usage in (
            _dig(doc, "x_groq", "usage"),
            doc.get("usage"),
            _dig(doc, "response", "usage"),
        )
    ]
    first = [
        next(
            (value for name in names if (value := _last(found, *name.split("."))) is not None), None
        )
        for names in (
            ("prompt_tokens", "input_tokens"),
            (
                "prompt_tokens_details.cached_tokens",
                "input_tokens_details.cached_tokens",
                "cached_tokens",
                "prompt_cache_hit_tokens",
                "num_cached_tokens",
            ),
            ("completion_tokens", "output_tokens"),
            (
                "completion_tokens_details.reasoning_tokens",
                "output_tokens_details.reasoning_tokens",
                "reasoning_tokens",
            ),
        )
    ]
    given, cached, made, thought = first
    beside = (_last(found, "total_tokens") or 0) - (given or 0) - (made or 0)
    sound = _last(found, "prompt_tokens_details", "audio_tokens")
    if given is not None and made is not None and beside > 0 and beside != sound:
        # xAI counts its reasoning beside the completion, Gemini its thoughts in the total alone;
        # Mistral counts sound beside the prompt.
        made += beside
    return {"input": given, "cached": cached, "output": made, "reasoning": thought}


def metered(
    dialect: str, kind: str, chunks: Iterator[bytes] | list[bytes]
) -> dict[str, int | None]:
    meter = Meter(DIALECTS[dialect], kind, "")
    for chunk in chunks:
        meter.feed(chunk)
    usage = meter.finish()
    return {
        "input": usage.input_tokens,
        "cached": usage.cached_input_tokens,
        "output": usage.output_tokens,
        "reasoning": usage.reasoning_tokens,
    }


@in_part
def test_metering_agrees_with_every_recorded_reply_under_any_chunking(part: int):
    dice = random.Random(11)
    wrong, count = [], 0
    for name in ("public.jsonl.gz", "fixtures_response_only_public.jsonl.gz"):
        for exchange in exchanges(name, part):
            dialect, text = dialect_of(exchange), exchange["response"]["body"]
            body, kind = text.encode(), content_type(exchange)
            expected = expected_usage(dialect, text)
            sizes = [len(body) or 1, dice.randint(1, 40), dice.choice([2, 3, 5, 1000])]
            for size in sizes if len(body) < 100_000 else sizes[:1]:
                count += 1
                chunks = [body[at : at + size] for at in range(0, len(body), size)]
                if metered(dialect, kind, chunks) != expected:
                    wrong.append((exchange["id"], size))
    assert count > 5000 // part
    assert wrong == []


def test_every_recorded_request_is_understood():
    wrong, count = [], 0
    for exchange in exchanges("public.jsonl.gz"):
        asked = exchange["request"]
        path, body = request_line(exchange)
        match = find("POST", path.partition("?")[0].encode())
        assert match is not None, path
        peek = DIALECTS[match.operation.dialect].peek(match, body)
        count += 1
        named = asked["body"].get("model") if isinstance(asked["body"], dict) else None
        if not isinstance(peek, Peek):
            wrong.append((exchange["id"], peek))
        elif match.operation.dialect != "gemini_generate" and (
            peek.model != named or peek.streams != bool(asked["body"].get("stream"))
        ):
            wrong.append((exchange["id"], peek.model))
    assert count > 2000
    # Requests that were recorded to show a provider's own error.
    assert [w for w in wrong if not (hasattr(w[1], "code"))] == []
    assert len(wrong) < 15, wrong


def request_line(exchange: dict[str, Any]) -> tuple[str, bytes]:
    """The path and body with which a client would ask the router the same."""
    asked = exchange["request"]
    body = asked["body"] if isinstance(asked["body"], dict) else {}
    if exchange["api"] in OPENAI:
        return OPENAI[exchange["api"]][1], json.dumps(body, ensure_ascii=False).encode()
    found = re.search(r"/models/([^/?]+):(\w+)(\?.*)?$", asked["url"])
    assert found, asked["url"]
    query = "?alt=sse" if "alt=sse" in (found.group(3) or "") else ""
    verb = found.group(2)
    known = verb in (
        "generateContent",
        "streamGenerateContent",
        "embedContent",
        "batchEmbedContents",
    )
    path = f"/v1beta/models/{found.group(1)}:{verb if known else 'generateContent'}{query}"
    return path, json.dumps(body, ensure_ascii=False).encode()


def test_every_argument_of_a_query_that_was_recorded_passes():
    seen: set[str] = set()
    for exchange in recorded("public.jsonl.gz"):
        asked = exchange["request"]
        url = urlsplit(asked["url"])
        match = find(asked["method"], url.path.encode())
        if match is None and exchange["api"] in OPENAI:
            # Azure's deployments: the router's paths are OpenAI's own.
            match = find("POST", OPENAI[exchange["api"]][1].encode())
        if match is not None and url.query:
            passed = query_for_provider(match.operation.name, url.query.encode())
            assert passed == url.query, (match.operation.name, url.query)
            seen |= {part.partition("=")[0] for part in url.query.split("&")}
    assert seen == {"alt", "beta", "api-version", "stream", "starting_after"}


@in_part
async def test_the_pipeline_passes_recorded_exchanges_byte_for_byte(rig: Rig, part: int):
    await rig.add_provider_key(name="corpus")
    # Nobody asks the provider again whether a recorded 401 was meant.
    rig.house.health.take_rejected = list  # type: ignore[method-assign]
    dice = random.Random(5)
    expected: list[tuple[str, dict[str, int | None], str]] = []
    queued: list[str] = []
    for exchange in exchanges("public_lite.jsonl.gz", part):
        path, body = request_line(exchange)
        reply = exchange["response"]
        data = reply["body"].encode()
        size = dice.choice([1 << 20, 64, 700])
        parts = tuple(data[at : at + size] for at in range(0, len(data), size)) or (b" ",)
        rig.standin.scripted = Reply(
            reply["status"], (("content-type", content_type(exchange)),), events=parts
        )
        # What ailed the key after the exchange before is none of this one's matter.
        for ailing in list(rig.house.health.ailing):
            rig.house.health.forget(ailing)
        before = len(rig.standin.requests)
        answer = await rig.ask("POST", path, body)
        if answer.headers["x-xairouter-origin"] == "gateway":
            assert answer.code in (
                "provider_key_rejected",
                "invalid_request",
                "object_not_found",
                "model_missing",
            ), (exchange["id"], answer.body)
            continue
        assert len(rig.standin.requests) == before + 1
        assert answer.status == reply["status"]
        received = rig.standin.requests[-1]
        if received.body != body:
            given = json.loads(body)
            assert received.json() == {
                **given,
                "stream_options": {**(given.get("stream_options") or {}), "include_usage": True},
            }
        if answer.body != data:
            # Only events that carry nothing but usage may be missing.
            assert len(answer.body) < len(data)
            assert received.body != body
        if json.loads(body).get("background") and '"status": "queued"' in reply["body"]:
            queued.append(answer.headers["x-xairouter-call-id"])
            continue
        expected.append(
            (
                answer.headers["x-xairouter-call-id"],
                expected_usage(dialect_of(exchange), reply["body"]),
                exchange["id"],
            )
        )
    records = {r["call_id"]: r for r in await _all_records(rig)}
    for call_id, usage, name in expected:
        record = records[call_id]
        assert {
            "input": record["input_tokens"],
            "cached": record["cached_input_tokens"],
            "output": record["output_tokens"],
            "reasoning": record["reasoning_tokens"],
        } == usage, name
    # Their providers have stated nothing yet: what is asked for counts, and says so.
    assert len(queued) > 1 or part > 1
    for call_id in queued:
        assert records[call_id]["usage_source"] == "estimated"
        assert records[call_id]["input_tokens"] > 0
    assert len(expected) > 400 // part


async def _all_records(rig: Rig) -> list[dict[str, Any]]:
    await rig.house.drain.drain()
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        answer = await rig.ask("GET", f"/api/v1/usage/records?limit=500{cursor}")
        found += answer.json()["items"]
        if not answer.json()["next_cursor"]:
            return found
        cursor = f"&cursor={answer.json()['next_cursor']}"
