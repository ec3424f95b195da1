"""The rooms of the console as forms and pages: what they do goes through the same verbs as the API."""

import asyncio
import html
import json
import re
from typing import Any

import pytest

from tests.rig import SECRET, Rig
from tests.system.test_console import Browser
from tests.system.test_console_security import furnished, operator_of, signed_in
from xairouter.clock import format_id, made_at_ms, now_ms
from xairouter.custody.formats import is_api_key
from xairouter.domain.records import UsageRecord
from xairouter.domain.slots import LIVES_MS, SlotPurpose
from xairouter.errors import ErrorCode, ManageError
from xairouter.manage import usage
from xairouter.storage import records

pytestmark = pytest.mark.shared_rig

KEY = re.compile(r"sk-Xvs\w{45}")


def said(answer: Any) -> str:
    """A page's text, without markup."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.body.decode())).split())


def hidden(answer: Any, name: str) -> str:
    [value] = set(re.findall(rf'name="{name}" value="([^"]*)"', answer.body.decode()))
    return value


@pytest.mark.own_rig
async def test_an_account_is_made_and_its_key_shown_once(rig: Rig):
    browser = await signed_in(rig)
    made = await browser.ask(
        "POST", "/console/accounts", name="ci", parent=rig.owner_id, hand_over="show"
    )
    assert made.status == 201
    [key] = set(KEY.findall(made.body.decode()))
    assert is_api_key(key)
    await rig.add_provider_key()
    assert (await rig.chat(key=key)).status == 200
    for path in ("/console/accounts", "/console/", "/console/calls", "/console/operations"):
        assert key.encode() not in (await browser.ask("GET", path)).body
    for data in (await rig.files()).values():
        assert key.encode() not in data


@pytest.mark.own_rig
async def test_an_invitation_shows_a_key_to_its_user_alone(rig: Rig):
    browser = await signed_in(rig)
    made = await browser.ask(
        "POST", "/console/accounts", name="alice", parent=rig.owner_id, hand_over="invite"
    )
    assert made.status == 201
    assert KEY.findall(made.body.decode()) == [], "the issuer never sees the key"
    [path] = re.findall(r"/console/invitation/[\w-]{43}", made.body.decode())
    token = path.rpartition("/")[2]
    for data in (await rig.files()).values():
        assert token.encode() not in data
    # The token opens nothing else.
    assert (await rig.ask("GET", "/api/v1/me", key=token)).status == 401
    assert (await Browser(rig).sign_in(token)).status == 401
    stale = Browser(rig)
    stale.cookie = f"xairouter={token}"
    assert (await stale.ask("GET", "/console/")).status == 303

    user = Browser(rig)
    for _ in range(3):
        looked = await user.ask("GET", path)
        assert looked.status == 200
        assert "alice" in said(looked)
        assert KEY.findall(looked.body.decode()) == []
    shown = await user.ask("POST", path)
    assert shown.status == 201
    [key] = set(KEY.findall(shown.body.decode()))
    await rig.add_provider_key()
    assert (await rig.chat(key=key)).status == 200
    assert (await user.ask("GET", "/console/me")).status == 200, "and the user is signed in"
    for method in ("GET", "POST"):
        assert (await Browser(rig).ask(method, path)).status == 404
    log = (await rig.ask("GET", "/api/v1/operations")).json()["items"]
    [accepted] = [row for row in log if row["verb"] == "invitation.accept"]
    assert accepted["actor"] == "invitation"


async def test_two_users_of_one_invitation_get_one_key(rig: Rig):
    account = (await rig.ask("POST", "/api/v1/accounts", {"name": "t"})).json()["account"]["id"]
    made = await rig.ask("POST", f"/api/v1/accounts/{account}/invitations")
    assert made.status == 201
    path = made.json()["link"].removeprefix(rig.url)
    answers = await asyncio.gather(*(Browser(rig).ask("POST", path) for _ in range(5)))
    assert sorted(answer.status for answer in answers) == [201, 404, 404, 404, 404]
    keys = (await rig.ask("GET", f"/api/v1/accounts/{account}/keys")).json()["items"]
    assert [key["name"] for key in keys] == ["first", "invited"]


@pytest.mark.both
@pytest.mark.own_rig
async def test_an_invitation_ends_by_time_by_another_and_with_its_account(rig: Rig):
    account = (await rig.ask("POST", "/api/v1/accounts", {"name": "t"})).json()["account"]["id"]
    paths = []
    for _ in range(2):
        made = await rig.ask("POST", f"/api/v1/accounts/{account}/invitations")
        paths.append(made.json()["link"].removeprefix(rig.url))
    ends = made.json()["expires_at"]
    assert ends > "2026"
    assert LIVES_MS[SlotPurpose.INVITATION] == 72 * 3_600_000
    stranger = Browser(rig)
    assert (await stranger.ask("GET", paths[0])).status == 404
    assert (await stranger.ask("GET", paths[1])).status == 200
    await rig.ask("PATCH", f"/api/v1/accounts/{account}", {"status": "suspended"})
    assert (await stranger.ask("POST", paths[1])).status == 404
    await rig.ask("PATCH", f"/api/v1/accounts/{account}", {"status": "active"})
    await rig.sql(("update slots set expires_at_ms = ? where purpose = 'invitation'", (1,)))
    assert (await stranger.ask("POST", paths[1])).status == 404
    await rig.sql(
        ("update slots set expires_at_ms = ? where purpose = 'invitation'", (now_ms() + 60_000,))
    )
    assert (await stranger.ask("GET", paths[1])).status == 200
    await rig.ask("DELETE", f"/api/v1/accounts/{account}")
    assert (await stranger.ask("POST", paths[1])).status == 404


async def test_an_invitation_outlives_a_re_key_and_no_take_over(rig: Rig):
    account = (await rig.ask("POST", "/api/v1/accounts", {"name": "t"})).json()["account"]["id"]
    invite = f"/api/v1/accounts/{account}/invitations"
    path = (await rig.ask("POST", invite)).json()["link"].removeprefix(rig.url)
    assert (await rig.ask("POST", "/api/v1/vault/rekey")).status == 200
    shown = await Browser(rig).ask("POST", path)
    [key] = set(KEY.findall(shown.body.decode()))
    await rig.add_provider_key()
    assert (await rig.chat(key=key)).status == 200
    path = (await rig.ask("POST", invite)).json()["link"].removeprefix(rig.url)
    assert (await rig.ask("POST", "/api/v1/me/take-over")).status == 201
    assert (await Browser(rig).ask("POST", path)).status == 404


async def test_a_manager_invites_below_itself_only(rig: Rig):
    manager = (await rig.ask("POST", "/api/v1/accounts", {"name": "m", "can_manage": True})).json()
    beside = (await rig.ask("POST", "/api/v1/accounts", {"name": "b"})).json()
    key = manager["api_key"]
    below = await rig.ask("POST", "/api/v1/accounts", {"name": "s", "invite": True}, key=key)
    assert below.status == 201
    assert "api_key" not in below.json()
    for account in (beside["account"]["id"], manager["account"]["id"]):
        refused = await rig.ask("POST", f"/api/v1/accounts/{account}/invitations", key=key)
        assert refused.status == 404
    member = await rig.ask(
        "POST", f"/api/v1/accounts/{rig.owner_id}/invitations", key=beside["api_key"]
    )
    assert member.status == 403


async def test_the_playground_s_key_calls_models_and_ends_with_the_session(rig: Rig):
    await rig.add_provider_key()
    browser = await signed_in(rig)
    page = await browser.ask("GET", "/console/playground")
    assert KEY.findall(page.body.decode()) == [], "no page carries a key"
    issued = await browser.ask("POST", "/console/playground/key")
    assert issued.status == 201
    key = issued.json()["api_key"]
    assert (await rig.chat(key=key)).status == 200
    me = (await rig.ask("GET", "/api/v1/me", key=key)).json()
    assert (me["key"]["name"], me["key"]["scope"]) == ("playground", "call")
    assert me["account"]["id"] == rig.owner_id
    assert (await rig.ask("GET", "/api/v1/accounts", key=key)).status == 403
    await browser.ask("POST", "/console/sign-out")
    assert (await rig.chat(key=key)).status == 401


@pytest.mark.both
@pytest.mark.own_rig
async def test_the_playground_s_key_ends_with_whatever_ends_the_session(rig: Rig):
    sub = (await rig.ask("POST", "/api/v1/accounts", {"name": "t"})).json()
    account, key_id = sub["account"]["id"], sub["key"]["id"]
    path = f"/api/v1/accounts/{account}/keys/{key_id}"
    for body in ({"status": "suspended"}, None):
        browser = await signed_in(rig, sub["api_key"])
        key = (await browser.ask("POST", "/console/playground/key")).json()["api_key"]
        assert (await rig.ask("GET", "/api/v1/me", key=key)).status == 200
        await rig.ask("PATCH" if body else "DELETE", path, body)
        assert (await rig.ask("GET", "/api/v1/me", key=key)).status == 401
        await rig.ask("PATCH", path, {"status": "active"})
        assert (await rig.ask("GET", "/api/v1/me", key=key)).status == 401
    # A session that ran out takes its key along when it is swept away.
    browser = await signed_in(rig)
    key = (await browser.ask("POST", "/console/playground/key")).json()["api_key"]
    await rig.sql("update slots set expires_at_ms = 1 where purpose = 'session'")
    from xairouter.clock import now_ms
    from xairouter.manage.expire import expire

    await expire(rig.house.database, rig.house.directory, now_ms())
    assert (await rig.ask("GET", "/api/v1/me", key=key)).status == 401


async def test_the_playground_issues_a_bounded_number_of_keys(rig: Rig):
    browser = await signed_in(rig)
    keys = [
        (await browser.ask("POST", "/console/playground/key")).json()["api_key"] for _ in range(12)
    ]
    living = [(await rig.ask("GET", "/api/v1/me", key=key)).status for key in keys]
    assert living == [401, 401, *[200] * 10]


@pytest.mark.both
async def test_the_operator_sees_owners_and_nothing_of_theirs(rig: Rig):
    await furnished(rig)
    operator = await operator_of(rig)
    page = await operator.ask("GET", "/console/operator")
    assert page.status == 200
    assert "acme" in said(page)
    assert rig.key.encode() not in page.body
    for path in ("/console/", "/console/provider-keys", "/console/usage", "/console/calls"):
        assert (await operator.ask("GET", path)).status == 303, "its session opens no vault"
    invited = await operator.ask("POST", "/console/operator", name="newcomer", email="")
    [link] = re.findall(r"/console/setup/[\w-]{43}", invited.body.decode())
    assert KEY.findall(invited.body.decode()) == []
    made = await Browser(rig).ask("POST", link)
    assert made.status == 201
    [key] = set(KEY.findall(made.body.decode()))
    owners = (await rig.ask("GET", "/api/v1/owners", key=None, cookie=operator.cookie)).json()
    [newcomer] = [one for one in owners["items"] if one["name"] == "newcomer"]
    path = f"/console/operator/owners/{newcomer['id']}"
    await operator.ask("POST", path, act="suspend")
    assert (await rig.ask("GET", "/api/v1/me", key=key)).code == "account_suspended"
    await operator.ask("POST", path, act="resume")
    assert (await rig.ask("GET", "/api/v1/me", key=key)).status == 200
    assert (await operator.ask("POST", path, act="delete", confirm="wrong")).status == 422
    assert (await rig.ask("GET", "/api/v1/me", key=key)).status == 200
    await operator.ask("POST", path, act="delete", confirm="newcomer")
    assert (await rig.ask("GET", "/api/v1/me", key=key)).status == 401
    await operator.ask("POST", "/console/operator/sign-out")
    assert (await operator.ask("GET", "/console/operator")).status == 401


@pytest.mark.both
@pytest.mark.own_rig
async def test_an_operator_s_link_works_once_and_is_no_owner_s_link(rig: Rig):
    from xairouter.manage import operators

    token = await operators.make_operator_link(rig.house.database)
    assert (await Browser(rig).ask("GET", f"/console/setup/{token}")).status == 404
    assert (await Browser(rig).ask("POST", f"/console/setup/{token}", name="x")).status == 404
    assert (await Browser(rig).ask("GET", f"/console/operator/{token}")).status == 200
    assert (await Browser(rig).ask("POST", f"/console/operator/{token}")).status == 303
    assert (await Browser(rig).ask("POST", f"/console/operator/{token}")).status == 404
    for data in (await rig.files()).values():
        assert token.encode() not in data


async def test_the_owners_api_needs_the_operator_s_session_from_this_very_site(rig: Rig):
    operator = await operator_of(rig)
    assert (await rig.ask("GET", "/api/v1/owners")).status == 401, "an owner is no operator"
    body = {"name": "fresh"}
    refused = await rig.ask(
        "POST",
        "/api/v1/owners",
        body,
        key=None,
        cookie=operator.cookie,
        sec_fetch_site="cross-site",
    )
    assert refused.status == 403
    made = await rig.ask("POST", "/api/v1/owners", body, key=None, cookie=operator.cookie)
    assert made.status == 201
    assert set(made.json()) == {"account_id", "link", "expires_at"}
    path = f"/api/v1/owners/{rig.owner_id}"
    changed = await rig.ask(
        "PATCH", path, {"status": "suspended"}, key=None, cookie=operator.cookie
    )
    assert changed.json()["status"] == "suspended"
    assert (await rig.ask("GET", "/api/v1/me")).code == "account_suspended"
    gone = await rig.ask("DELETE", path, key=None, cookie=operator.cookie)
    assert gone.status == 204
    assert (await rig.ask("DELETE", path, key=None, cookie=operator.cookie)).status == 404


async def test_rules_are_edited_reviewed_and_saved(rig: Rig):
    ids = await furnished(rig)
    browser = await signed_in(rig)
    path = f"/console/accounts/{ids['account_id']}/rules"
    page = await browser.ask("GET", path)
    version = hidden(page, "version")
    form = {
        "version": version,
        "allow_models_own": "on",
        "allow_models": "claude-*",
        "limits.rpm": "7",
        "budget.day_usd": "5",
        "budget.notify_at": "80",
    }
    checked = await browser.ask("POST", f"{path}/check", **form)
    assert "claude-*" in said(checked)
    assert b"<html" not in checked.body
    review = await browser.ask("POST", path, act="review", **form)
    assert review.status == 200
    assert "1 would have been refused" in said(review)
    assert "model_not_allowed" in said(review)
    rules = (await rig.ask("GET", f"/api/v1/accounts/{ids['account_id']}/rules")).json()
    assert rules["own"]["limits"]["rpm"] == 100, "a rehearsal stores nothing"
    saved = await browser.ask("POST", path, act="save", **form)
    assert (saved.status, saved.headers["location"]) == (303, f"{path}?done=rules_saved")
    own = (await rig.ask("GET", f"/api/v1/accounts/{ids['account_id']}/rules")).json()["own"]
    assert own["allow_models"] == ["claude-*"]
    assert own["limits"]["rpm"] == 7
    assert own["budget"] == {"day_usd": 5, "notify_at": 0.8}
    # Somebody who saw the rules as they were overwrites nothing, and loses nothing typed.
    late = await browser.ask("POST", path, act="save", **{**form, "limits.rpm": "9"})
    assert late.status == 409
    assert "Somebody else has changed this" in said(late)
    assert b'value="9"' in late.body


async def test_rules_wider_than_above_are_refused_with_the_ancestor_while_typing(rig: Rig):
    await rig.ask("PATCH", f"/api/v1/accounts/{rig.owner_id}/rules", {"allow_models": ["gpt-*"]})
    ids = (await rig.ask("POST", "/api/v1/accounts", {"name": "t"})).json()
    browser = await signed_in(rig)
    path = f"/console/accounts/{ids['account']['id']}/rules"
    form = {"allow_models_own": "on", "allow_models": "gpt-4o\nclaude-*"}
    for where in (f"{path}/check", path):
        answer = await browser.ask("POST", where, act="save", **form)
        assert "wider" in said(answer)
        assert "acme" in said(answer)
    assert b"gpt-4o\nclaude-*" in answer.body, "what was typed stays"
    answer = await browser.ask("POST", f"{path}/check", **{"limits.rpm": "many"})
    assert "no whole number" in said(answer)


async def test_a_manager_sees_its_own_account_and_steers_what_is_below(rig: Rig):
    manager = (await rig.ask("POST", "/api/v1/accounts", {"name": "m", "can_manage": True})).json()
    key, own = manager["api_key"], manager["account"]["id"]
    below = (await rig.ask("POST", "/api/v1/accounts", {"name": "s"}, key=key)).json()["account"]
    browser = await signed_in(rig, key)
    page = await browser.ask("GET", f"/console/accounts/{own}")
    for form in (b'id="a-name"', b"/invite", b"/delete", b'name="scope"'):
        assert form not in page.body, "nothing is offered that would be refused"
    rules = await browser.ask("GET", f"/console/accounts/{own}/rules")
    assert "set by whoever manages it" in said(rules)
    assert b'value="save"' not in rules.body
    page = await browser.ask("GET", f"/console/accounts/{below['id']}")
    for form in (b'id="a-name"', b"/invite", b"/delete", b'name="scope"'):
        assert form in page.body
    path = f"/console/accounts/{below['id']}/rules"
    saved = await browser.ask("POST", path, act="save", **{"limits.rpm": "3"})
    assert saved.status == 303
    assert (await browser.ask("POST", f"/console/accounts/{own}/rules", act="save")).status == 404


@pytest.mark.both
async def test_provider_keys_are_changed_disabled_replaced_and_deleted(rig: Rig):
    ids = await furnished(rig)
    browser = await signed_in(rig)
    path = f"/console/provider-keys/{ids['key_id']}"
    page = await browser.ask("GET", path)
    version = hidden(page, "version")
    assert "in 1 calls" in said(page)
    assert "Accounts that used this key" in said(page)
    assert "Without it 1 model has no key: gpt-4o" in said(page)
    form = {"version": version, "name": "renamed", "level": "3", "weight": "2", "models": ""}
    assert (await browser.ask("POST", path, **form)).status == 303
    shown = (await rig.ask("GET", f"/api/v1/provider-keys/{ids['key_id']}")).json()
    assert (shown["name"], shown["level"], shown["weight"], shown["models"]) == (
        "renamed",
        3,
        2,
        None,
    )
    assert (await browser.ask("POST", path, **form)).status == 409
    wrong = await browser.ask("POST", path, name="x", level="none", weight="1")
    assert wrong.status == 422
    assert b'value="none"' in wrong.body
    await browser.ask("POST", path, name="renamed", level="3", own_models="on", models="a\n b \n")
    shown = (await rig.ask("GET", f"/api/v1/provider-keys/{ids['key_id']}")).json()
    assert shown["models"] == ["a", "b"]
    await browser.ask("POST", f"{path}/status", status="disabled")
    assert (await rig.chat("a")).code == "no_provider_key"
    await browser.ask("POST", f"{path}/status", status="active")
    assert (await rig.chat("a")).status == 200
    fresh = "sk-fresh-A1b2C3d4E5f6G7h8"
    replaced = await browser.ask("POST", f"{path}/replace", secret=fresh)
    assert replaced.status == 200
    assert fresh.encode() not in replaced.body
    await rig.chat("a")
    assert rig.standin.requests[-1].headers["authorization"] == f"Bearer {fresh}"
    rig.standin.rejected.add("sk-bad-A1b2C3d4E5f6G7h8J9")
    bad = await browser.ask("POST", f"{path}/replace", secret="sk-bad-A1b2C3d4E5f6G7h8J9")
    assert bad.status == 422
    assert (await browser.ask("POST", f"{path}/delete", confirm="wrong")).status == 422
    gone = await browser.ask("POST", f"{path}/delete", confirm="renamed")
    assert "Receipt" in said(gone)
    assert (await browser.ask("GET", path)).status == 404


async def test_the_impact_of_a_key_is_in_the_api_too(rig: Rig):
    ids = await furnished(rig)
    found = (await rig.ask("GET", f"/api/v1/provider-keys/{ids['key_id']}/impact")).json()
    assert found == {"days": 7, "accounts": 1, "calls": 1, "models": ["gpt-4o"]}
    await rig.add_provider_key(name="second", models=["gpt-*"], secret="sk-two-A1b2C3d4E5f6G7h8")
    found = (await rig.ask("GET", f"/api/v1/provider-keys/{ids['key_id']}/impact")).json()
    assert found["models"] == [], "another key serves it"


@pytest.mark.both
async def test_accounts_are_moved_suspended_renamed_and_deleted(rig: Rig):
    browser = await signed_in(rig)
    ids = []
    for name in ("team", "person"):
        made = await rig.ask("POST", "/api/v1/accounts", {"name": name})
        ids.append(made.json()["account"]["id"])
    key = made.json()["api_key"]
    team, person = ids
    path = f"/console/accounts/{person}"
    version = hidden(await browser.ask("GET", path), "version")
    form = {"version": version, "name": "somebody", "email": "s@b.example"}
    assert (await browser.ask("POST", path, **form)).status == 303
    late = await browser.ask("POST", path, **{**form, "name": "other"})
    assert late.status == 409
    assert b'value="other"' in late.body
    assert (await browser.ask("POST", path, parent=team)).status == 303
    assert (await browser.ask("POST", path, parent="acc_nowhere")).status == 404
    page = await browser.ask("GET", "/console/accounts")
    assert "team" in said(page)
    assert "somebody" not in said(page)
    rows = await browser.ask(
        "GET", f"/console/accounts?at={team}&depth=1", headers={"hx_request": "true"}
    )
    assert "somebody" in said(rows)
    assert b"<html" not in rows.body
    assert "somebody" in said(await browser.ask("GET", "/console/accounts?q=SOME"))
    assert "somebody" not in said(await browser.ask("GET", "/console/accounts?q=%25"))
    await browser.ask("POST", f"{path}/status", status="suspended")
    assert (await rig.ask("GET", "/v1/models", key=key)).code == "account_suspended"
    await browser.ask("POST", f"{path}/status", status="active")
    assert (await rig.ask("GET", "/v1/models", key=key)).status == 200
    above = f"/console/accounts/{team}/delete"
    assert (await browser.ask("POST", above, confirm="somebody")).status == 422
    assert (await browser.ask("POST", above, confirm="team")).status == 409, "it has children"
    assert (await browser.ask("POST", above, confirm="team", recursive="on")).status == 303
    assert (await rig.ask("GET", "/v1/models", key=key)).status == 401


async def test_keys_of_an_account_are_made_rotated_expired_and_deleted(rig: Rig):
    browser = await signed_in(rig)
    account = (await rig.ask("POST", "/api/v1/accounts", {"name": "t"})).json()["account"]["id"]
    path = f"/console/accounts/{account}/keys"
    made = await browser.ask("POST", path, name="k", scope="call", expires="2099-12-31")
    [key] = set(KEY.findall(made.body.decode()))
    items = (await rig.ask("GET", f"/api/v1/accounts/{account}/keys")).json()["items"]
    [one] = [item for item in items if item["name"] == "k"]
    assert one["expires_at"] == "2100-01-01T00:00:00.000Z", "the whole of that day"
    past = await browser.ask("POST", path, name="typed", scope="manage", expires="2001-01-01")
    assert past.status == 422
    assert b'value="typed"' in past.body
    assert b'value="t"' in past.body, "the account keeps its own name"
    assert (await browser.ask("POST", path, name="k", expires="soon")).status == 422
    rotated = await browser.ask("POST", f"{path}/{one['id']}", act="rotate", overlap="1")
    [fresh] = set(KEY.findall(rotated.body.decode()))
    for secret in (key, fresh):
        assert (await rig.ask("GET", "/api/v1/me", key=secret)).status == 200
    items = (await rig.ask("GET", f"/api/v1/accounts/{account}/keys")).json()["items"]
    new = items[-1]["id"]
    for act, status in (("suspend", 401), ("resume", 200), ("delete", 401)):
        assert (await browser.ask("POST", f"{path}/{new}", act=act)).status == 303
        assert (await rig.ask("GET", "/api/v1/me", key=fresh)).status == status


async def test_panic_suspends_and_brings_back(rig: Rig):
    key = (await rig.ask("POST", "/api/v1/accounts", {"name": "t"})).json()["api_key"]
    browser = await signed_in(rig)
    assert "Keys come back with undo" in said(await browser.ask("GET", "/console/panic"))
    done = await browser.ask("POST", "/console/panic", act="panic")
    assert "1 key is suspended" in said(done)
    assert (await rig.ask("GET", "/api/v1/me", key=key)).status == 401
    await browser.ask("POST", "/console/panic", act="undo")
    assert (await rig.ask("GET", "/api/v1/me", key=key)).status == 200


async def test_routing_is_edited_rehearsed_and_saved(rig: Rig):
    await furnished(rig)
    await rig.add_provider_key(name="two", level=2, secret="sk-two-A1b2C3d4E5f6G7h8")
    browser = await signed_in(rig)
    version = hidden(await browser.ask("GET", "/console/routing"), "version")
    form = {
        "version": version,
        "level_map.0.from": "gpt-*",
        "level_map.0.to": "2",
        "switch_over.0.from": "2",
        "switch_over.0.to": "1, 3",
        "model_failover.0.from": "gpt-4o",
        "model_failover.0.to": "gpt-4o-mini, o3",
    }
    review = await browser.ask("POST", "/console/routing", act="review", **form)
    assert "1 would have gone elsewhere" in said(review)
    assert (await browser.ask("POST", "/console/routing", act="save", **form)).status == 303
    assert (await rig.ask("GET", "/api/v1/routing")).json() == {
        "level_map": {"gpt-*": 2},
        "switch_over": {"2": [1, 3]},
        "model_failover": {"gpt-4o": ["gpt-4o-mini", "o3"]},
    }
    assert (await browser.ask("POST", "/console/routing", act="save", **form)).status == 409
    form["level_map.0.to"] = "high"
    wrong = await browser.ask("POST", "/console/routing", act="save", **{**form, "version": ""})
    assert wrong.status in (409, 422)
    assert b'value="high"' in wrong.body
    where = await browser.ask("GET", "/console/routing?model=gpt-4o")
    assert "It would be served" in said(where)
    assert "two" in said(where)


async def test_settings_prices_and_the_vault(rig: Rig):
    browser = await signed_in(rig)
    version = hidden(await browser.ask("GET", "/console/settings"), "version")
    form = {
        "version": version,
        "time_zone": "Europe/Paris",
        "currency": "EUR",
        "currency_per_usd": "0.9",
    }
    assert (await browser.ask("POST", "/console/settings", **form)).status == 303
    stored = (await rig.ask("GET", "/api/v1/settings")).json()
    assert (stored["time_zone"], stored["currency"], stored["currency_per_usd"]) == (
        "Europe/Paris",
        "EUR",
        0.9,
    )
    assert (await browser.ask("POST", "/console/settings", **form)).status == 409
    for wrong in (
        {"time_zone": "Mars/Olympus"},
        {"session_minutes": "none"},
        {"currency_per_usd": "-1"},
        {"webhook_url": "http://169.254.169.254/"},
    ):
        answer = await browser.ask("POST", "/console/settings", **wrong)
        assert answer.status == 422, wrong
        assert next(iter(wrong.values())).encode() in answer.body
    shown = await browser.ask("POST", "/console/settings", webhook_url=rig.standin_url + "/hook")
    assert "Signing secret" in said(shown)
    assert (await browser.ask("POST", "/console/settings/webhook")).status == 303
    further = {"output_audio": 64.0, "service_tiers": {"priority": {"input": 5.0, "output": 20.0}}}
    await rig.ask("PUT", "/api/v1/prices", {"gpt-4o": {"input": 1, "cache_write": 3, **further}})
    prices = {"0.pattern": "gpt-4o", "0.input": "2.5", "0.output": "10", "1.pattern": ""}
    assert (await browser.ask("POST", "/console/settings/prices", **prices)).status == 303
    assert (await rig.ask("GET", "/api/v1/prices")).json() == {
        "gpt-4o": {"input": 2.5, "output": 10, **further}
    }
    prices["0.input"] = "cheap"
    assert (await browser.ask("POST", "/console/settings/prices", **prices)).status == 422
    code = await browser.ask("POST", "/console/settings/vault", act="recovery_code")
    [fresh] = re.findall(r'id="new-secret">([^<]+)<', code.body.decode())
    rekeyed = await browser.ask("POST", "/console/settings/vault", act="rekey")
    assert "Epoch 2" in said(rekeyed)
    assert (await browser.ask("GET", "/console/settings")).status == 200, "the session goes on"
    recovered = await Browser(rig).ask("POST", "/console/recover", code=fresh)
    assert recovered.status == 201
    [key] = set(KEY.findall(recovered.body.decode()))
    assert (await rig.ask("GET", "/api/v1/me", key=key)).json()["role"] == "owner"


@pytest.mark.both
async def test_taking_over_leaves_nobody_else_a_key(rig: Rig):
    await rig.add_provider_key()
    browser = await signed_in(rig)
    assert "The operator saw" in said(await browser.ask("GET", "/console/settings"))
    assert (await browser.ask("POST", "/console/settings/take-over", confirm="x")).status == 422
    made = await browser.ask("POST", "/console/settings/take-over", confirm="acme")
    [key] = set(KEY.findall(made.body.decode()))
    assert (await rig.ask("GET", "/api/v1/me")).status == 401
    assert (await rig.chat(key=key)).status == 200
    assert "The operator saw" not in said(await browser.ask("GET", "/console/settings"))


async def test_everything_can_be_taken_along_sealed(rig: Rig):
    await furnished(rig)
    browser = await signed_in(rig)
    answer = await browser.ask("POST", "/console/settings/export")
    assert "attachment" in answer.headers["content-disposition"]
    document = answer.json()
    assert document["format"] == "xairouter/owner/v1"
    assert {one["name"] for one in document["accounts"]} == {"acme", "thing"}
    assert len(document["provider_keys"]) == 1
    assert {one["purpose"] for one in document["slots"]} == {"api_key", "recovery"}
    assert SECRET.encode() not in answer.body
    assert rig.key.encode() not in answer.body
    assert (await rig.ask("POST", "/api/v1/export")).status == 200
    member = (await rig.ask("POST", "/api/v1/accounts", {"name": "m", "can_manage": True})).json()
    assert (await rig.ask("POST", "/api/v1/export", key=member["api_key"])).status == 403


@pytest.mark.both
async def test_usage_leads_from_figures_to_single_calls_and_out(rig: Rig):
    ids = await furnished(rig)
    for model in ("gpt-4o", "gpt-4o", "o3"):
        await rig.chat(model)
    await rig.records(expect=4)
    browser = await signed_in(rig)
    page = await browser.ask("GET", "/console/usage?group=model&range=24h")
    assert "4 calls in the last 24 hours" in said(page)
    for group in ("account", "key", "provider_key", "provider", "label", "day"):
        shown = await browser.ask("GET", f"/console/usage?group={group}")
        assert shown.status == 200, group
    assert "3 calls to gpt-4o" in said(await browser.ask("GET", "/console/calls?model=gpt-4o"))
    own = await browser.ask("GET", f"/console/calls?account={ids['account_id']}")
    assert "1 call by thing and below" in said(own)
    for query in ("outcome=interrupted", "status=599", "label=none", "key_id=key_x"):
        none = said(await browser.ask("GET", f"/console/calls?{query}"))
        assert "There is no call like that" in none, query
    assert "0 calls labelled none" in said(await browser.ask("GET", "/console/calls?label=none"))
    failed = said(await browser.ask("GET", "/console/calls?outcome=refused&model=o3"))
    assert "Calls to o3 that ended as refused" in failed
    assert "model_not_found" in failed
    assert (await browser.ask("GET", "/console/calls?status=many")).status == 422
    assert (await browser.ask("GET", "/console/usage?from=nonsense")).status == 422
    call = said(await browser.ask("GET", f"/console/calls/{ids['call_id']}"))
    for word in (ids["call_id"], "thing", "POST /v1/chat/completions"):
        assert word in call
    assert (await browser.ask("GET", "/console/calls/call_none")).status == 404
    exported = await browser.ask("GET", "/console/usage/export?format=jsonl&model=gpt-4o")
    lines = [json.loads(line) for line in exported.body.decode().splitlines()]
    assert len(lines) == 3
    table = await browser.ask("GET", "/console/usage/export?format=csv")
    assert table.headers["content-type"].startswith("text/csv")
    assert len(table.body.decode().strip().splitlines()) == 5


async def test_explanations_are_the_api_s(rig: Rig):
    ids = await furnished(rig)
    browser = await signed_in(rig)
    made = await browser.ask("GET", f"/console/explain?call_id={ids['call_id']}")
    assert "It would be served" in said(made)
    might = await browser.ask(
        "GET", f"/console/explain?model=zzz&account={ids['account_id']}&ip=10.0.0.1"
    )
    assert "model_not_found" in said(might)
    assert "It would be refused" in said(might)
    assert "There is no call" in said(await browser.ask("GET", "/console/explain?call_id=call_x"))


@pytest.mark.both
@pytest.mark.own_rig
async def test_the_operation_log_and_its_chain(rig: Rig):
    await furnished(rig)
    browser = await signed_in(rig)
    page = said(await browser.ask("GET", "/console/operations?verb=accounts"))
    assert "accounts.create" in page
    assert "provider_keys.create" not in page
    assert "The chain is whole" in said(
        await browser.ask("POST", "/console/operations/check", act="check")
    )
    point = await browser.ask("POST", "/console/operations/check", act="checkpoint")
    assert set(point.json()) == {"owner_id", "seq", "head", "at", "mac"}
    assert (await rig.ask("POST", "/api/v1/audit/check", point.json())).json()["whole"]
    await rig.sql("update operations set verb = 'forged' where verb = 'accounts.create'")
    broken = said(await browser.ask("POST", "/console/operations/check", act="check"))
    assert "The chain is not whole: 1 fault" in broken


async def test_notices_are_shown_counted_and_closed(rig: Rig):
    await furnished(rig)  # its model has no known price
    browser = await signed_in(rig)
    page = await browser.ask("GET", "/console/notices")
    assert "No price is known" in said(page)
    assert "1 open notice" in said(page)
    [path] = re.findall(r'action="(/console/notices/[^"]+)"', page.body.decode())
    closed = await browser.ask("POST", path, back="/console/notices")
    assert closed.headers["location"] == "/console/notices?done=notice_closed"
    assert "Nothing needs you" in said(await browser.ask("GET", "/console/notices"))
    assert "No price is known" in said(await browser.ask("GET", "/console/notices?state=all"))


async def test_the_palette_finds_what_may_be_seen(rig: Rig):
    await furnished(rig)
    browser = await signed_in(rig)
    found = await browser.ask("GET", "/console/find?q=thing", headers={"hx_request": "true"})
    assert said(found).count("thing") == 2, "the account and the provider key"
    call = await browser.ask("GET", "/console/find?q=call_01abc")
    assert b"/console/calls/call_01abc" in call.body
    member = (await rig.ask("POST", "/api/v1/accounts", {"name": "m"})).json()["api_key"]
    other = await signed_in(rig, member)
    hidden_from = await other.ask("GET", "/console/find?q=thing", headers={"hx_request": "true"})
    assert b"<a " not in hidden_from.body


@pytest.mark.both
async def test_first_steps_fade_when_they_are_done(rig: Rig):
    browser = await signed_in(rig)
    assert "First steps" in said(await browser.ask("GET", "/console/"))
    ids = await furnished(rig)
    assert "Set a budget" in said(await browser.ask("GET", "/console/"))
    rules = {"budget": {"month_usd": 5}, "allow_models": None}
    await rig.ask("PATCH", f"/api/v1/accounts/{ids['account_id']}/rules", rules)
    page = said(await browser.ask("GET", "/console/"))
    assert "First steps" not in page
    edges = said(await browser.ask("GET", "/console/edges"))
    assert "Budget of the month" in edges, "the limits nearest to their edge"


@pytest.mark.both
async def test_live_figures_say_what_is_new_and_miss_nothing_after_a_cut(rig: Rig):
    await rig.add_provider_key()
    browser = await signed_in(rig)

    heard = asyncio.Event()

    async def listen(last: str, seconds: float, word: bytes = b"event: calls") -> str:
        headers = {"cookie": browser.cookie, **({"last-event-id": last} if last else {})}
        found = b""
        async with rig.session.get(f"{rig.url}/console/live", headers=headers) as reply:
            assert reply.headers["content-type"].startswith("text/event-stream")
            try:
                async with asyncio.timeout(seconds):
                    async for chunk in reply.content.iter_any():
                        found += chunk
                        heard.set()
                        if word in found:
                            break
            except TimeoutError:
                pass
        return found.decode()

    listening = asyncio.create_task(listen("", 60))
    await heard.wait()
    await rig.chat()
    [first] = await rig.records(expect=1)
    assert "event: calls\nid: 1\n" in await listening
    await rig.chat()
    await rig.records(expect=2)
    assert "event: calls\nid: 2\n" in await listen("1", 60)
    assert "event: calls" not in await listen("2", 1.6)
    # A call that began before others and ended after them is new all the same.
    older = format_id("call", made_at_ms(first["call_id"]) - 3_600_000, 1)
    listening = asyncio.create_task(listen("2", 60))
    async with rig.house.database.write() as connection:
        row = {name: first.get(name) for name in ("owner_id", "account_id", "key_id", "dialect")}
        began = made_at_ms(older)
        late = UsageRecord(
            call_id=older,
            **row,
            method="POST",
            path="/v1/chat/completions",
            client_ip="127.0.0.1",
            started_at_ms=began,
            outcome="completed",
        )
        await records.insert_all(connection, [late], [], bytes)
    assert "event: calls\nid: 3\n" in await listening
    # What others call is nobody's to count.
    member = (await rig.ask("POST", "/api/v1/accounts", {"name": "m"})).json()["api_key"]
    browser = await signed_in(rig, member)
    assert "id: 0" in await listen("", 60, b"id: 0")


async def test_a_live_stream_ends_where_too_many_read_and_comes_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    async def refuse(*_: object) -> int:
        raise ManageError(ErrorCode.RATE_LIMITED, "Too many reads of this owner wait.")

    browser = await signed_in(rig)
    monkeypatch.setattr(usage, "count_records", refuse)
    headers = {"cookie": browser.cookie}
    async with rig.session.get(f"{rig.url}/console/live", headers=headers) as reply:
        assert (reply.status, await reply.read()) == (200, b"")


async def test_a_live_stream_ends_with_its_session(rig: Rig):
    browser = await signed_in(rig)
    async with rig.session.get(
        f"{rig.url}/console/live", headers={"cookie": browser.cookie}
    ) as reply:
        await reply.content.readany()
        await browser.ask("POST", "/console/sign-out", everywhere="1")
        async with asyncio.timeout(120):
            while await reply.content.readany():
                pass


async def test_a_script_is_told_that_the_session_ended_and_keeps_what_was_typed(rig: Rig):
    for method in ("GET", "POST"):
        answer = await Browser(rig).ask(
            method, "/console/settings", headers={"hx_request": "true", "hx_boosted": "true"}
        )
        assert answer.status == 401
        assert answer.body == b""


async def test_the_theme_is_kept_in_this_browser(rig: Rig):
    browser = await signed_in(rig)
    answer = await browser.ask("POST", "/console/theme", theme="dark", back="/console/usage")
    assert answer.headers["location"] == "/console/usage"
    cookie = answer.headers["set-cookie"]
    assert "xairouter-theme=dark" in cookie
    assert "HttpOnly" in cookie
    page = await rig.ask("GET", "/console/sign-in", key=None, cookie="xairouter-theme=dark")
    assert b'data-theme="dark"' in page.body
    page = await rig.ask("GET", "/console/sign-in", key=None, cookie='xairouter-theme="><b>')
    assert b"<b>" not in page.body


@pytest.mark.parametrize(
    "name", ["console.css", "console.js", "vendor/htmx.min.js", "vendor/inter.woff2"]
)
async def test_everything_a_page_needs_comes_from_here(rig: Rig, name: str):
    answer = await rig.ask("GET", f"/console/static/{name}", key=None)
    assert answer.status == 200
    assert answer.body
    for path in ("../pages.py", "..%2fpages.py", "vendor/README.md", "nothing.js"):
        assert (await rig.ask("GET", f"/console/static/{path}", key=None)).status == 404


@pytest.mark.both
async def test_a_change_that_was_meant_for_another_state_is_refused(rig: Rig):
    ids = await furnished(rig)
    for path, body in (
        (f"/api/v1/accounts/{ids['account_id']}", {"name": "fresh"}),
        (f"/api/v1/accounts/{ids['account_id']}/rules", {"limits": {"rpm": 5}}),
        (f"/api/v1/provider-keys/{ids['key_id']}", {"weight": 9}),
        ("/api/v1/settings", {"record_days": 99}),
        ("/api/v1/routing", {"level_map": {"a": 1}}),
    ):
        method = "PUT" if path.endswith("routing") else "PATCH"
        tag = (await rig.ask("GET", path)).headers["etag"]
        stale = await rig.ask(method, path, body, if_match='"0123456789abcdef"')
        assert (stale.status, stale.json()["code"]) == (409, "conflict"), path
        assert (await rig.ask(method, path, body, if_match=tag)).status == 200
        assert (await rig.ask(method, path, body, if_match=tag)).status == 409
        assert (await rig.ask(method, path, body, if_match="*")).status == 200
