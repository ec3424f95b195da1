"""Objects that a value names by its scheme, and text that an error shows."""

import json
from typing import Any

import pytest

from tests.rig import Rig
from xairouter.dialects.named import Named, find_in_steps, find_named
from xairouter.domain.steps import at_once
from xairouter.standin.faults import Reply

pytestmark = pytest.mark.shared_rig
CHAT = "/v1/chat/completions"


def chat(*messages: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 5, "messages": list(messages)}


def part(kind: str, url: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": kind, kind: {"url": url}}]}


NAMED: dict[str, tuple[Any, str]] = {
    "film of Moonshot": (part("video_url", "ms://file-abc"), "ms://file-abc"),
    "image of Moonshot": (part("image_url", "ms://file-abc"), "ms://file-abc"),
    "bucket": (part("image_url", "gs://bucket/x"), "gs://bucket/x"),
    "file of Qwen": ({"role": "system", "content": "fileid://file-1"}, "fileid://file-1"),
    "file of Qwen in a part": (
        {"role": "system", "content": [{"type": "text", "text": "fileid://file-1"}]},
        "fileid://file-1",
    ),
    "cache of Moonshot": ({"role": "cache", "content": "cache_id=c"}, "cache"),
}
NAMELESS = [
    part("image_url", "https://example.com/gs://x"),
    {"role": "user", "content": 'see ms://file and gs://bucket; "url": "gs://b"'},
    {"role": "user", "content": "gs://bucket/x"},
    {"role": "user", "content": "caf\u00e9 \u0026 cache", "name": "cache"},
]


@pytest.mark.parametrize("kind", NAMED)
@pytest.mark.parametrize("pad", [0, 100_000])
def test_what_a_value_names_is_seen(kind: str, pad: int):
    message, name = NAMED[kind]
    whole = chat({"role": "user", "content": "x" * pad}, message)
    text = json.dumps(whole)
    for body in (text, text.replace("/", "\\/"), json.dumps(whole, separators=(",", ":"))):
        for found in (
            find_named("openai_chat", body.encode()),
            at_once(find_in_steps("openai_chat", body.encode())),
        ):
            assert isinstance(found, Named)
            assert found.objects == [name]


@pytest.mark.parametrize("message", NAMELESS)
def test_text_that_looks_like_a_name_is_none(message: Any):
    found = find_named("openai_chat", json.dumps(chat(message)).encode())
    assert isinstance(found, Named)
    assert found.objects == []


def test_an_address_in_escapes_is_taken_for_a_name():
    body = json.dumps(chat(part("image_url", "ms://file"))).replace("ms:", r"\u006ds:")
    found = find_named("openai_chat", body.encode())
    assert isinstance(found, Named)
    assert found.objects


async def test_a_sub_account_names_no_object_of_another_by_a_value(rig: Rig):
    await rig.add_provider_key()
    key = (await rig.add_account("red"))["api_key"]
    for message, _ in NAMED.values():
        refused = await rig.ask("POST", CHAT, chat(message), key=key)
        assert (refused.status, refused.code) == (404, "object_not_found")
        assert (await rig.ask("POST", CHAT, chat(message))).status == 200, "the owner's own"
    for message in NAMELESS:
        assert (await rig.ask("POST", CHAT, chat(message), key=key)).status == 200


async def test_an_error_that_shows_what_was_generated_counts_as_reserved(rig: Rig):
    await rig.ask("PUT", "/api/v1/prices", {"*": {"input": 1000, "output": 2000}})
    await rig.add_provider_key()
    await rig.ask("PUT", f"/api/v1/accounts/{rig.owner_id}/rules", {"budget": {"day_usd": 100}})
    asked = {"model": "m", "max_tokens": 300, "messages": [{"role": "user", "content": "a"}]}
    for text, counts in (("", False), ("word " * 10, True)):
        error = {"message": "m", "code": "json_validate_failed", "failed_generation": text}
        body = json.dumps({"error": error}).encode()
        rig.standin.scripted = Reply(400, (("content-type", "application/json"),), body)
        answer = await rig.ask("POST", CHAT, asked)
        assert (answer.status, answer.body) == (400, body)
        record = (await rig.records(expect=1 + counts))[0]
        assert (record["usage_source"] == "estimated") is counts
        assert (record["cost_usd"] or 0) < 1
    me = (await rig.ask("GET", "/api/v1/me")).json()
    assert "0.6" in json.dumps(me), me
