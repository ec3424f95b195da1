"""Rules over the management API and in the data plane: who may call what, from where."""

import json
from typing import Any

import pytest

from tests.rig import Answer, Rig, start_rig

pytestmark = pytest.mark.shared_rig


async def _account(rig: Rig, name: str, key: str = "", **fields: Any) -> Any:
    answer = await rig.ask("POST", "/api/v1/accounts", {"name": name, **fields}, key=key)
    assert answer.status == 201, answer.body
    return answer.json()


async def _rules(
    rig: Rig, account: str, document: Any, method: str = "PUT", key: str = ""
) -> Answer:
    return await rig.ask(method, f"/api/v1/accounts/{account}/rules", document, key=key)


@pytest.mark.both
async def test_rules_are_written_shown_and_merged(rig: Rig):
    document = {
        "allow_models": ["gpt-4o*", "claude-*"],
        "limits": {"rpm": 60},
        "budget": {"day_usd": 5, "notify_at": 0.8},
    }
    written = await _rules(rig, rig.owner_id, document)
    assert written.status == 200
    assert written.json()["own"] == written.json()["effective"] == document
    team = await _account(rig, "team", rules={"allow_models": ["claude-*"], "limits": {"rpm": 10}})
    path = f"/api/v1/accounts/{team['account']['id']}/rules"
    shown = (await rig.ask("GET", path)).json()
    assert shown["own"] == {"allow_models": ["claude-*"], "limits": {"rpm": 10}}
    assert shown["effective"]["budget"] == {"day_usd": 5.0, "notify_at": 0.8}
    assert {"rule": "budget.day_usd", "account_id": rig.owner_id, "account": "acme"} in shown[
        "sources"
    ]
    patched = await rig.ask(
        "PATCH", path, {"limits": {"rpm": None, "rpd": 7}, "allow_models": None}
    )
    assert patched.json()["own"] == {"limits": {"rpd": 7}}
    assert patched.json()["effective"]["limits"] == {"rpm": 60, "rpd": 7}
    me = (await rig.ask("GET", "/api/v1/me", key=team["api_key"])).json()
    assert me["rules"]["effective"]["limits"] == {"rpm": 60, "rpd": 7}
    operations = (await rig.ask("GET", "/api/v1/operations")).json()["items"]
    [last] = [one for one in operations if one["verb"] == "rules.change"][:1]
    assert last["detail"]["before"]["limits"] == {"rpm": 10}
    assert last["detail"]["after"]["limits"] == {"rpd": 7}


@pytest.mark.parametrize(
    ("document", "code", "field"),
    [
        ({"allow_ips": ["10.0.0.0/33"]}, "invalid_field", "allow_ips"),
        ({"allow_ips": "10.0.0.0/8"}, "invalid_field", "allow_ips"),
        ({"allow_models": [""]}, "invalid_field", "allow_models"),
        ({"allow_models": ["a\u0000"]}, "invalid_field", "allow_models"),
        ({"allow_models": ["x" * 600]}, "invalid_field", "allow_models"),
        ({"allow_paths": ["v1"]}, "invalid_field", "allow_paths"),
        ({"allow_paths": ["/v1/../api"]}, "invalid_field", "allow_paths"),
        ({"allow_paths": ["/v1//chat"]}, "invalid_field", "allow_paths"),
        ({"allow_paths": ["/v1/*"]}, "invalid_field", "allow_paths"),
        ({"allow_levels": [0]}, "invalid_field", "allow_levels"),
        ({"allow_levels": ["1"]}, "invalid_field", "allow_levels"),
        ({"limits": {"rpm": -1}}, "invalid_field", "limits"),
        ({"limits": {"rpm": 1.5}}, "invalid_field", "limits"),
        ({"limits": {"rpy": 1}}, "unknown_field", "limits"),
        ({"budget": {"day_usd": -1}}, "invalid_field", "budget"),
        ({"budget": {"notify_at": 2}}, "invalid_field", "budget"),
        ({"model_map": {"a": "b*"}}, "invalid_field", "body"),
        ({"max_output_tokens": "many"}, "invalid_field", "max_output_tokens"),
        ({"deny_models": []}, "unknown_field", "deny_models"),
        ({"allow_models": [f"m-{n}*" for n in range(1500)]}, "invalid_field", "body"),
        ({"allow_models": ["m"] * 5000}, "invalid_field", "allow_models"),
    ],
)
async def test_a_wrong_document_is_refused_by_field_and_changes_nothing(
    rig: Rig, document: Any, code: str, field: str
):
    answer = await _rules(rig, rig.owner_id, document)
    assert (answer.status, answer.json()["code"]) == (422, code)
    assert any(name.split(".")[0] == field for name in answer.json()["fields"])
    assert (await rig.ask("GET", f"/api/v1/accounts/{rig.owner_id}/rules")).json()["own"] == {}


async def test_what_is_wider_than_above_is_refused_with_ancestor_and_rule(rig: Rig):
    await _rules(rig, rig.owner_id, {"allow_models": ["gpt-4o*"], "limits": {"tpd": 100}})
    team = await _account(rig, "team", can_manage=True)
    person = await _account(rig, "person", key=team["api_key"])
    for account in (team, person):
        for document in ({"allow_models": ["gpt-*"]}, {"limits": {"tpd": 101}}):
            answer = await _rules(rig, account["account"]["id"], document)
            assert (answer.status, answer.json()["code"]) == (422, "wider_than_parent")
            assert rig.owner_id in answer.json()["detail"]
            assert next(iter(answer.json()["fields"])) in ("allow_models", "limits.tpd")
    made = await rig.ask(
        "POST", "/api/v1/accounts", {"name": "x", "rules": {"allow_models": ["claude-*"]}}
    )
    assert made.json()["code"] == "wider_than_parent"
    # Moving below somebody narrower is a widening as well.
    narrow = await _account(rig, "narrow", rules={"allow_models": ["gpt-4o-mini"]})
    loose = await _account(rig, "loose", rules={"allow_models": ["gpt-4o*"]})
    moved = await rig.ask(
        "PATCH",
        f"/api/v1/accounts/{loose['account']['id']}",
        {"parent": narrow["account"]["id"]},
    )
    assert moved.json()["code"] == "wider_than_parent"


async def test_a_manager_steers_what_is_below_and_not_itself(rig: Rig):
    team = await _account(rig, "team", can_manage=True)
    person = await _account(rig, "person", key=team["api_key"])
    other = await _account(rig, "other")
    own, below, beside = (one["account"]["id"] for one in (team, person, other))
    assert (await _rules(rig, below, {"limits": {"rpm": 1}}, key=team["api_key"])).status == 200
    assert (await _rules(rig, own, {"limits": {}}, key=team["api_key"])).status == 404
    assert (await _rules(rig, beside, {"limits": {}}, key=team["api_key"])).status == 404
    shown = await rig.ask("GET", f"/api/v1/accounts/{own}/rules", key=team["api_key"])
    assert shown.status == 200
    assert (
        await rig.ask("GET", f"/api/v1/accounts/{beside}/rules", key=team["api_key"])
    ).status == 404
    assert (await _rules(rig, below, {}, key=person["api_key"])).status == 403


async def test_addresses_paths_models_and_output_bind_in_the_data_plane(tmp_path):
    rig = await start_rig(tmp_path, trusted_proxies=("127.0.0.0/8",))
    try:
        await rig.add_provider_key(models=["gpt-4o", "claude", "secret"])
        team = await _account(
            rig,
            "team",
            rules={
                "allow_ips": ["10.0.0.0/8", "2001:db8::/32"],
                "allow_paths": ["/v1/chat", "/v1/models", "/v1beta/models"],
                "allow_models": ["gpt-4o", "claude"],
                "max_output_tokens": 50,
            },
        )
        key = team["api_key"]

        async def code(path: str, body: Any, address: str = "10.1.2.3") -> Any:
            answer = await rig.ask("POST", path, body, key=key, x_forwarded_for=address)
            return answer.code if answer.status >= 400 else answer.status

        chat = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x"}]}
        assert await code("/v1/chat/completions", chat) == 200
        assert await code("/chat/completions", chat) == 200, "the canonical path is what counts"
        assert await code("/v1/chat/completions", chat, "192.0.2.1") == "ip_not_allowed"
        assert await code("/v1/chat/completions", chat, "2001:db8::1") == 200
        assert await code("/v1/chat/completions", chat, "::ffff:10.0.0.1") == 200
        assert await code("/v1/messages", {**chat, "max_tokens": 5}) == "path_not_allowed"
        assert (
            await code("/v1/chat/completions", {**chat, "model": "secret"}) == "model_not_allowed"
        )
        assert (
            await code("/v1/chat/completions", {**chat, "max_tokens": 51}) == "output_not_allowed"
        )
        assert await code("/v1/chat/completions", {**chat, "max_tokens": 50}) == 200
        gemini = {"contents": [], "generationConfig": {"maxOutputTokens": 9999}}
        path = "/v1beta/models/gpt-4o:generateContent"
        assert await code(path, gemini) == "output_not_allowed"
        assert await code("/v1beta/models/secret:generateContent", {}) == "model_not_allowed"
        listed = await rig.ask("GET", "/v1/models", key=key, x_forwarded_for="10.0.0.1")
        assert [one["id"] for one in listed.json()["data"]] == ["claude", "gpt-4o"]
        away = await rig.ask("GET", "/v1/models", key=key, x_forwarded_for="192.0.2.1")
        assert (away.status, away.code) == (403, "ip_not_allowed")
        me = await rig.ask("GET", "/api/v1/me", key=key, x_forwarded_for="192.0.2.1")
        assert (me.status, me.json()["code"]) == (403, "ip_not_allowed")
        refused = [r for r in await rig.records() if r["outcome"] == "refused"]
        assert {r["error_code"] for r in refused} == {
            "ip_not_allowed",
            "path_not_allowed",
            "model_not_allowed",
            "output_not_allowed",
        }
        assert all(r["attempts"] == 0 and r["cost_usd"] == 0 for r in refused)
        models = {
            r.json().get("model") for r in rig.standin.requests if r.method == "POST" and r.body
        }
        assert "secret" not in models
    finally:
        await rig.stop()


async def test_a_parent_that_tightens_binds_its_descendants_at_the_next_call(rig: Rig):
    await rig.add_provider_key()
    team = await _account(rig, "team", can_manage=True)
    person = await _account(rig, "person", key=team["api_key"])
    assert (await rig.chat(key=person["api_key"])).status == 200
    await _rules(rig, team["account"]["id"], {"allow_models": ["other"]})
    answer = await rig.chat(key=person["api_key"])
    assert (answer.status, answer.code) == (403, "model_not_allowed")
    assert "“team”" in answer.json()["error"]["message"]
    await _rules(rig, rig.owner_id, {"allow_paths": []})
    answer = await rig.chat(key=person["api_key"])
    assert answer.code == "path_not_allowed"


async def test_nobody_locks_themselves_out(rig: Rig):
    answer = await _rules(rig, rig.owner_id, {"allow_ips": ["10.0.0.0/8"]})
    assert (answer.status, answer.json()["code"]) == (422, "invalid_field")
    assert (await _rules(rig, rig.owner_id, {"allow_ips": ["127.0.0.0/8"]})).status == 200
    assert (await rig.ask("GET", "/api/v1/me")).status == 200


async def test_models_are_mapped_before_they_go_out(rig: Rig):
    await rig.add_provider_key(models=["new", "old"])
    team = await _account(rig, "team", rules={"model_map": {"ol*": "new"}})
    assert (await rig.chat("old", key=team["api_key"])).status == 200
    [sent] = [r for r in rig.standin.requests if r.method == "POST"]
    assert sent.json()["model"] == "new"
    record = await rig.record()
    assert (record["model_asked"], record["model_used"]) == ("old", "new")
    await _rules(rig, team["account"]["id"], {"allow_models": ["old"]}, "PATCH")
    assert (await rig.chat("old", key=team["api_key"])).code == "model_not_allowed"


async def test_routing_is_the_owner_s_and_steers_levels_and_failover(rig: Rig):
    for level, secret in ((1, "sk-one-0123456789abcdefgh"), (2, "sk-two-0123456789abcdefgh")):
        await rig.add_provider_key(
            name=f"l{level}", level=level, secret=secret, models=["m", "spare"]
        )
    document = {
        "level_map": {"m": 2},
        "switch_over": {"2": [1]},
        "model_failover": {"m": ["spare"]},
    }
    put = await rig.ask("PUT", "/api/v1/routing", document)
    assert (put.status, put.json()) == (200, document)
    assert (await rig.ask("GET", "/api/v1/routing")).json() == document
    await rig.chat("m")
    assert rig.standin.requests[-1].secret.startswith("sk-two")
    rig.standin.failing = {"sk-two-0123456789abcdefgh": "fault-500"}
    answer = await rig.chat("m")
    assert (answer.status, answer.headers["x-xairouter-attempts"]) == (200, "2")
    assert rig.standin.requests[-1].secret.startswith("sk-one")
    rig.standin.failing = dict.fromkeys(
        ("sk-two-0123456789abcdefgh", "sk-one-0123456789abcdefgh"), "fault-500"
    )
    assert (await rig.chat("m")).status == 500
    tried = [(r.secret[:6], r.json()["model"]) for r in rig.standin.requests[-3:]]
    assert sorted(tried) == [("sk-one", "m"), ("sk-one", "spare"), ("sk-two", "m")]
    team = await _account(rig, "team", can_manage=True)
    assert (await rig.ask("PUT", "/api/v1/routing", {}, key=team["api_key"])).status == 403


@pytest.mark.parametrize(
    "document",
    [
        {"level_map": {"m": 0}},
        {"level_map": {"": 1}},
        {"switch_over": {"x": [1]}},
        {"switch_over": {"1": ["2"]}},
        {"model_failover": {"m": "n"}},
        {"model_failover": {"m": ["n*"]}},
        {"nothing": 1},
    ],
)
async def test_a_wrong_routing_document_is_refused(rig: Rig, document: Any):
    answer = await rig.ask("PUT", "/api/v1/routing", document)
    assert answer.status == 422, json.dumps(answer.json())
    assert answer.json()["code"] in ("invalid_field", "unknown_field")
    assert (await rig.ask("GET", "/api/v1/routing")).json()["level_map"] == {}


async def test_a_query_that_names_a_model_is_refused(rig: Rig):
    await rig.add_provider_key()
    bound = (await _account(rig, "bound", rules={"allow_models": ["m"]}))["api_key"]
    body = {"model": "m", "messages": []}
    for query in ("model=other", "deployment_id=other", "%6dodels[]=other", "file_id=f"):
        path = f"/v1/chat/completions?{query}"
        for key in (bound, rig.key):
            refused = await rig.ask("POST", path, body, key=key)
            assert (refused.status, refused.code) == (400, "invalid_request"), query
    path = "/v1/chat/completions?api-version=preview"
    assert (await rig.ask("POST", path, body, key=bound)).status == 200
