"""The check-up of a provider key, and keeping what it found fresh, at no cost in tokens."""

import asyncio
import json

import pytest

from tests.rig import SECRET, Rig, start_rig
from xairouter.manage.refresh import REFRESH_SECONDS
from xairouter.standin.faults import Reply

pytestmark = pytest.mark.shared_rig


def _serve(rig: Rig, **documents: dict) -> None:
    """Let the stand-in answer GETs by the end of their path."""
    rig.standin.documents = {f"/{name.replace('__', '/')}": doc for name, doc in documents.items()}


async def _add(rig: Rig, provider: str, secret: str = SECRET, **fields) -> dict:
    answer = await rig.ask(
        "POST",
        "/api/v1/provider-keys",
        {
            "name": provider,
            "provider": provider,
            "secret": secret,
            "endpoints": rig.endpoints("openai_chat"),
            **fields,
        },
    )
    assert answer.status == 201, answer.body
    return answer.json()


@pytest.mark.parametrize(
    ("provider", "path", "document", "expected"),
    [
        (
            "openrouter",
            "key",
            {
                "data": {
                    "label": "sk-or-…abc",
                    "limit": 10,
                    "limit_remaining": 7.5,
                    "usage": 2.5,
                    "is_free_tier": False,
                }
            },
            {
                "key": "sk-or-…abc",
                "credit_limit": 10,
                "credit_left": 7.5,
                "used": 2.5,
                "free_tier": False,
            },
        ),
        (
            "deepseek",
            "user__balance",
            {"is_available": True, "balance_infos": [{"currency": "USD", "total_balance": "4.20"}]},
            {"balance": "4.20", "currency": "USD", "usable": True},
        ),
        (
            "moonshot",
            "users__me__balance",
            {"data": {"available_balance": 49.5}},
            {"balance": 49.5},
        ),
        (
            "siliconflow",
            "user__info",
            {"data": {"name": "me", "totalBalance": "8", "status": "normal"}},
            {"account": "me", "balance": "8", "status": "normal"},
        ),
        (
            "xai",
            "api-key",
            {"name": "ci", "team_id": "t1", "acls": ["api-key:model:*"], "api_key_blocked": False},
            {"key": "ci", "team": "t1", "may": ["api-key:model:*"], "blocked": False},
        ),
    ],
)
async def test_what_a_provider_tells_of_the_account_is_shown(
    rig: Rig, provider: str, path: str, document: dict, expected: dict
):
    _serve(rig, **{path: document})
    checkup = (await _add(rig, provider))["checkup"]
    assert checkup["state"] == "ok"
    assert checkup["account"] == expected
    assert checkup["models_found"] == 3
    assert {request.method for request in rig.standin.requests} == {"GET"}


async def test_whose_key_it_is_and_its_limits_come_from_reply_headers(rig: Rig):
    rig.standin.scripted = Reply(
        200,
        (
            ("content-type", "application/json"),
            ("openai-organization", "org-acme"),
            ("openai-project", "proj_blue"),
            ("x-ratelimit-limit-requests", "500"),
            ("x-ratelimit-limit-tokens", "30000"),
            ("x-ratelimit-remaining-requests", "499"),
        ),
        json.dumps({"data": [{"id": "gpt-4o"}]}).encode(),
    )
    checkup = (await _add(rig, "openai"))["checkup"]
    assert checkup["account"] == {"organization": "org-acme", "project": "proj_blue"}
    assert checkup["limits"] == {
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-limit-tokens": "30000",
    }


@pytest.mark.parametrize(
    ("provider", "secret", "warned"),
    [
        ("openai", "sk-admin-0123456789abcdefgh", True),
        ("openai", "sk-proj-0123456789abcdefgh", False),
        ("openai", "sk-svcacct-0123456789abcdefgh", False),
        ("openai", "sk-0123456789abcdefgh0123", True),
        ("deepseek", "sk-0123456789abcdefgh0123", False),
        ("anthropic", "sk-ant-admin01-0123456789abcd", True),
    ],
)
async def test_a_key_that_may_too_much_is_named_as_such(rig: Rig, provider, secret, warned):
    dialect = "anthropic_messages" if provider == "anthropic" else "openai_chat"
    made = await _add(rig, provider, secret, endpoints=rig.endpoints(dialect))
    assert bool(made["checkup"]["warnings"]) is warned
    assert secret not in json.dumps(made)


async def test_a_management_key_is_named_where_the_provider_tells(rig: Rig):
    _serve(rig, key={"data": {"label": "x", "is_provisioning_key": True}})
    assert "administration" in (await _add(rig, "openrouter"))["checkup"]["warnings"][0]
    _serve(rig, key={"data": {"label": "x", "is_provisioning_key": False}})
    assert (await _add(rig, "openrouter"))["checkup"]["warnings"] == []


HOSTILE = {
    "a hundred thousand names": [{"id": f"m-{n}"} for n in range(100_000)],
    "one name, very often": [{"id": "m-0"}] * 50_000,
    "script": [{"id": "<script>alert(1)</script>"}, {"id": "m-0"}],
    "very long names": [{"id": "x" * 600}, {"id": "y" * 1_000_000}, {"id": "m-0"}],
    "ten megabytes of a name": [{"id": "z" * 10_000_000}],
    "patterns": [{"id": "*"}, {"id": "m-*"}, {"id": "m-0"}],
    "no names": [{"id": 7}, {"id": None}, "m-0", 5, {}, [], {"id": ""}],
    "zero characters": [{"id": "m\u0000x"}, {"id": "m-0"}],
}


@pytest.mark.parametrize("what", HOSTILE)
async def test_a_hostile_list_of_models_fills_nothing_and_runs_nothing(rig: Rig, what: str):
    body = json.dumps({"data": HOSTILE[what]}).encode()
    head = (("content-type", "application/json"),)
    rig.standin.scripted = Reply(200, head, body)
    made = await _add(rig, "openai", "sk-proj-0123456789abcdefgh")
    assert made["checkup"]["state"] == "ok"
    found = made["discovered_models"]
    if what == "ten megabytes of a name":
        assert found is None
        assert made["checkup"]["why"] == "Its list of models cannot be read."
        return
    assert len(found) <= 5000
    assert len(set(found)) == len(found)
    assert all(0 < len(name) <= 256 and "*" not in name for name in found)
    shown = await rig.ask("GET", "/v1/models")
    assert shown.status == 200
    assert len(shown.json()["data"]) == len(found)
    stored = (await rig.ask("GET", f"/api/v1/provider-keys/{made['id']}")).json()
    assert len(stored["discovered_models"]) == len(found)


@pytest.mark.both
async def test_a_check_up_that_hangs_ends_and_the_key_is_stored(rig: Rig, monkeypatch):
    from xairouter.manage import probe

    monkeypatch.setattr(probe, "_WHOLE_SECONDS", 0.3)
    rig.standin.failing = {SECRET: "fault-timeout"}
    made = await _add(rig, "openai")
    assert made["checkup"]["state"] == "unreached"
    assert "too long" in made["checkup"]["why"]
    assert [key["id"] for key in await _keys(rig)] == [made["id"]]
    rig.standin.failing = {SECRET: "fault-drip"}
    monkeypatch.setattr(probe, "_WHOLE_SECONDS", 0.05)
    tested = await rig.ask("POST", f"/api/v1/provider-keys/{made['id']}/test")
    assert tested.json()["checkup"]["state"] in ("unreached", "ok")


async def _keys(rig: Rig) -> list[dict]:
    return (await rig.ask("GET", "/api/v1/provider-keys")).json()["items"]


async def test_a_wrong_secret_is_refused_and_nothing_is_stored(rig: Rig):
    rig.standin.rejected.add(SECRET)
    answer = await rig.ask(
        "POST",
        "/api/v1/provider-keys",
        {
            "name": "x",
            "provider": "openai",
            "secret": SECRET,
            "endpoints": rig.endpoints("openai_chat"),
        },
    )
    assert (answer.status, answer.json()["code"]) == (422, "provider_key_rejected")
    assert SECRET.encode() not in answer.body
    assert await _keys(rig) == []


async def test_a_fact_that_is_not_told_spoils_nothing(rig: Rig):
    rig.standin.documents = {}
    checkup = (await _add(rig, "openrouter"))["checkup"]
    assert (checkup["state"], checkup["account"]) == ("ok", {})


async def test_an_openai_key_and_an_anthropic_key_need_no_routing(rig: Rig):
    openai, anthropic = "sk-oai-0123456789abcdefgh", "sk-ant-0123456789abcdefgh"
    _serve(rig, models={"data": [{"id": "gpt-4o"}]})
    await _add(rig, "openai", openai)
    _serve(rig, models={"data": [{"id": "claude-sonnet-4-5"}]})
    await _add(
        rig, "anthropic", anthropic, endpoints=rig.endpoints("anthropic_messages", "openai_chat")
    )
    rig.standin.documents = {}
    for model, secret in (("gpt-4o", openai), ("claude-sonnet-4-5", anthropic)):
        assert (await rig.chat(model)).status == 200
        assert rig.standin.requests[-1].secret == secret
    names = [m["id"] for m in (await rig.ask("GET", "/v1/models")).json()["data"]]
    assert names == ["claude-sonnet-4-5", "gpt-4o"]


def _make_due(rig: Rig, key: dict) -> None:
    """An hour passes since the key was last asked about."""
    refresher = rig.house.refresher
    refresher._asked_at[key["id"]] = refresher._seconds() - REFRESH_SECONDS


async def _refresh_with_open_vault(rig: Rig) -> int:
    """Every change closes its owner's vaults, once more when the change log is read; so again."""
    for _ in range(20):
        assert (await rig.ask("GET", "/api/v1/me")).status == 200, "which opens the vault"
        if count := await rig.house.refresher.refresh():
            return count
        await asyncio.sleep(0.1)
    return 0


@pytest.mark.both
async def test_models_are_refreshed_while_the_vault_is_open(rig: Rig):
    key = await _add(rig, "openai")
    assert (await rig.ask("GET", "/api/v1/me")).status == 200
    assert await rig.house.refresher.refresh() == 0, "nothing is due yet"
    _serve(rig, models={"data": [{"id": "gpt-new"}]})
    _make_due(rig, key)
    assert await _refresh_with_open_vault(rig) == 1
    assert (await rig.ask("GET", "/api/v1/me")).status == 200
    assert await rig.house.refresher.refresh() == 0
    shown = (await rig.ask("GET", f"/api/v1/provider-keys/{key['id']}")).json()
    assert shown["discovered_models"] == ["gpt-new"]
    rig.standin.documents = {}
    rig.standin.rejected.add(SECRET)
    _make_due(rig, key)
    assert await _refresh_with_open_vault(rig) == 1
    shown = (await rig.ask("GET", f"/api/v1/provider-keys/{key['id']}")).json()
    assert shown["health"]["state"] == "rejected"
    newest = (await rig.ask("GET", "/api/v1/operations")).json()["items"][0]
    assert (newest["actor"], newest["verb"]) == ("refresh", "provider_keys.refresh")


async def test_a_closed_vault_is_refreshed_only_under_a_grant(tmp_path):
    rig = await start_rig(tmp_path, automation_secret="automation-" + "x" * 32)
    try:
        key = await _add(rig, "openai")
        _make_due(rig, key)
        rig.house.room.forget_owner(rig.owner_id)
        assert await rig.house.refresher.refresh() == 0
        assert (await rig.ask("POST", "/api/v1/vault/grants")).status == 201
        rig.house.room.forget_owner(rig.owner_id)
        assert await rig.house.refresher.refresh() == 1
        assert rig.house.room.at_hand(rig.owner_id) is None, "unattended work leaves nothing open"
    finally:
        await rig.stop()


async def test_unattended_work_makes_a_vault_no_younger(rig: Rig):
    assert (await rig.ask("GET", "/api/v1/me")).status == 200
    room = rig.house.room
    [entry] = room._open.values()
    before = (entry.used_at, entry.opened_at)
    assert room.at_hand(rig.owner_id) is entry.vault
    assert (entry.used_at, entry.opened_at) == before
