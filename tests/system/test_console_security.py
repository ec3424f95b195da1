"""What the console withstands: other sites, hostile names, foreign ids, guessing, old cookies.

The stand-in provider plays the hostile one. What the browser makes of the pages is in tests/browser.
"""

import logging
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

import pytest
import structlog

from tests.rig import SECRET, Rig
from tests.system.test_console import Browser
from xairouter.console.pages import OPEN, OPERATOR, SIGNED_IN
from xairouter.manage import operators
from xairouter.manage.attempts import MOST_SIGN_INS as MOST_TRIES
from xairouter.observe import configure_logs

pytestmark = pytest.mark.shared_rig

NASTY = "<script>alert(1)</script>"
QUOTED = "\"><img src=x onerror=alert(2)> ' {{7*7}} {name}"
POSTS = [path for method, path, _ in (*SIGNED_IN, *OPEN, *OPERATOR) if method == "POST"]
GETS = [
    path
    for method, path, _ in SIGNED_IN
    if method == "GET" and path not in ("/console/live", "/console/usage/export")
]
"""Pages; what is downloaded is shown by no browser (see its headers)."""


class Scripts(HTMLParser):
    """What a page would run, and where it would send somebody."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        source = values.get("src") or ""
        if tag == "script" and not source.startswith("/console/static/"):
            self.found.append(f"script {source}")
        if tag in ("iframe", "object", "embed", "base", "style"):
            self.found.append(tag)
        self.found += [name for name in values if name.startswith("on") or name == "style"]
        for name in ("href", "action", "src", "hx-get", "hx-post"):
            target = values.get(name) or "/"
            if not target.startswith(("/console/", "#", "https://", "/")):
                self.found.append(f"{name}={target}")


def scripts_in(page: bytes) -> list[str]:
    reader = Scripts()
    reader.feed(page.decode())
    return reader.found


async def signed_in(rig: Rig, key: str = "") -> Browser:
    browser = Browser(rig)
    assert (await browser.sign_in(key)).status == 303
    return browser


def filled(path: str, ids: dict[str, str]) -> str:
    return re.sub(r"{(\w+)(?::path)?}", lambda found: ids.get(found.group(1), "none"), path)


async def furnished(rig: Rig, **names: Any) -> dict[str, str]:
    """Something in every room; the ids of it."""
    name = names.get("name", "thing")
    rig.standin.documents = {"/models": {"data": [{"id": names.get("model", "gpt-4o")}]}}
    key = await rig.add_provider_key(name=name, models=None, verify=True)
    made = await rig.ask("POST", "/api/v1/accounts", {"name": name, "email": "a@b.example"})
    account = made.json()
    await rig.ask(
        "PATCH",
        f"/api/v1/accounts/{account['account']['id']}/rules",
        {"allow_models": [names.get("model", "gpt-4o"), "*"], "limits": {"rpm": 100}},
    )
    await rig.ask(
        "POST",
        "/v1/chat/completions",
        {"model": names.get("model", "gpt-4o"), "messages": []},
        key=account["api_key"],
        x_xairouter_label=names.get("label", "label"),
        x_session_id=names.get("label", "session"),
    )
    [record] = await rig.records(expect=1)
    return {
        "key_id": key["id"],
        "account_id": account["account"]["id"],
        "xai_key": account["key"]["id"],
        "api_key": account["api_key"],
        "call_id": record["call_id"],
        "name": "faq",
    }


@pytest.mark.parametrize("path", POSTS)
async def test_no_form_of_another_site_does_anything(rig: Rig, path: str):
    browser = await signed_in(rig)
    ids = {"account_id": rig.owner_id, "token": "t" * 43}
    operator = await operator_of(rig)
    for who in (browser, operator):
        for site, headers in (
            ("cross-site", {}),
            ("same-site", {"origin": "https://evil.example"}),
        ):
            answer = await who.ask("POST", filled(path, ids), site=site, headers=headers)
            assert answer.status in (401, 403, 303), answer.body[:200]
            if answer.status == 303:
                assert "sign-in" in answer.headers["location"]
    assert (await browser.ask("GET", "/console/")).status == 200, "the session is still there"


async def operator_of(rig: Rig) -> Browser:
    token = await operators.make_operator_link(rig.house.database)
    browser = Browser(rig)
    answer = await browser.ask("POST", f"/console/operator/{token}")
    assert answer.status == 303, answer.body
    return browser


async def test_every_answer_forbids_frames_foreign_scripts_and_keeping(rig: Rig):
    browser = await signed_in(rig)
    ids = await furnished(rig)
    paths = [filled(path, ids) for path in GETS]
    for path in [*paths, "/console/sign-in", "/console/nowhere", "/console/setup/none"]:
        answer = await browser.ask("GET", path)
        policy = answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy, path
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
    for form, kind in (("csv", "text/csv"), ("jsonl", "application/jsonl")):
        answer = await browser.ask("GET", f"/console/usage/export?format={form}")
        assert answer.headers["content-type"].startswith(kind)
        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("words", [NASTY, QUOTED])
async def test_no_text_that_a_tenant_or_a_provider_sets_runs_anywhere(rig: Rig, words: str):
    ids = await furnished(rig, name=words[:100], model=words, label=words[:60])
    await rig.ask(
        "PUT", "/api/v1/routing", {"level_map": {words: 1}, "model_failover": {words: ["m"]}}
    )
    await rig.ask("PUT", "/api/v1/prices", {words: {"input": 1}})
    await rig.chat(words)
    await rig.records(expect=2)
    browser = await signed_in(rig)
    seen = 0
    for path in GETS:
        for query in ({}, {"q": words}, {"model": words}, {"label": words, "group": "label"}):
            asked = filled(path, ids) + (f"?{urlencode(query)}" if query else "")
            answer = await browser.ask("GET", asked)
            assert answer.status in (200, 404), (path, answer.status, answer.body[-500:])
            assert scripts_in(answer.body) == [], path
            assert words.encode() not in answer.body
            seen += b"&lt;script" in answer.body or b"&lt;img" in answer.body
    assert seen > 10, "the words are there, as words"


async def test_a_provider_s_own_words_run_nowhere(rig: Rig):
    rig.standin.documents = {
        "/models": {"data": [{"id": NASTY}, {"id": QUOTED}], "organization": NASTY}
    }
    browser = await signed_in(rig)
    answer = await browser.ask(
        "POST",
        "/console/provider-keys",
        provider="",
        secret=SECRET,
        name="x",
        dialect="openai_chat",
        base_url=f"{rig.standin_url}/v1",
    )
    assert answer.status == 201
    assert scripts_in(answer.body) == []
    assert b"&lt;script&gt;" in answer.body


async def test_foreign_ids_do_not_exist(rig: Rig):
    ids = await furnished(rig)
    other = await rig.new_owner("other")
    stranger = await signed_in(rig, other.api_key)
    about = [path for path in GETS if "{" in path and "name" not in path]
    about += [path for method, path, _ in SIGNED_IN if method == "POST" and "{" in path]
    assert len(about) > 15
    before = await rig.ask("GET", "/api/v1/accounts?scope=descendants")
    for path in about:
        method = "GET" if path in GETS else "POST"
        answer = await stranger.ask(
            method,
            filled(path, ids),
            name="thing",
            confirm="thing",
            status="disabled",
            act="delete",
        )
        assert answer.status in (404, 422), (path, answer.status)
        assert b"thing" not in answer.body or b"confirm" in answer.body, path
        if answer.status == 422:
            assert b"not exist" in answer.body or b"There is no" in answer.body, (path, answer.body)
    for query in (f"account={ids['account_id']}", f"call_id={ids['call_id']}&model=x"):
        page = await stranger.ask("GET", f"/console/explain?{query}")
        assert b"would be served" not in page.body
    assert (await rig.ask("GET", "/api/v1/accounts?scope=descendants")).body == before.body
    assert len((await rig.ask("GET", "/api/v1/provider-keys")).json()["items"]) == 1


async def test_signing_in_makes_a_session_of_its_own_whatever_cookie_came(rig: Rig):
    planted = await signed_in(rig, (await rig.new_owner("attacker")).api_key)
    victim = Browser(rig)
    victim.cookie = planted.cookie
    await victim.sign_in()
    assert victim.cookie != planted.cookie
    page = await victim.ask("GET", "/console/me")
    assert b"acme" in page.body
    assert b"attacker" in (await planted.ask("GET", "/console/me")).body


@pytest.mark.parametrize(
    "to",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "/console/..//evil.example\\",
        "javascript:alert(1)",
        "/console/../api/v1/me",
        "/console/\r\nset-cookie: a=b",
        "http:/console/",
        "\t//evil.example",
    ],
)
async def test_signing_in_leads_to_our_own_pages_only(rig: Rig, to: str):
    for path, fields in (
        ("/console/sign-in", {"key": rig.key, "to": to}),
        ("/console/theme", {"theme": "dark", "back": to}),
    ):
        answer = await Browser(rig).ask("POST", path, **fields)
        assert answer.status == 303
        assert answer.headers["location"] == "/console/"


async def test_signing_in_leads_back_to_where_one_was_going(rig: Rig):
    stranger = Browser(rig)
    asked = await stranger.ask("GET", "/console/usage?group=key&range=30d")
    page = await stranger.ask("GET", asked.headers["location"])
    [to] = re.findall(r'name="to" value="([^"]*)"', page.body.decode())
    answer = await stranger.ask(
        "POST", "/console/sign-in", key=rig.key, to=to.replace("&amp;", "&")
    )
    assert answer.headers["location"] == "/console/usage?group=key&range=30d"


@pytest.mark.own_rig
async def test_guessing_is_slowed_down_and_says_nothing_about_what_exists(rig: Rig):
    guess = "sk-Xvs" + "b" * 45
    bodies = set()
    for number in range(MOST_TRIES):
        where, field = (("/console/sign-in", "key"), ("/console/recover", "code"))[number % 2]
        answer = await Browser(rig).ask("POST", where, **{field: guess})
        assert answer.status == 401
        bodies.add((where, answer.body))
    assert len(bodies) == 2, "every wrong one is answered alike"
    for where in ("/console/sign-in", "/console/recover"):
        answer = await Browser(rig).ask("POST", where, key=rig.key, code=rig.recovery_code)
        assert answer.status == 429
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert "set-cookie" not in answer.headers


async def test_no_cookie_opens_the_data_plane_or_the_management_api(rig: Rig):
    browser = await signed_in(rig)
    operator = await operator_of(rig)
    await rig.add_provider_key()
    for cookie in (browser.cookie, operator.cookie):
        for method, path in (
            ("POST", "/v1/chat/completions"),
            ("GET", "/v1/models"),
            ("GET", "/api/v1/me"),
            ("POST", "/api/v1/panic"),
        ):
            answer = await rig.ask(method, path, b"{}", key=None, cookie=cookie)
            assert answer.status == 401, (path, answer.body)


async def test_an_address_that_the_rules_shut_out_has_no_session_either(rig: Rig):
    made = (await rig.ask("POST", "/api/v1/accounts", {"name": "t"})).json()
    browser = await signed_in(rig, made["api_key"])
    rules = {"allow_ips": ["10.0.0.0/8"]}
    await rig.ask("PATCH", f"/api/v1/accounts/{made['account']['id']}/rules", rules)
    assert (await browser.ask("GET", "/console/me")).status == 303
    assert (await Browser(rig).sign_in(made["api_key"])).status == 401


@pytest.mark.parametrize("role", ["member", "manager", "caller"])
async def test_what_a_key_may_not_do_it_may_not_do_here(rig: Rig, role: str):
    ids = await furnished(rig)
    body = {"name": role, "can_manage": role == "manager"}
    made = (await rig.ask("POST", "/api/v1/accounts", body)).json()
    key = made["api_key"]
    if role == "member":
        path = f"/api/v1/accounts/{made['account']['id']}/keys"
        key = (await rig.ask("POST", path, {"name": "m", "scope": "manage"})).json()["api_key"]
    browser = await signed_in(rig, key)
    # The account beside theirs is as foreign as another owner's.
    owner_only = ("provider-keys", "routing", "settings", "notices")
    for method, path, _ in SIGNED_IN:
        if path in ("/console/live", "/console/sign-out", "/console/playground/key"):
            continue
        answer = await browser.ask(
            method, filled(path, ids), name="x", act="delete", confirm="thing"
        )
        if any(word in path for word in owner_only):
            assert answer.status in (403, 404), (path, answer.status)
        elif "{" in path and "help" not in path:
            assert answer.status in (403, 404, 422), (path, answer.status)
            assert b"call_" not in answer.body or b"not" in answer.body
        elif role != "manager" and any(
            word in path for word in ("accounts", "operations", "panic")
        ):
            assert answer.status == 403, (path, answer.status)
        elif path == "/console/operations/check":
            assert answer.status == 403, "the chain is the owner's whole tree's"
        else:
            assert answer.status in (200, 201, 303, 422), (path, answer.status, answer.body[-400:])
    assert len((await rig.ask("GET", "/api/v1/provider-keys")).json()["items"]) == 1
    assert (await rig.ask("GET", f"/api/v1/accounts/{ids['account_id']}")).status == 200


async def test_a_page_offers_only_what_may_be_done(rig: Rig):
    made = (await rig.ask("POST", "/api/v1/accounts", {"name": "t"})).json()
    browser = await signed_in(rig, made["api_key"])
    page = (await browser.ask("GET", "/console/")).body.decode()
    rail = page.partition("<ul>")[2].partition("</ul>")[0]
    hrefs = re.findall(r'href="([^"]+)"', rail)
    for href in hrefs:
        assert (await browser.ask("GET", href)).status == 200
    assert "/console/provider-keys" not in hrefs
    assert "/console/me" in hrefs


async def test_a_form_that_is_too_large_or_has_too_many_fields_is_refused(rig: Rig):
    browser = await signed_in(rig)
    path = f"/console/accounts/{rig.owner_id}/rules"
    answer = await browser.ask("POST", path, allow_models="x" * 300_000)
    assert answer.status == 413
    many = {f"f{number}": "1" for number in range(1100)}
    assert (await browser.ask("POST", path, **many)).status == 400


@pytest.fixture
def default_logs_again() -> Iterator[None]:
    """What a test does to the logs is undone behind it, also where it fails."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)
    logging.basicConfig(stream=sys.__stderr__, force=True)


@pytest.mark.own_rig
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("default_logs_again")
async def test_a_page_that_fails_says_so_and_nothing_of_what_was_sent(
    rig: Rig, monkeypatch, capsys
):
    from xairouter.console.rooms import accounts

    configure_logs("info")

    async def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("out of order")

    browser = await signed_in(rig)
    monkeypatch.setattr(accounts.tree, "branch", broken)  # type: ignore[attr-defined]
    for method, path in (("GET", "/console/accounts"), ("GET", "/console/accounts/new")):
        answer = await browser.ask(method, path)
        assert answer.status == 500
        assert b"The router failed" in answer.body
        assert b"out of order" not in answer.body
        assert answer.headers["content-security-policy"]
    token = "tokentokentokentokentokentokentokentoken1"
    monkeypatch.setattr("xairouter.manage.invitations.find_invitation", broken)
    await Browser(rig).ask("GET", f"/console/invitation/{token}")
    told = capsys.readouterr()
    assert "console_failed" in told.out + told.err
    assert token not in told.out + told.err, "an address that is a secret is in no log"
