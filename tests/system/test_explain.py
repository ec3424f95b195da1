"""Explain says what would happen: the same verdict as the pipeline's, for anybody within reach."""

import random
from typing import Any

import pytest

from tests.rig import Rig
from tests.system.test_limits import PRICES
from xairouter.manage.rules import compiled
from xairouter.policy.rules import effective, wider_than
from xairouter.storage import owners

pytestmark = pytest.mark.shared_rig


async def _explain(rig: Rig, key: str = "", **asked: Any) -> Any:
    answer = await rig.ask("POST", "/api/v1/explain", asked, key=key)
    assert answer.status == 200, answer.body
    return answer.json()


async def test_every_rule_says_something_and_the_plan_has_reasons(rig: Rig):
    await rig.add_provider_key(name="a", models=["gpt-4o", "spare"])
    await rig.add_provider_key(name="b", models=["gpt-4o"], level=2)
    await rig.ask(
        "PUT",
        "/api/v1/routing",
        {"switch_over": {"1": [2]}, "model_failover": {"gpt-4o": ["spare"]}},
    )
    told = await _explain(rig, model="gpt-4o")
    assert (told["allowed"], told["code"]) == (True, None)
    assert [one["rule"] for one in told["rules"]] == [
        "known_path",
        "key",
        "expiry",
        "suspension",
        "allow_ips",
        "allow_paths",
        "model_named",
        "allow_models",
        "routes",
        "allow_levels",
        "max_output_tokens",
        "concurrency",
        "requests",
        "tokens",
        "budget",
        "sleeping_keys",
    ]
    assert [(one["name"], one["model"], one["why"]) for one in told["plan"]] == [
        ("a", "gpt-4o", "level 1"),
        ("b", "gpt-4o", "level 2, by switch_over"),
        ("a", "spare", "level 1, by model_failover"),
    ]


async def test_the_deciding_rule_is_named_with_its_account_and_the_others_are_heard(rig: Rig):
    await rig.add_provider_key(models=["gpt-4o", "claude"])
    team = await rig.add_account(
        "team",
        rules={"allow_models": ["claude"], "allow_paths": ["/v1/messages"], "max_output_tokens": 5},
    )
    told = await _explain(rig, account=team["account"]["id"], model="gpt-4o", max_output_tokens=9)
    said = {one["rule"]: one for one in told["rules"]}
    assert (told["allowed"], told["code"]) == (False, "path_not_allowed")
    assert said["allow_paths"]["source"] == team["account"]["id"]
    assert [r for r, one in said.items() if one["verdict"] == "deny"] == [
        "allow_paths",
        "allow_models",
        "max_output_tokens",
    ]
    assert said["key"]["verdict"] == "pass"


@pytest.mark.both
async def test_a_call_that_was_made_is_explained_beside_what_became_of_it(rig: Rig):
    await rig.add_provider_key(models=["m"])
    team = await rig.add_account("team", rules={"allow_models": ["m"]})
    refused = await rig.chat("other", key=team["api_key"])
    call_id = refused.headers["x-xairouter-call-id"]
    await rig.records(expect=1)
    told = await _explain(rig, call_id=call_id)
    assert told["code"] == told["call"]["error_code"] == "model_not_allowed"
    assert told["account_id"] == team["account"]["id"]
    other = await rig.new_owner("other")
    answer = await rig.ask("POST", "/api/v1/explain", {"call_id": call_id}, key=other.api_key)
    assert answer.status == 404


async def test_who_may_ask_about_whom(rig: Rig):
    await rig.add_provider_key()
    team = await rig.add_account("team", can_manage=True)
    person = await rig.add_account("person", key=team["api_key"])
    beside = await rig.add_account("beside")
    ids = {one["account"]["name"]: one["account"]["id"] for one in (team, person, beside)}
    assert (await _explain(rig, key=person["api_key"], model="m"))["allowed"]
    assert (await _explain(rig, key=team["api_key"], account=ids["person"], model="m"))["allowed"]
    for key, account in ((team, "beside"), (person, "team"), (person, "beside")):
        asked = {"account": ids[account], "model": "m"}
        answer = await rig.ask("POST", "/api/v1/explain", asked, key=key["api_key"])
        assert answer.status == 404, (account, answer.body)


async def test_time_and_address_can_be_others(rig: Rig):
    await rig.add_provider_key()
    team = await rig.add_account("team", rules={"allow_ips": ["10.0.0.0/8"]})
    account = team["account"]["id"]
    made = await rig.ask(
        "POST",
        f"/api/v1/accounts/{account}/keys",
        {"name": "soon over", "expires_at": "2030-01-01T00:00:00Z"},
    )
    key = made.json()["key"]["id"]
    assert (await _explain(rig, key_id=key, model="m", ip="10.1.1.1"))["allowed"]
    assert (await _explain(rig, key_id=key, model="m", ip="8.8.8.8"))["code"] == "ip_not_allowed"
    unsaid = await _explain(rig, key_id=key, model="m")
    assert unsaid["allowed"]
    assert "not_asked" in {one["verdict"] for one in unsaid["rules"] if one["rule"] == "allow_ips"}
    late = await _explain(rig, key_id=key, model="m", ip="10.1.1.1", at="2031-01-01T00:00:00Z")
    assert late["code"] == "api_key_expired"


MODELS = ["gpt-4o", "claude", "local-1", "none", "old"]
PATHS = ["/v1/chat/completions", "/v1/messages", "/v1/embeddings", "/v1/nothing"]


def _rules(dice: random.Random) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if dice.random() < 0.4:
        found["allow_models"] = dice.sample(["gpt-*", "claude", "local-*", "old", "*"], 2)
    if dice.random() < 0.3:
        found["allow_paths"] = dice.sample(["/v1/chat", "/v1/messages", "/v1"], 1)
    if dice.random() < 0.3:
        found["allow_levels"] = dice.sample([1, 2, 3], 2)
    if dice.random() < 0.3:
        found["max_output_tokens"] = dice.choice([10, 100])
    if dice.random() < 0.4:
        found["limits"] = {dice.choice(["rpd", "rpm"]): dice.choice([2, 5, 50])}
    if dice.random() < 0.3:
        found["budget"] = {"day_usd": dice.choice([0.05, 1])}
    if dice.random() < 0.3:
        found["model_map"] = {"old": dice.choice(["gpt-4o", "claude", "none"])}
    if dice.random() < 0.2:
        found["allow_ips"] = dice.choice([["127.0.0.0/8"], ["10.0.0.0/8"]])
    return found


@pytest.mark.parametrize("seed", range(6))
async def test_explain_s_verdict_is_the_pipeline_s_on_random_trees(rig: Rig, seed: int):
    dice = random.Random(seed)
    await rig.ask("PUT", "/api/v1/prices", PRICES)
    await rig.add_provider_key(name="one", models=["gpt-4o", "local-*"])
    await rig.add_provider_key(name="two", models=["claude", "gpt-4o"], level=2)
    accounts: list[Any] = [
        {"account": {"id": rig.owner_id}, "api_key": rig.key, "can_manage": True}
    ]
    for number in range(7):
        parent = dice.choice(accounts)
        made = await rig.ask(
            "POST",
            "/api/v1/accounts",
            {
                "name": f"a{number}",
                "parent": parent["account"]["id"],
                "can_manage": dice.random() < 0.5,
                "rules": _rules(dice),
            },
        )
        if made.status == 201:
            accounts.append(made.json())
        else:
            assert made.json()["code"] == "wider_than_parent"
    for _ in range(40):
        who = dice.choice(accounts[1:] or accounts)
        if dice.random() < 0.15:
            # Ancestors tighten afterwards.
            target = dice.choice(accounts[1:] or accounts)
            path = f"/api/v1/accounts/{target['account']['id']}/rules"
            await rig.ask("PUT", path, _rules(dice))
        if dice.random() < 0.15 and len(accounts) > 3:
            # The tree changes: an account moves, or goes with all that is below it.
            one, other = dice.sample(accounts[1:], 2)
            path = f"/api/v1/accounts/{one['account']['id']}"
            if dice.random() < 0.7:
                await rig.ask("PATCH", path, {"parent": other["account"]["id"]})
            else:
                await rig.ask("DELETE", path + "?recursive=true")
                there = await rig.ask("GET", "/api/v1/accounts?scope=descendants")
                left = {account["id"] for account in there.json()["items"]}
                accounts = [a for a in accounts if a["account"]["id"] in {*left, rig.owner_id}]
                gone = await rig.chat(key=one["api_key"])
                assert (gone.status, gone.code) == (401, "invalid_api_key")
                continue
        model, path = dice.choice(MODELS), dice.choice(PATHS)
        declared = dice.choice([None, 5, 50, 500])
        body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        if "embed" in path:
            body = {"model": model, "input": "hi"}
        elif declared is not None:
            body["max_tokens"] = declared
        told = await _explain(
            rig,
            account=who["account"]["id"],
            path=path,
            model=model,
            ip="127.0.0.1",
            max_output_tokens=None if "embed" in path else declared,
            input_tokens=-(-len(str(body)) // 4),
        )
        answer = await rig.ask("POST", path, body, key=who["api_key"])
        expected = None if answer.status == 200 else answer.code
        assert told["code"] == expected, (told, body, path, answer.body)
        assert told["allowed"] is (answer.status == 200)
        if answer.status == 200:
            used = answer.headers["x-xairouter-provider-key"].split()[0]
            assert used in {one["provider_key_id"] for one in told["plan"]}
    await _effective_is_within_every_ancestor(rig)


async def _effective_is_within_every_ancestor(rig: Rig) -> None:
    """Whatever happened to the tree, nobody's effective rules are wider than those above."""
    async with rig.house.database.read() as connection:
        for account in await owners.tree_of(connection, rig.owner_id):
            chain = await owners.chain_of(connection, rig.owner_id, account.id)
            whole, _ = effective(compiled(chain))
            assert wider_than(whole, compiled(chain)) == [], account.name


async def test_a_conversation_stays_on_one_key_while_it_is_healthy(rig: Rig):
    secrets = [f"sk-{n}aa-0123456789abcdefgh" for n in range(4)]
    for secret in secrets:
        await rig.add_provider_key(name=secret[:4], secret=secret)

    async def turns(**fields: Any) -> set[str]:
        messages: list[Any] = [{"role": "system", "content": "Be brief."}]
        used = set()
        for number in range(5):
            messages += [{"role": "user", "content": f"{fields} question {number}"}]
            headers = fields.get("headers", {})
            body = {"model": "m", "messages": messages, **fields.get("body", {})}
            await rig.ask("POST", fields.get("path", "/v1/chat/completions"), body, **headers)
            used.add(rig.standin.requests[-1].secret)
            messages += [{"role": "assistant", "content": "answer"}]
        return used

    ways: list[dict[str, Any]] = [
        {},
        {"body": {"prompt_cache_key": "k"}},
        {"path": "/v1/messages", "body": {"metadata": {"user_id": "u"}, "max_tokens": 9}},
        {"headers": {"x_session_id": "s-1"}},
    ]
    for way in ways:
        assert len(await turns(**way)) == 1, way
    spread = set()
    for number in range(40):
        body = {"model": "m", "messages": [{"role": "user", "content": f"other {number}"}]}
        await rig.ask("POST", "/v1/chat/completions", body)
        spread.add(rig.standin.requests[-1].secret)
    assert spread == set(secrets), "different conversations share the keys"
    [kept] = await turns(headers={"x_session_id": "s-9"})
    rig.standin.failing = {kept: "fault-429"}
    moved = await turns(headers={"x_session_id": "s-9"})
    assert kept not in moved
    assert len(moved) == 1
