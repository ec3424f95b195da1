"""The console's entrance, provider keys and calls; sessions and what ends them."""

import html
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.rig import SECRET, Answer, Rig
from xairouter.console.pages import SIGNED_IN

pytestmark = pytest.mark.shared_rig

FORM = {"content_type": "application/x-www-form-urlencoded"}
KEYS = "/console/provider-keys"


class Browser:
    """Keeps one cookie, as a browser would."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.cookie = ""

    async def ask(
        self,
        method: str,
        path: str,
        /,
        *,
        site: str = "same-origin",
        headers: dict[str, str] | None = None,
        **fields: Any,
    ) -> Answer:
        body = urlencode(fields).encode() if method == "POST" else None
        headers = {**(headers or {}), **({"cookie": self.cookie} if self.cookie else {})}
        answer = await self.rig.ask(
            method, path, body, key=None, sec_fetch_site=site, **FORM, **headers
        )
        set_cookie = answer.headers.get("set-cookie")
        if set_cookie:
            self.cookie = set_cookie.partition(";")[0]
        return answer

    async def sign_in(self, key: str = "") -> Answer:
        return await self.ask("POST", "/console/sign-in", key=key or self.rig.key)

    @property
    def token(self) -> str:
        return self.cookie.partition("=")[2]


@pytest.fixture
async def browser(rig: Rig) -> Browser:
    made = Browser(rig)
    assert (await made.sign_in()).status == 303
    return made


async def test_signing_in_sets_a_strict_cookie_that_is_no_key(rig: Rig):
    browser = Browser(rig)
    answer = await browser.sign_in()
    cookie = answer.headers["set-cookie"].lower()
    for part in ("httponly", "samesite=strict", "path=/"):
        assert part in cookie
    assert answer.headers["location"] == "/console/"
    await rig.add_provider_key()
    for headers in (
        {"cookie": browser.cookie},
        {"authorization": f"Bearer {browser.token}"},
        {"x_api_key": browser.token},
    ):
        for path in ("/v1/chat/completions", "/api/v1/panic"):
            refused = await rig.ask("POST", path, {"model": "m"}, key=None, **headers)
            assert refused.status == 401, "no cookie ever authorises anything but the console"


@pytest.mark.own_rig
@pytest.mark.parametrize("key", ["", "sk-Xvs" + "a" * 39 + "23emdh", "' OR 1=1", "x" * 5000])
async def test_a_wrong_key_signs_nobody_in_and_all_are_answered_alike(rig: Rig, key: str):
    browser = Browser(rig)
    answer = await browser.ask("POST", "/console/sign-in", key=key)
    assert answer.status == 401
    assert "set-cookie" not in answer.headers
    assert b"does not open a vault here" in answer.body
    if key:
        assert key.encode() not in answer.body


@pytest.mark.parametrize("path", [path for method, path, _ in SIGNED_IN if method == "GET"])
async def test_pages_without_a_session_lead_to_signing_in(rig: Rig, path: str):
    for cookie in ("", "xairouter=nonsense", "__Host-xairouter=nonsense"):
        browser = Browser(rig)
        browser.cookie = cookie
        answer = await browser.ask("GET", path)
        assert answer.status == 303
        assert answer.headers["location"].partition("?")[0] == "/console/sign-in"


async def test_adding_a_key_shows_its_check_up_and_never_the_secret(rig: Rig, browser: Browser):
    rig.standin.documents = {"/models": {"data": [{"id": "gpt-4o"}, {"id": "gpt-4o-mini"}]}}
    answer = await browser.ask(
        "POST",
        KEYS,
        provider="",
        secret=SECRET,
        name="mine",
        dialect="openai_chat",
        base_url=rig.standin_url + "/v1",
    )
    assert answer.status == 201, answer.body
    text = html.unescape(answer.body.decode())
    assert "“mine” is in the vault" in text
    assert "lists 2 models" in text
    assert f"{rig.url}/v1" in text
    assert SECRET not in text
    assert SECRET[-4:] in text
    assert (await rig.chat("gpt-4o")).status == 200


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"provider": "openai", "secret": ""}, "no secret"),
        ({"provider": "", "secret": SECRET}, "endpoints"),
        (
            {
                "provider": "",
                "secret": SECRET,
                "dialect": "openai_chat",
                "base_url": "http://169.254.169.254/",
            },
            "not allowed",
        ),
        (
            {
                "provider": "",
                "secret": "with space",
                "dialect": "openai_chat",
                "base_url": "https://x.example",
            },
            "visible ASCII",
        ),
        ({"provider": "<script>", "secret": SECRET}, "no known provider"),
    ],
)
async def test_a_problem_keeps_what_was_typed_but_the_secret(rig, browser, fields, words):
    answer = await browser.ask("POST", KEYS, name="typed <name>", **fields)
    assert answer.status == 422
    assert words in html.unescape(answer.body.decode())
    assert b"typed &lt;name&gt;" in answer.body or "ASCII" in words
    assert SECRET.encode() not in answer.body
    assert b"with space" not in answer.body
    assert b"<script>" not in answer.body


@pytest.mark.both
async def test_a_rejected_key_is_not_kept(rig: Rig, browser: Browser):
    rig.standin.rejected.add(SECRET)
    answer = await browser.ask(
        "POST",
        KEYS,
        provider="",
        secret=SECRET,
        dialect="openai_chat",
        base_url=rig.standin_url + "/v1",
    )
    assert answer.status == 422
    assert b"rejects this key" in answer.body
    assert (await rig.ask("GET", "/api/v1/provider-keys")).json()["items"] == []


async def test_calls_are_shown_as_they_come_in(rig: Rig, browser: Browser):
    assert b"no call like that" in (await browser.ask("GET", "/console/calls")).body
    key = await rig.add_provider_key()
    await rig.chat("demo-large")
    await rig.chat("<b>bold</b>")
    await rig.records(expect=2)
    for headers in ({}, {"hx_request": "true"}):
        page = await browser.ask("GET", "/console/calls", headers=headers)
        assert b"demo-large" in page.body
        assert key["name"].encode() in page.body
        assert b"<b>bold" not in page.body
    assert b"<html" not in page.body


async def test_a_member_sees_its_own_calls_and_no_provider_keys(rig: Rig):
    await rig.add_provider_key()
    sub = (await rig.ask("POST", "/api/v1/accounts", {"name": "t"})).json()
    await rig.chat("owners-model")
    await rig.chat("members-model", key=sub["api_key"])
    await rig.records(expect=2)
    browser = Browser(rig)
    await browser.sign_in(sub["api_key"])
    calls = (await browser.ask("GET", "/console/calls")).body
    assert b"members-model" in calls
    assert b"owners-model" not in calls
    assert (await browser.ask("GET", KEYS)).status == 403
    assert (await browser.ask("POST", KEYS, provider="openai", secret=SECRET)).status == 403


@pytest.mark.parametrize("path", ["/console/sign-in", "/console/sign-out", KEYS])
async def test_another_site_cannot_send_any_form(rig: Rig, browser: Browser, path: str):
    answer = await browser.ask("POST", path, site="cross-site", key=rig.key, secret=SECRET)
    assert answer.status == 403
    assert b"another site" in answer.body
    assert (await browser.ask("GET", KEYS)).status == 200


async def test_signing_out_ends_this_session_or_all_of_the_key(rig: Rig, browser: Browser):
    others = [Browser(rig) for _ in range(2)]
    for other in others:
        await other.sign_in()
    stale = browser.cookie
    assert (await browser.ask("POST", "/console/sign-out")).status == 303
    browser.cookie = stale
    assert (await browser.ask("GET", KEYS)).status == 303
    assert (await others[0].ask("GET", KEYS)).status == 200
    cookie = others[1].cookie
    await others[0].ask("POST", "/console/sign-out", everywhere="1")
    others[1].cookie = cookie
    assert (await others[1].ask("GET", KEYS)).status == 303


@pytest.mark.both
@pytest.mark.own_rig
async def test_a_session_ends_with_its_key_its_idle_time_and_its_absolute_life(rig: Rig):
    from xairouter.clock import format_id, made_at_ms, now_ms
    from xairouter.domain.slots import LIVES_MS, SlotPurpose

    sub = (await rig.ask("POST", "/api/v1/accounts", {"name": "t"})).json()
    browser = Browser(rig)
    await browser.sign_in(sub["api_key"])
    assert (await browser.ask("GET", "/console/calls")).status == 200
    account, key = sub["account"]["id"], sub["key"]["id"]
    await rig.ask("PATCH", f"/api/v1/accounts/{account}/keys/{key}", {"status": "suspended"})
    assert (await browser.ask("GET", "/console/calls")).status == 303
    await rig.ask("PATCH", f"/api/v1/accounts/{account}/keys/{key}", {"status": "active"})
    assert (await browser.ask("GET", "/console/calls")).status == 303, "it does not come back"
    await browser.sign_in(sub["api_key"])
    assert (await browser.ask("GET", "/console/calls")).status == 200
    await rig.ask("DELETE", f"/api/v1/accounts/{account}/keys/{key}")
    assert (await browser.ask("GET", "/console/calls")).status == 303

    idle = Browser(rig)
    await idle.sign_in()
    assert (await idle.ask("GET", "/console/calls")).status == 200
    [[slot_id]] = await rig.sql("select id from slots where purpose = 'session'")
    assert abs(made_at_ms(slot_id) - now_ms()) < 60_000
    assert made_at_ms(format_id("slot", 12345, 7)) == 12345
    # Kept alive while used, but never beyond twelve hours.
    moved = "update slots set expires_at_ms = ? where id = ?"
    await rig.sql((moved, (now_ms() + 60_000, slot_id)))
    rig.house.directory.drop(rig.owner_id)
    await idle.ask("GET", "/console/calls")
    [[ends]] = await rig.sql(("select expires_at_ms from slots where id = ?", (slot_id,)))
    assert now_ms() + 25 * 60_000 < ends <= made_at_ms(slot_id) + LIVES_MS[SlotPurpose.SESSION]
    # What a page that was left open asks for by itself keeps nothing alive.
    await rig.sql((moved, (now_ms() + 60_000, slot_id)))
    rig.house.directory.drop(rig.owner_id)
    await idle.ask("GET", "/console/calls", headers={"hx_request": "true"})
    [[ends]] = await rig.sql(("select expires_at_ms from slots where id = ?", (slot_id,)))
    assert ends < now_ms() + 61_000
    await rig.sql((moved, (1, slot_id)))
    rig.house.directory.drop(rig.owner_id)
    assert (await idle.ask("GET", "/console/calls")).status == 303


@pytest.mark.both
@pytest.mark.own_rig
async def test_a_session_s_token_opens_exactly_its_owner_s_vault_and_is_stored_nowhere(
    rig: Rig, browser: Browser, tmp_path
):
    import asyncio

    from tests.system.test_custody import _steal

    await rig.add_provider_key(secret="sk-acme-0123456789abcdefgh")
    copy = tmp_path / "stolen.db"
    await rig.copy_database(copy)
    assert (await asyncio.to_thread(_steal, copy))["keys"] == []
    found = await asyncio.to_thread(_steal, copy, browser.token)
    assert found == {"owners": [rig.owner_id], "keys": ["sk-acme-0123456789abcdefgh"]}
    for data in (await rig.files()).values():
        assert browser.token.encode() not in data


async def test_becoming_an_owner_signs_in_and_leads_to_the_first_key(rig: Rig):
    from xairouter.manage import links

    _, token = await links.make_link(rig.house.database, links.INVITE, "fresh")
    browser = Browser(rig)
    page = await browser.ask("POST", f"/console/setup/{token}")
    assert page.status == 201
    assert KEYS.encode() in page.body
    assert b"There is no provider key yet" in (await browser.ask("GET", KEYS)).body


async def test_signing_in_needs_https_except_on_loopback(rig: Rig, monkeypatch):
    from xairouter.console.visit import Visit

    monkeypatch.setattr(Visit, "can_sign_in", property(lambda _: False))
    browser = Browser(rig)
    assert b"need HTTPS" in (await browser.ask("GET", "/console/sign-in")).body
    assert (await browser.sign_in()).status == 401
    assert browser.cookie == ""


async def test_over_https_the_cookie_is_bound_to_the_host(rig: Rig, monkeypatch):
    from xairouter.console.visit import Visit

    monkeypatch.setattr(Visit, "is_https", property(lambda _: True))
    browser = Browser(rig)
    answer = await browser.sign_in()
    assert answer.headers["set-cookie"].startswith("__Host-xairouter=")
    assert "secure" in answer.headers["set-cookie"].lower()
    assert (await browser.ask("GET", KEYS)).status == 200
