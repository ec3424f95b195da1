"""What a sub-account makes an honest provider answer is its own affair: the owner's key goes on serving."""

import json
from typing import Any

import pytest

from tests.rig import Rig
from xairouter.standin.faults import Reply

pytestmark = pytest.mark.shared_rig

CHAT = ("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "x"}]})
MESSAGES = ("/v1/messages", {"model": "m", "max_tokens": 5, "messages": []})
GENERATE: tuple[str, dict[str, Any]] = ("/v1beta/models/m:generateContent", {"contents": []})


async def _rejections(rig: Rig) -> list[dict]:
    notices = (await rig.ask("GET", "/api/v1/notices")).json()["items"]
    return [one for one in notices if one["kind"] == "key_rejected"]


def _refusal(path: str, field: str) -> dict:
    """How each provider words its 400 for a field that it does not know."""
    if path == MESSAGES[0]:
        error = {"type": "invalid_request_error", "message": f"{field}: Extra inputs are denied"}
        return {"type": "error", "error": error}
    if path == GENERATE[0]:
        said = f'Invalid JSON payload received. Unknown name "{field}": Cannot find field.'
        return {"error": {"code": 400, "message": said, "status": "INVALID_ARGUMENT"}}
    said = f"Unknown parameter: '{field}'."
    return {"error": {"message": said, "param": field, "code": "unknown_parameter"}}


@pytest.mark.parametrize(
    ("provider", "call", "field"),
    [
        ("gemini", GENERATE, "API_KEY_INVALID"),
        ("openai", CHAT, "billing_not_active"),
        ("openai", CHAT, "billing_hard_limit_reached"),
        ("anthropic", MESSAGES, "credit balance is too low"),
        ("anthropic", MESSAGES, "Your credit balance is too low to purchase credits."),
        ("xai", CHAT, "credit balance is too low"),
    ],
)
async def test_an_unknown_field_s_name_takes_no_key_out(rig: Rig, provider, call, field):
    path, body = call
    made = await rig.add_account()
    key = await rig.add_provider_key(provider=provider)
    rig.standin.scripted = Reply(
        400,
        (("content-type", "application/json"),),
        json.dumps(_refusal(path, field)).encode(),
    )
    answer = await rig.ask("POST", path, {**body, field: 1}, key=made["api_key"])
    assert (answer.status, answer.headers["x-xairouter-origin"]) == (400, "provider")
    rig.standin.scripted = None
    assert (await rig.chat()).status == 200
    shown = (await rig.ask("GET", f"/api/v1/provider-keys/{key['id']}")).json()
    assert shown["health"]["state"] == "ok"


async def test_a_401_that_one_call_brings_upon_itself_reaches_its_caller_only(rig: Rig):
    made = await rig.add_account()
    key = await rig.add_provider_key()
    for _ in range(4):
        answer = await rig.chat("fault-401", key=made["api_key"])
        assert (answer.status, answer.code) == (502, "provider_key_rejected")
        assert (await rig.chat()).status == 200, "before the provider was asked once more"
        assert await rig.house.refresher.confirm() == 0
        assert (await rig.chat()).status == 200, "and after"
    shown = (await rig.ask("GET", f"/api/v1/provider-keys/{key['id']}")).json()
    assert shown["health"]["state"] == "ok"
    assert await _rejections(rig) == []


@pytest.mark.parametrize(("provider", "status"), [("", 404), ("zhipu", 200)])
async def test_a_check_up_that_did_not_look_at_the_key_refutes_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, provider: str, status: int
):
    """A list of models that does not exist is none that the provider shows to this key."""
    await rig.add_provider_key(**({"provider": provider} if provider else {}))
    with monkeypatch.context() as patch:
        # Nobody asks before the answer is set.
        patch.setattr(rig.house.health, "take_rejected", list)
        assert (await rig.chat("fault-401")).code == "provider_key_rejected"
        rig.standin.scripted = Reply(status, (("content-type", "application/json"),), b"{}")
    assert await rig.house.refresher.confirm() == 0
    before = len(rig.standin.requests)
    assert (await rig.chat()).code == "provider_key_rejected"
    assert len(rig.standin.requests) == before, "it sleeps"
    assert await _rejections(rig) == []


async def test_a_key_that_may_not_do_one_thing_serves_the_rest(rig: Rig):
    """OpenAI's restricted keys, of which a 401 says which scopes they lack."""
    await rig.add_provider_key(provider="openai")
    scopes = {
        "message": "You have insufficient permissions for this operation. Missing scopes: "
        "api.model.read. Check that you have the correct role in your organization.",
        "type": "invalid_request_error",
    }
    rig.standin.scripted = Reply(
        401, (("content-type", "application/json"),), json.dumps({"error": scopes}).encode()
    )
    refused = await rig.chat()
    assert (refused.status, b"Missing scopes" in refused.body) == (401, True)
    key = (await rig.ask("GET", "/api/v1/provider-keys")).json()["items"][0]
    tested = (await rig.ask("POST", f"/api/v1/provider-keys/{key['id']}/test")).json()
    assert (tested["checkup"]["state"], tested["checkup"]["status"]) == ("ok", 401)
    assert await rig.house.refresher.confirm() == 0
    rig.standin.scripted = None
    assert (await rig.chat()).status == 200
    assert await _rejections(rig) == []
