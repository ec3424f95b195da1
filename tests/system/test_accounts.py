"""Owners, sub-accounts and their keys over the management API; what status, scope, expiry bind."""

import asyncio
import datetime

import pytest

from tests.rig import Rig
from xairouter.clock import now_ms
from xairouter.directory import directory, identity
from xairouter.manage import expire
from xairouter.policy.interface import OwnerView

pytestmark = pytest.mark.shared_rig


async def test_me_shows_account_key_and_permissions(rig: Rig):
    me = (await rig.ask("GET", "/api/v1/me")).json()
    assert me["account"]["id"] == rig.owner_id
    assert me["key"]["scope"] == "manage"
    assert me["role"] == "owner"
    assert me["seen_by_operator"] is True


async def test_a_sub_account_s_key_calls_with_the_owner_s_provider_key(rig: Rig):
    await rig.add_provider_key()
    team = await rig.add_account()
    assert team["key"]["scope"] == "call"
    assert (await rig.chat(key=team["api_key"])).status == 200
    record = await rig.record()
    assert record["account_id"] == team["account"]["id"]
    assert record["owner_id"] == rig.owner_id


async def test_a_call_key_may_look_at_itself_and_nothing_else(rig: Rig):
    key = (await rig.add_account())["api_key"]
    for path in ("/api/v1/me", "/api/v1/models", "/api/v1/usage", "/api/v1/usage/records"):
        assert (await rig.ask("GET", path, key=key)).status == 200, path
    for method, path, body in (
        ("GET", "/api/v1/accounts", None),
        ("POST", "/api/v1/accounts", {"name": "x"}),
        ("GET", "/api/v1/provider-keys", None),
        ("POST", "/api/v1/provider-keys", {"name": "x", "secret": "y"}),
        ("GET", "/api/v1/vault", None),
        ("POST", "/api/v1/vault/rekey", None),
        ("GET", "/api/v1/settings", None),
        ("PATCH", "/api/v1/settings", {"on_revoke": "end"}),
        ("GET", "/api/v1/prices", None),
        ("PUT", "/api/v1/prices", {}),
        ("GET", "/api/v1/operations", None),
        ("POST", "/api/v1/panic", None),
        ("POST", "/api/v1/me/take-over", None),
    ):
        answer = await rig.ask(method, path, body, key=key)
        assert (answer.status, answer.json()["code"]) == (403, "forbidden"), (method, path)


async def test_refused_attempts_are_in_the_operation_log(rig: Rig):
    team = await rig.add_account()
    await rig.ask("POST", "/api/v1/panic", key=team["api_key"])
    newest = (await rig.ask("GET", "/api/v1/operations")).json()["items"][0]
    assert (newest["verb"], newest["result"]) == ("panic", "forbidden")
    assert newest["actor_account_id"] == team["account"]["id"]


async def test_suspending_binds_at_once_down_the_tree_and_resuming_undoes_it(rig: Rig):
    await rig.add_provider_key()
    team = await rig.add_account()
    below = await rig.add_account("below", parent=team["account"]["id"])
    path = f"/api/v1/accounts/{team['account']['id']}"
    assert (await rig.ask("PATCH", path, {"status": "suspended"})).status == 200
    for key in (team["api_key"], below["api_key"]):
        answer = await rig.chat(key=key)
        assert (answer.status, answer.code) == (401, "account_suspended")
    assert (await rig.ask("PATCH", path, {"status": "active"})).status == 200
    for key in (team["api_key"], below["api_key"]):
        assert (await rig.chat(key=key)).status == 200


async def test_a_suspended_key_s_slot_holds_no_ciphertext(rig: Rig):
    team = await rig.add_account()
    account, key = team["account"]["id"], team["key"]["id"]
    path = f"/api/v1/accounts/{account}/keys/{key}"
    await rig.ask("PATCH", path, {"status": "suspended"})
    slots = (await rig.ask("GET", "/api/v1/vault")).json()["slots"]
    assert [s["sealed"] for s in slots if s["key_id"] == key] == [False]
    assert (await rig.chat(key=team["api_key"])).code == "account_suspended"
    await rig.ask("PATCH", path, {"status": "active"})
    assert (await rig.ask("GET", "/api/v1/me", key=team["api_key"])).status == 200


@pytest.mark.both
async def test_rotation_with_overlap_keeps_the_old_key_for_that_long(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    await rig.add_provider_key()
    team = await rig.add_account()
    base = f"/api/v1/accounts/{team['account']['id']}/keys/{team['key']['id']}"
    made = (await rig.ask("POST", base + "/rotate", {"overlap_seconds": 600})).json()
    assert (await rig.chat(key=team["api_key"])).status == 200
    assert (await rig.chat(key=made["api_key"])).status == 200
    listed = await rig.ask("GET", f"/api/v1/accounts/{team['account']['id']}/keys")
    old = next(k for k in listed.json()["items"] if k["id"] == team["key"]["id"])
    assert old["replaced_by"] == made["key"]["id"]
    monkeypatch.setattr(identity, "now_ms", lambda: now_ms() + 601_000)
    answer = await rig.chat(key=team["api_key"])
    assert (answer.status, answer.code) == (401, "api_key_expired")
    assert (await rig.chat(key=made["api_key"])).status == 200


@pytest.mark.both
async def test_an_expired_slot_goes_entirely(rig: Rig):
    team = await rig.add_account()
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    made = await rig.ask(
        "POST",
        f"/api/v1/accounts/{team['account']['id']}/keys",
        {"name": "short", "expires_at": soon.isoformat()},
    )
    assert made.status == 201
    house = rig.house
    assert await expire.expire(house.database, house.directory, now_ms()) == 0
    assert await expire.expire(house.database, house.directory, now_ms() + 3_601_000) == 1
    slots = (await rig.ask("GET", "/api/v1/vault")).json()["slots"]
    assert made.json()["key"]["id"] not in [slot["key_id"] for slot in slots]


async def test_deleting_a_key_ends_it_and_leaves_its_name_for_the_records(rig: Rig):
    await rig.add_provider_key()
    team = await rig.add_account()
    await rig.chat(key=team["api_key"])
    path = f"/api/v1/accounts/{team['account']['id']}/keys/{team['key']['id']}"
    assert (await rig.ask("DELETE", path)).status == 204
    answer = await rig.chat(key=team["api_key"])
    assert (answer.status, answer.code) == (401, "invalid_api_key")
    assert (await rig.record())["key_id"] == team["key"]["id"]


@pytest.mark.both
async def test_deleting_an_account_asks_for_recursive_when_it_has_children(rig: Rig):
    team = await rig.add_account()
    below = await rig.add_account("below", parent=team["account"]["id"])
    path = f"/api/v1/accounts/{team['account']['id']}"
    refused = await rig.ask("DELETE", path)
    assert (refused.status, refused.json()["code"]) == (409, "has_children")
    assert (await rig.ask("DELETE", path + "?recursive=true")).status == 204
    assert (await rig.ask("GET", "/api/v1/me", key=below["api_key"])).status == 401
    assert (await rig.ask("GET", path)).status == 404


async def test_a_manager_sees_and_steers_only_what_lies_below(rig: Rig):
    manager = await rig.add_account("manager", can_manage=True)
    beside = await rig.add_account("beside")
    assert manager["key"]["scope"] == "manage"
    below = await rig.add_account("below", key=manager["api_key"])
    listed = await rig.ask("GET", "/api/v1/accounts?scope=descendants", key=manager["api_key"])
    assert [row["id"] for row in listed.json()["items"]] == [below["account"]["id"]]
    for account in (beside["account"]["id"], rig.owner_id):
        answer = await rig.ask("GET", f"/api/v1/accounts/{account}", key=manager["api_key"])
        assert (answer.status, answer.json()["code"]) == (404, "not_found")
        answer = await rig.ask(
            "PATCH", f"/api/v1/accounts/{account}", {"name": "x"}, key=manager["api_key"]
        )
        assert answer.status == 404
    own = manager["account"]["id"]
    answer = await rig.ask(
        "PATCH", f"/api/v1/accounts/{own}", {"can_manage": False}, key=manager["api_key"]
    )
    assert answer.status == 404


async def test_moving_an_account_below_itself_is_refused(rig: Rig):
    team = await rig.add_account()
    below = await rig.add_account("below", parent=team["account"]["id"])
    answer = await rig.ask(
        "PATCH", f"/api/v1/accounts/{team['account']['id']}", {"parent": below["account"]["id"]}
    )
    assert (answer.status, answer.json()["code"]) == (422, "invalid_field")
    moved = await rig.ask(
        "PATCH", f"/api/v1/accounts/{below['account']['id']}", {"parent": rig.owner_id}
    )
    assert moved.json()["parent"] == rig.owner_id


@pytest.mark.both
async def test_ids_of_another_owner_answer_as_if_they_did_not_exist(rig: Rig):
    other = await rig.new_owner("other")
    pk = await rig.add_provider_key()
    team = await rig.add_account()
    account, key = team["account"]["id"], team["key"]["id"]
    for method, path, body in (
        ("GET", f"/api/v1/accounts/{account}", None),
        ("PATCH", f"/api/v1/accounts/{account}", {"name": "x"}),
        ("DELETE", f"/api/v1/accounts/{account}", None),
        ("GET", f"/api/v1/accounts/{account}/keys", None),
        ("POST", f"/api/v1/accounts/{account}/keys", {"name": "x"}),
        ("POST", f"/api/v1/accounts/{account}/keys/{key}/rotate", {}),
        ("PATCH", f"/api/v1/accounts/{account}/keys/{key}", {"name": "x"}),
        ("DELETE", f"/api/v1/accounts/{account}/keys/{key}", None),
        ("GET", f"/api/v1/provider-keys/{pk['id']}", None),
        ("PATCH", f"/api/v1/provider-keys/{pk['id']}", {"name": "x"}),
        ("POST", f"/api/v1/provider-keys/{pk['id']}/replace", {"secret": "sk-x"}),
        ("POST", f"/api/v1/provider-keys/{pk['id']}/test", None),
        ("DELETE", f"/api/v1/provider-keys/{pk['id']}", None),
        ("GET", f"/api/v1/usage?account={account}", None),
        ("GET", f"/api/v1/usage/records?account={account}", None),
    ):
        answer = await rig.ask(method, path, body, key=other.api_key)
        assert (answer.status, answer.json()["code"]) == (404, "not_found"), (method, path)
    assert (await rig.ask("GET", "/api/v1/provider-keys", key=other.api_key)).json()["items"] == []


async def test_panic_leaves_only_the_key_in_use_and_can_be_undone(rig: Rig):
    await rig.add_provider_key()
    team = await rig.add_account()
    assert (await rig.ask("POST", "/api/v1/panic")).json() == {"suspended": 1}
    assert (await rig.chat(key=team["api_key"])).code == "account_suspended"
    assert (await rig.chat()).status == 200
    assert (await rig.ask("POST", "/api/v1/panic/undo")).json() == {"resumed": 1}
    assert (await rig.chat(key=team["api_key"])).status == 200


async def test_revocation_ends_a_running_stream_at_once(rig: Rig):
    await rig.add_provider_key()
    team = await rig.add_account()
    call = asyncio.create_task(rig.chat("fault-slow", key=team["api_key"], stream=True))
    async with asyncio.timeout(120):
        while not rig.standin.requests:
            await asyncio.sleep(0.01)
    path = f"/api/v1/accounts/{team['account']['id']}/keys/{team['key']['id']}"
    assert (await rig.ask("DELETE", path)).status == 204
    # The router cuts the stream before it answers; how long that takes is the machine's affair.
    answer = await asyncio.wait_for(call, 120)
    assert b"revoked" in answer.body
    assert (await rig.record())["outcome"] == "interrupted"


@pytest.mark.both
async def test_a_change_made_by_another_process_is_seen_at_the_next_look(rig: Rig):
    from xairouter.manage.owners import suspend_owner
    from xairouter.storage.database import Database

    await rig.add_provider_key()
    assert (await rig.chat()).status == 200
    outside = Database(rig.house.settings.effective_database_url)
    await suspend_owner(outside, "acme", suspended=True)
    await outside.close()
    assert directory.POLL_SECONDS < 2, "the bound that is promised"
    async with asyncio.timeout(120):
        while (await rig.chat()).status == 200:
            await asyncio.sleep(0.02)
    assert (await rig.chat()).code == "account_suspended"


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"name": "x", "wide": 1}, "unknown_field", "wide"),
        ({}, "invalid_field", "name"),
        ({"name": ""}, "invalid_field", "name"),
        ({"name": "x" * 200}, "invalid_field", "name"),
        ({"name": "x", "email": "nobody"}, "invalid_field", "email"),
        ({"name": "x", "parent": "acc_none"}, "not_found", None),
    ],
)
async def test_bad_management_bodies_name_the_field(rig: Rig, body, code, field):
    answer = await rig.ask("POST", "/api/v1/accounts", body)
    shown = answer.json()
    assert shown["code"] == code
    assert answer.headers["content-type"] == "application/problem+json"
    if field:
        assert field in shown["fields"]


@pytest.mark.both
async def test_the_recovery_code_brings_the_owner_back_once(rig: Rig):
    typed = rig.recovery_code.lower().replace("-", " ")
    made = await rig.ask("POST", "/api/v1/recover", {"recovery_code": typed}, key=None)
    assert made.status == 201, made.body
    assert (await rig.ask("GET", "/api/v1/me", key=made.json()["api_key"])).status == 200
    again = await rig.ask("POST", "/api/v1/recover", {"recovery_code": typed}, key=None)
    assert (again.status, again.json()["code"]) == (401, "invalid_api_key")
    fresh = await rig.ask(
        "POST", "/api/v1/recover", {"recovery_code": made.json()["recovery_code"]}, key=None
    )
    assert fresh.status == 201


async def test_a_new_recovery_code_leaves_the_old_one_seven_days(rig: Rig):
    made = await rig.ask("POST", "/api/v1/vault/recovery-code")
    assert made.status == 201
    slots = (await rig.ask("GET", "/api/v1/vault")).json()["slots"]
    ends = [slot["expires_at"] for slot in slots if slot["purpose"] == "recovery"]
    assert len(ends) == 2
    assert ends.count(None) == 1
    old = await rig.ask("POST", "/api/v1/recover", {"recovery_code": rig.recovery_code}, key=None)
    assert old.status == 201


async def test_take_over_ends_everything_the_operator_saw(rig: Rig):
    await rig.add_provider_key()
    team = await rig.add_account()
    made = (await rig.ask("POST", "/api/v1/me/take-over")).json()
    for key in (rig.key, team["api_key"]):
        assert (await rig.ask("GET", "/api/v1/me", key=key)).status == 401
    old = await rig.ask("POST", "/api/v1/recover", {"recovery_code": rig.recovery_code}, key=None)
    assert old.status == 401
    me = (await rig.ask("GET", "/api/v1/me", key=made["api_key"])).json()
    assert me["seen_by_operator"] is False
    assert (await rig.chat(key=made["api_key"])).status == 200


async def test_rekey_keeps_every_key_working(rig: Rig):
    await rig.add_provider_key()
    team = await rig.add_account()
    done = (await rig.ask("POST", "/api/v1/vault/rekey")).json()
    assert done["epoch"] == 2
    assert done["left_out"] == []
    for key in (rig.key, team["api_key"]):
        assert (await rig.chat(key=key)).status == 200
    typed = {"recovery_code": rig.recovery_code}
    assert (await rig.ask("POST", "/api/v1/recover", typed, key=None)).status == 201


@pytest.mark.own_rig
async def test_a_key_that_is_sealed_anew_while_it_is_looked_up_goes_on_working(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    await rig.add_provider_key()
    look_up, has_rekeyed = rig.house.directory.owner, False

    async def owner(owner_id: str) -> OwnerView:
        """Between reading the key's slot and opening it, a re-key is made and made use of."""
        nonlocal has_rekeyed
        if not has_rekeyed:
            has_rekeyed = True
            assert (await rig.ask("POST", "/api/v1/vault/rekey")).status == 200
            assert (await rig.chat()).status == 200
        return await look_up(owner_id)

    monkeypatch.setattr(rig.house.directory, "owner", owner)
    assert (await rig.chat()).status == 200
    assert has_rekeyed


@pytest.mark.both
async def test_rekeys_racing_with_changes_leave_every_key_working(rig: Rig):
    """Whatever is added while the vault moves is sealed to the epoch that wins, or refused."""
    await rig.add_provider_key(models=["m-first"])
    subs, models = [], ["m-first"]

    async def add_account(number: int) -> None:
        answer = await rig.ask("POST", "/api/v1/accounts", {"name": f"t{number}"})
        assert answer.status in (201, 409), answer.body
        if answer.status == 201:
            subs.append(answer.json()["api_key"])

    async def add_key(number: int) -> None:
        answer = await rig.ask(
            "POST",
            "/api/v1/provider-keys?verify=false",
            {
                "name": f"k{number}",
                "endpoints": rig.endpoints("openai_chat"),
                "secret": f"sk-race{number}-0123456789abcdef",
                "models": [f"m-{number}"],
            },
        )
        assert answer.status in (201, 409), answer.body
        if answer.status == 201:
            models.append(f"m-{number}")

    async def rekey() -> None:
        assert (await rig.ask("POST", "/api/v1/vault/rekey")).status in (200, 409)

    await asyncio.gather(
        *(add_account(n) for n in range(8)),
        *(add_key(n) for n in range(8)),
        *(rekey() for _ in range(4)),
    )
    assert len(subs) > 4
    assert len(models) > 4
    assert (await rig.ask("GET", "/api/v1/vault")).json()["epoch"] > 1
    for key in [rig.key, *subs]:
        for model in models:
            assert (await rig.chat(model, key=key)).status == 200
