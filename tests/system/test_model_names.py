"""Model names of every kind reach a provider as they are, whichever dialect they are named in."""

import json
import string
from urllib.parse import quote

import pytest

from tests.rig import Rig
from xairouter.domain.calls import LONGEST_MODEL

NAMES = [
    *(f"gemini{mark}1" for mark in string.punctuation if mark not in "/\\"),
    *("a@b:c", "tuned:a:b", "org/gemini@001", "a%2Fb", "a%b", "gémini", "模型", "😀"),
]


@pytest.fixture
async def ready(rig: Rig) -> Rig:
    await rig.add_provider_key()
    return rig


async def test_a_gemini_model_s_name_arrives_as_it_is(ready: Rig):
    body = json.dumps({"contents": [{"parts": [{"text": "hi"}]}]}).encode()
    for name in NAMES:
        for path in {quote(name, safe="/"), quote(name, safe="/:@")}:
            answer = await ready.raw(
                b"POST /v1beta/models/%b:generateContent HTTP/1.1\r\nhost: x\r\n"
                b"x-goog-api-key: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (path.encode(), ready.key.encode(), len(body), body)
            )
            assert answer.startswith(b"HTTP/1.1 200"), (name, answer)
            assert ready.standin.requests[-1].path.endswith(f"/models/{name}:generateContent")


@pytest.mark.parametrize(
    "name", ["a\\b", "a b", "a\tb", "a\nb", "a\0b", "..", ".", "a//b", "a/../b"]
)
async def test_a_name_that_cannot_stand_in_a_path_reaches_nobody(ready: Rig, name: str):
    answer = await ready.raw(
        b"POST /v1beta/models/%b:generateContent HTTP/1.1\r\nhost: x\r\nx-goog-api-key: %b\r\n"
        b"content-length: 2\r\nconnection: close\r\n\r\n{}"
        % (quote(name, safe="/").encode(), ready.key.encode())
    )
    assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400")), answer
    assert ready.standin.requests == []


# --- lengths

MOST = "m" * LONGEST_MODEL
LONGER = MOST + "m"
BODIES = {
    "/v1/chat/completions": '{"model": "%s", "messages": []}',
    "/v1/completions": '{"model": "%s", "prompt": "a"}',
    "/v1/embeddings": '{"model": "%s", "input": "a"}',
    "/v1/responses": '{"model": "%s", "input": "a"}',
    "/v1/messages": '{"model": "%s", "max_tokens": 1, "messages": []}',
    "/v1beta/models/%s:generateContent": '{"contents": []}',
}
OTHERS = {
    "/v1/chat/completions": '{"model": "m", "messages": [], "models": ["%s"]}',
    "/v1/responses": '{"model": "m", "input": "a", "tools": [{"type": "t", "model": "%s"}]}',
    "/v1/messages": '{"model": "m", "max_tokens": 1, "fallbacks": [{"model": "%s"}]}',
}


@pytest.mark.parametrize("path", BODIES)
async def test_a_name_longer_than_any_model_s_is_400(ready: Rig, path: str):
    cases = [(BODIES, path)] + [(OTHERS, path)] * (path in OTHERS)
    for bodies, where in cases:
        for name, status in ((MOST, 200), (LONGER, 400), ("m" * 10_000, 400)):
            if len(name) > 1000 and "%s" in path:
                continue  # A longer head is refused as such.
            target = where.replace("%s", name)
            body = bodies[where].replace("%s", name).encode()
            answer = await ready.ask("POST", target, body)
            assert answer.status == status, (bodies[where], len(name), answer.body[:300])
            if status == 400:
                assert answer.code == "invalid_request"
                assert str(LONGEST_MODEL).encode() in answer.body
    for name, code in ((MOST, "model_not_found"), (LONGER, "invalid_request")):
        assert (await ready.ask("GET", f"/v1/models/{name}")).code == code


async def test_what_is_written_has_the_same_limit(rig: Rig):
    key = await rig.add_provider_key(models=[MOST])
    accounts = f"/api/v1/accounts/{rig.owner_id}/rules"
    for name, wide in ((MOST, True), (LONGER, False)):
        for method, path, body in (
            ("PATCH", f"/api/v1/provider-keys/{key['id']}", {"models": [name]}),
            ("PATCH", accounts, {"allow_models": [name]}),
            ("PATCH", accounts, {"model_map": {name: "m"}}),
            ("PATCH", accounts, {"model_map": {"m": name}}),
            ("PUT", "/api/v1/routing", {"model_failover": {"m": [name]}}),
            ("POST", "/api/v1/explain", {"model": name}),
        ):
            answer = await rig.ask(method, path, body)
            if wide:
                assert answer.status == 200, (path, body, answer.body[:300])
            else:
                assert (answer.status, answer.code) == (422, "invalid_field"), (path, body)
    assert (await rig.chat(MOST)).status in (200, 403)
