"""The console in headless Chromium, against the real server with the stand-in provider.

Every page and every task, as owner, manager, member and operator: no console error, no request to
another origin, no violation of an accessibility rule, no secret in the page, its address or its
storage after it was shown once. Skipped by name where no Chromium is there;
``scripts/install-browser`` gets one. Screenshots are kept where XAIROUTER_TEST_SCREENSHOTS names a
folder.
"""

import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.rig import SECRET, Rig
from xairouter.console.pages import SIGNED_IN
from xairouter.manage import links, operators

CHROMIUM = next(
    (
        path
        for name in (
            os.environ.get("XAIROUTER_TEST_BROWSER", ""),
            "chromium",
            "chromium-browser",
            "google-chrome",
        )
        if name and (path := shutil.which(name))
    ),
    None,
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
SHOTS = os.environ.get("XAIROUTER_TEST_SCREENSHOTS", "")
WIDTHS = {"phone": 390, "tablet": 1024, "desk": 1440}
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
KEY = re.compile(r"sk-Xvs\w{45}")


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        await browser.close()


class Watched:
    """A page whose every complaint is collected, and which is searched for what it must not hold."""

    def __init__(self, page: Page, *secrets: str) -> None:
        self.page = page
        self.secrets = [SECRET, *secrets]
        self.complaints: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("requestfailed", self._failed)
        page.on("request", self._asked)
        page.on("dialog", self._dialog)

    async def _dialog(self, dialog: Any) -> None:
        if dialog.type != "beforeunload":
            self.complaints.append("a script ran")
        await dialog.accept()

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _failed(self, asked: Any) -> None:
        # Going to another page ends what the last one still asked for.
        if "ERR_ABORTED" not in str(asked.failure):
            self.complaints.append(f"failed: {asked.url}")

    def _asked(self, asked: Any) -> None:
        if not asked.url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            self.complaints.append(f"left this machine: {asked.url}")
        if KEY.search(asked.url) or any(secret in asked.url for secret in self.secrets):
            self.complaints.append(f"a secret in an address: {asked.url}")

    def forgive(self, words: str) -> None:
        """A refusal that was asked for on purpose is told by the browser, too."""
        self.complaints = [one for one in self.complaints if words not in one]

    async def check(self, name: str) -> None:
        """Take a screenshot, and ask for accessibility and layout."""
        if SHOTS:
            Path(SHOTS).mkdir(parents=True, exist_ok=True)
            await self.page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)
        assert self.complaints == [], name
        found = await Axe().run(
            self.page,
            options={"runOnly": {"type": "tag", "values": RULES}, "resultTypes": ["violations"]},
        )
        told = [
            (rule["id"], [node["html"][:200] for node in rule["nodes"]])
            for rule in found.response["violations"]
        ]
        assert told == [], name
        overflow = await self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert overflow <= 0, f"{name} scrolls sideways by {overflow} px"

    async def holds_no_secret(self) -> None:
        """Neither the page, nor its address, nor what the browser keeps for scripts."""
        html = await self.page.content()
        kept = await self.page.evaluate(
            "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
        )
        # The library notes where it is; it is not there on pages whose address is a secret.
        paths = r'"htmx-current-path-for-history":"/console/(?!setup|invitation|operator)[^"]*"'
        kept = re.sub(paths, "", kept)
        for place in (html, self.page.url, kept):
            assert not KEY.search(place)
            assert not any(secret in place for secret in self.secrets)
        assert kept == '[{},{},""]', "nothing is kept for scripts at all"


async def _context(chromium: Browser, width: str, theme: str, **options: Any) -> BrowserContext:
    size = {"width": WIDTHS[width], "height": 900}
    # The script that asks for accessibility is put into the page, which its policy forbids.
    return await chromium.new_context(viewport=size, color_scheme=theme, bypass_csp=True, **options)


async def _add_provider_key(page: Page, rig: Rig) -> None:
    await page.select_option("#provider", "")
    await page.fill("#secret", SECRET)
    await page.click("summary:has-text('Another server')")
    await page.fill("#base_url", f"{rig.standin_url}/v1")
    await page.click("text=Seal and check")
    await page.wait_for_selector("[role=status]:has-text('is in the vault')")


async def _sign_in(page: Page, rig: Rig, key: str = "") -> None:
    await page.goto(f"{rig.url}/console/sign-in")
    await page.fill("#key", key or rig.key)
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/console/")


async def _furnish(rig: Rig) -> dict[str, str]:
    """Keys that are well, asleep and rejected, a small tree with rules, and calls of every kind."""
    names = ["gpt-4o", "gpt-4o-mini", "o3", "claude-sonnet-4-5"]
    rig.standin.documents = {"/models": {"data": [{"id": name} for name in names]}}
    key = await rig.add_provider_key(name="openai-main", models=None, verify=True)
    await rig.add_provider_key(name="spare", secret="sk-limited-0123456789abcdefgh", level=2)
    await rig.ask("PUT", "/api/v1/prices", {"gpt-4o*": {"input": 2.5, "output": 10}})
    made = {}
    for name, manages in (("platform", True), ("batch-jobs", False)):
        body = {"name": name, "can_manage": manages}
        made[name] = (await rig.ask("POST", "/api/v1/accounts", body)).json()
    for name in ("ci", "alice"):
        body = {"name": name, "parent": made["platform"]["account"]["id"]}
        made[name] = (await rig.ask("POST", "/api/v1/accounts", body)).json()
    await rig.ask(
        "PATCH",
        f"/api/v1/accounts/{made['platform']['account']['id']}/rules",
        {"limits": {"rpm": 60, "tpd": 200_000}, "budget": {"month_usd": 100}},
    )
    await rig.ask("PUT", "/api/v1/routing", {"switch_over": {"1": [2]}})
    for number in range(12):
        who = ("ci", "alice", "batch-jobs")[number % 3]
        await rig.chat(names[number % 3], key=made[who]["api_key"], max_completion_tokens=20)
    await rig.chat("fault-429", key=made["ci"]["api_key"])
    records = await rig.records()
    return {
        "key_id": key["id"],
        "account_id": made["platform"]["account"]["id"],
        "call_id": records[0]["call_id"],
        "name": "how-to/access-control",
        "manager": made["platform"]["api_key"],
        "member": made["alice"]["api_key"],
    }


def _pages(ids: dict[str, str]) -> dict[str, str]:
    """Every page behind a session, by a name for its screenshot."""
    found = {}
    for method, path, page in SIGNED_IN:
        if method == "GET" and path not in ("/console/live", "/console/usage/export"):
            name = page.__name__.removeprefix("show_").replace("_", "-")
            asked = re.sub(r"{(\w+)(?::path)?}", lambda match: ids[match.group(1)], path)
            found[name] = asked
    found["explained"] = f"/console/explain?call_id={ids['call_id']}"
    found["where"] = "/console/routing?model=gpt-4o"
    found["searched"] = "/console/accounts?q=a"
    return found


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
async def test_every_room_reads_well_and_complains_of_nothing(
    rig: Rig, chromium: Browser, width: str, theme: str
):
    ids = await _furnish(rig)
    context = await _context(chromium, width, theme)
    watched = Watched(await context.new_page())
    await _sign_in(watched.page, rig)
    pages = _pages(ids)
    assert len(pages) > 22
    for name, path in pages.items():
        answer = await watched.page.goto(rig.url + path)
        assert answer is not None
        assert answer.status == 200, path
        await watched.page.wait_for_timeout(60)
        await watched.check(f"{name}-{width}-{theme}")
        await watched.holds_no_secret()
    await context.close()


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", ["phone", "desk"])
async def test_a_newcomer_comes_from_the_link_to_the_first_call(
    rig: Rig, chromium: Browser, width: str, theme: str
):
    context = await _context(chromium, width, theme)
    watched = Watched(await context.new_page())
    page, at = watched.page, f"{width}-{theme}"
    _, token = await links.make_link(rig.house.database, links.INVITE)
    await page.goto(f"{rig.url}/console/setup/{token}")
    await watched.check(f"setup-{at}")
    await page.fill("#name", "Ms Newcomer")
    await page.keyboard.press("Enter")
    await page.wait_for_selector("#api-key")
    await watched.check(f"welcome-{at}")
    # The way on opens when somebody says that the secrets are stored.
    await page.click("button:has-text('Add a provider key')")
    assert await page.is_visible("#api-key")
    await page.check("form[data-keep] input[type=checkbox]")
    await page.click("button:has-text('Add a provider key')")
    await page.wait_for_url("**/console/provider-keys?")
    await watched.holds_no_secret()
    await watched.check(f"no-keys-{at}")
    await _add_provider_key(page, rig)
    assert "models" in await page.inner_text("main")
    await watched.check(f"key-added-{at}")
    await page.goto(f"{rig.url}/console/calls")
    await watched.check(f"no-calls-{at}")
    await page.goto(f"{rig.url}/console/")
    assert "First steps" in await page.inner_text("main")
    await watched.check(f"first-steps-{at}")
    await page.goto(f"{rig.url}/console/settings")
    await page.click("text=Sign out everywhere")
    await page.wait_for_url("**/console/sign-in")
    await watched.check(f"sign-in-{at}")
    await page.click("text=I have lost my keys")
    await page.wait_for_url("**/console/recover")
    await watched.check(f"recover-{at}")
    await context.close()


@pytest.mark.slow
@pytest.mark.parametrize("role", ["manager", "member"])
async def test_others_see_what_they_may_and_no_more(rig: Rig, chromium: Browser, role: str):
    ids = await _furnish(rig)
    context = await _context(chromium, "desk", "light")
    watched = Watched(await context.new_page())
    page = watched.page
    await _sign_in(page, rig, ids[role])
    hrefs = await page.eval_on_selector_all(".rail li a", "all => all.map(a => a.pathname)")
    assert ("/console/accounts" in hrefs) == (role == "manager")
    assert "/console/provider-keys" not in hrefs
    for href in hrefs:
        answer = await page.goto(rig.url + href)
        assert answer is not None
        assert answer.status == 200, href
        name = href.strip("/").replace("/", "-")
        await watched.check(f"{role}-{name}")
        text = await page.inner_text("main")
        assert "batch-jobs" not in text, "the account beside theirs"
        await watched.holds_no_secret()
    await page.goto(f"{rig.url}/console/usage")
    if role == "manager":
        await page.click("main .tabs >> text=Account")
        await page.wait_for_selector("#usage-table >> text=alice")
        await page.goto(f"{rig.url}/console/accounts")
        await page.click("th a:has-text('alice')")
        await page.click("text=Invite its user")
        await page.wait_for_selector("#invitation-link")
        await watched.holds_no_secret()
    await context.close()


@pytest.mark.slow
async def test_the_operator_invites_suspends_and_deletes_owners(rig: Rig, chromium: Browser):
    token = await operators.make_operator_link(rig.house.database)
    context = await _context(chromium, "desk", "light")
    watched = Watched(await context.new_page())
    page = watched.page
    await page.goto(f"{rig.url}/console/operator/{token}")
    await watched.check("operator-link")
    await page.click("button:has-text('Open')")
    await page.wait_for_url("**/console/operator")
    await watched.check("operator")
    await page.fill("#f-name", "Another owner")
    await page.click("text=Make a link")
    link = await page.inner_text("#owner-link")
    await watched.check("operator-invited")
    assert "/console/setup/" in link
    await page.goto(f"{rig.url}/console/operator")
    await page.click("button:has-text('Suspend')")
    await page.wait_for_selector("text=suspended")
    assert (await rig.ask("GET", "/api/v1/me")).code == "account_suspended"
    await page.click("button:has-text('Resume')")
    await page.wait_for_selector("text=active")
    assert (await rig.ask("GET", "/api/v1/me")).status == 200
    await page.set_viewport_size({"width": 390, "height": 900})
    await watched.check("operator-phone")
    await context.close()


@pytest.mark.slow
async def test_an_account_is_made_invited_ruled_and_deleted(rig: Rig, chromium: Browser):
    await _furnish(rig)
    context = await _context(chromium, "desk", "light")
    watched = Watched(await context.new_page())
    page = watched.page
    await _sign_in(page, rig)
    await page.click(".rail >> text=Accounts")
    await page.click("text=New account")
    await page.fill("#f-name", "intern")
    await page.check("input[value=show]")
    await page.click("button:has-text('Create the account')")
    await page.wait_for_selector("#api-key")
    shown = await page.inner_text("#api-key")
    assert KEY.fullmatch(shown)
    await watched.check("key-issued")
    await page.check("form[data-keep] input[type=checkbox]")
    await page.click("form[data-keep] button")
    await page.wait_for_selector("h1:has-text('intern')")
    await watched.holds_no_secret()
    await page.go_back()
    await watched.holds_no_secret()
    await page.goto(f"{rig.url}/console/accounts?q=intern")
    await page.click("th a:has-text('intern')")
    await page.click("text=Invite its user")
    await page.wait_for_selector("#invitation-link")
    link = await page.inner_text("#invitation-link")
    await watched.check("invited")
    user = await _context(chromium, "phone", "dark")
    invited = Watched(await user.new_page())
    await invited.page.goto(link)
    await invited.check("invitation-phone")
    await invited.page.click("text=Show my key")
    await invited.page.wait_for_selector("#api-key")
    assert await invited.page.inner_text("#api-key") != shown
    await invited.check("invitation-accepted-phone")
    await user.close()

    # Rules: what they would mean shows while typing, what they would have done before saving.
    await page.check("form[data-keep] input[type=checkbox]")
    await page.click("form[data-keep] button")
    await page.click("a:has-text('Rules')")
    await page.check("input[name=allow_models_own]")
    await page.fill("#f-allow_models", "claude-*")
    await page.wait_for_selector("#check >> text=claude-*")
    await page.fill("[name='limits.rpm']", "many")
    await page.wait_for_selector("#check >> text=no whole number")
    await page.fill("[name='limits.rpm']", "30")
    await page.wait_for_selector("#check >> text=limits.rpm")
    await page.click("button:has-text('Rehearse')")
    await page.wait_for_selector("text=What that would have done", timeout=60_000)
    await watched.check("rules-rehearsed")
    assert await page.input_value("[name='limits.rpm']") == "30"
    await page.click("button:has-text('Save')")
    await page.wait_for_selector("text=The rules hold from the next call on")

    await page.goto(f"{rig.url}/console/accounts?q=intern")
    await page.click("th a:has-text('intern')")
    await page.click("summary:has-text('Delete the account')")
    await page.fill("#confirm", "interm")
    await page.click("button:has-text('Delete for good')")
    await page.wait_for_selector("text=is not the one to be confirmed")
    watched.forgive("422")
    await page.fill("#confirm", "intern")
    await page.click("button:has-text('Delete for good')")
    await page.wait_for_selector("text=The account is deleted")
    await watched.check("account-deleted")
    await context.close()


@pytest.mark.slow
async def test_a_provider_key_is_tested_replaced_disabled_and_deleted(rig: Rig, chromium: Browser):
    ids = await _furnish(rig)
    context = await _context(chromium, "desk", "dark")
    watched = Watched(await context.new_page())
    page = watched.page
    await _sign_in(page, rig)
    await page.goto(f"{rig.url}/console/provider-keys")
    await page.click("text=openai-main")
    await page.click("button:has-text('Test now')")
    await page.wait_for_selector("text=The provider accepts it")
    await watched.check("key-tested")
    await page.click("summary:has-text('Replace the key')")
    await page.fill("#new-secret", "sk-fresh-A1b2C3d4E5f6G7h8")
    await page.click("button:has-text('Check and replace')")
    await page.wait_for_selector("code:has-text('…G7h8')")
    await page.click("button:has-text('Disable') >> nth=0")
    await page.wait_for_selector("text=no call goes to it")
    await page.click("summary:has-text('Delete the key')")
    assert "Accounts that used this key" in await page.inner_text("main")
    await watched.check("key-danger")
    await page.fill("#confirm", "openai-main")
    await page.click("button:has-text('Delete for good')")
    await page.wait_for_selector("text=Receipt")
    await watched.check("key-receipt")
    answer = await page.goto(f"{rig.url}/console/provider-keys/{ids['key_id']}")
    assert answer is not None
    assert answer.status == 404
    await context.close()


@pytest.mark.slow
async def test_trouble_is_shown_where_it_can_be_mended(rig: Rig, chromium: Browser):
    await rig.add_provider_key(name="rejected one")
    await rig.add_provider_key(name="limited one", secret="sk-limited-0123456789abcdefgh", level=2)
    await rig.chat("nobody-knows-me")
    rig.standin.failing = {"sk-limited-0123456789abcdefgh": "fault-429"}
    rig.standin.rejected.add(SECRET)
    keys = (await rig.ask("GET", "/api/v1/provider-keys")).json()["items"]
    for key in keys:
        await rig.ask("POST", f"/api/v1/provider-keys/{key['id']}/test")
    await rig.records(expect=1)
    context = await _context(chromium, "desk", "light")
    watched = Watched(await context.new_page())
    page = watched.page
    await _sign_in(page, rig)
    assert "rejects the provider key “rejected one”" in await page.inner_text("main")
    await watched.check("trouble-desk")
    count = await page.locator("form.notice").count()
    await page.click("form.notice >> nth=0 >> button")
    await page.wait_for_function(f"document.querySelectorAll('form.notice').length === {count - 1}")
    await page.goto(f"{rig.url}/console/provider-keys")
    await page.select_option("#provider", "anthropic")
    assert "anthropic.com" in str(await page.get_attribute("#provider-page", "href"))
    await page.fill("#secret", "sk-wrong")
    await page.fill("[name=name]", "my words stay")
    await page.click("summary:has-text('Another server')")
    await page.select_option("#provider", "")
    await page.fill("#base_url", "ftp://nowhere")
    await page.evaluate("document.querySelector('#base_url').type = 'text'")
    await page.click("text=Seal and check")
    await page.wait_for_selector("[role=alert]:has-text('not allowed')")
    assert await page.input_value("[name=name]") == "my words stay"
    assert await page.input_value("#secret") == "", "a secret never comes back"
    watched.forgive("422")
    await watched.check("refused-desk")
    await context.close()


@pytest.mark.slow
async def test_what_is_typed_outlives_a_server_that_is_away_and_a_session_that_ended(
    rig: Rig, chromium: Browser
):
    ids = await _furnish(rig)
    context = await _context(chromium, "desk", "light")
    watched = Watched(await context.new_page())
    page = watched.page
    await _sign_in(page, rig)
    path = f"{rig.url}/console/accounts/{ids['account_id']}/rules"
    await page.goto(path)
    await page.fill("[name='limits.rpm']", "41")
    await page.wait_for_selector("#check >> text=41")
    await context.set_offline(True)
    await page.click("button:has-text('Save')")
    await page.wait_for_selector("#banner:has-text('does not answer')")
    assert await page.input_value("[name='limits.rpm']") == "41"
    await context.set_offline(False)
    cookies = await context.cookies()
    await context.clear_cookies()
    await page.click("button:has-text('Save')")
    await page.wait_for_selector("#banner:has-text('session has ended')")
    assert await page.input_value("[name='limits.rpm']") == "41"
    await context.add_cookies(cookies)
    # Somebody else was faster.
    await rig.ask("PATCH", f"/api/v1/accounts/{ids['account_id']}/rules", {"limits": {"rph": 999}})
    await page.click("button:has-text('Save')")
    await page.wait_for_selector("[role=alert]:has-text('Somebody else has changed this')")
    assert await page.input_value("[name='limits.rpm']") == "41"
    for words in ("ERR_INTERNET_DISCONNECTED", "failed:", "401", "409", "sendError"):
        watched.forgive(words)
    watched.forgive("htmx:")
    await watched.check("conflict")
    await context.close()


@pytest.mark.slow
async def test_calls_and_figures_appear_as_they_come_in(rig: Rig, chromium: Browser):
    await rig.add_provider_key()
    context = await _context(chromium, "desk", "light")
    watched = Watched(await context.new_page())
    page = watched.page
    await _sign_in(page, rig)
    other = await context.new_page()
    # Its answer begins once it is known what the page has seen already.
    async with other.expect_response(lambda answer: "/console/live" in answer.url):
        await other.goto(f"{rig.url}/console/calls")
    await rig.chat("demo-large")
    await other.wait_for_selector("td:has-text('demo-large')", timeout=60_000)
    await page.wait_for_selector("#figures table:has-text('demo-large')", timeout=60_000)
    await rig.ask("POST", "/v1/messages", {"model": "<b>x</b>", "max_tokens": 9, "messages": []})
    await other.wait_for_selector("td:has-text('<b>x</b>')", timeout=60_000)
    # A cut connection comes back by itself, and what came in meanwhile is there.
    await context.set_offline(True)
    await rig.chat("while-away")
    await context.set_offline(False)
    await other.wait_for_selector("td:has-text('while-away')", timeout=60_000)
    for words in ("ERR_INTERNET_DISCONNECTED", "failed:", "ERR_NETWORK"):
        watched.forgive(words)
    await watched.check("live")
    await context.close()


@pytest.mark.slow
async def test_the_playground_talks_in_every_dialect_and_keeps_its_key_to_itself(
    rig: Rig, chromium: Browser
):
    await rig.add_provider_key(models=["demo-large"])
    context = await _context(chromium, "desk", "light")
    watched = Watched(await context.new_page())
    page = watched.page
    sent: list[Any] = []
    page.on("request", lambda asked: sent.append(asked))
    await _sign_in(page, rig)
    await page.goto(f"{rig.url}/console/playground?model=demo-large")
    for dialect in ("openai_chat", "openai_responses", "anthropic_messages", "gemini_generate"):
        await page.select_option("[name=dialect]", dialect)
        for stream in (True, False):
            await page.set_checked("[name=stream]", stream)
            await page.click("text=Start anew")
            await page.fill("[name=text]", "hello there")
            await page.click("button:has-text('Send')")
            await page.wait_for_function(
                "document.querySelectorAll('#talk article').length === 2"
                " && document.querySelector('#talk article:last-child div').textContent.length > 3"
                " && !document.querySelector('[name=send]').disabled"
            )
            assert "HTTP 200" in await page.inner_text("#raw-reply"), dialect
            assert "$XAI_KEY" in await page.inner_text("#raw-request")
    calls = [one for one in sent if "/v1" in one.url and "/console" not in one.url]
    assert len(calls) == 8
    for call in calls:
        headers = await call.all_headers()
        assert "cookie" not in headers, "no cookie ever authorises the data plane"
    await watched.check("playground-talked")
    await watched.holds_no_secret()
    # A second turn carries the first, a refusal is told in words, and the record is a click away.
    await page.select_option("[name=dialect]", "openai_chat")
    await page.fill("[name=named]", "unknown-model")
    await page.click("button:has-text('Send')")
    await page.wait_for_selector("#talk article:has-text('No provider key')")
    watched.forgive("404")
    await rig.records(expect=9)
    await page.click("text=The record of this call")
    await page.wait_for_selector("text=model_not_found")
    keys = (await rig.ask("GET", f"/api/v1/accounts/{rig.owner_id}/keys")).json()["items"]
    assert [key["name"] for key in keys].count("playground") == 1
    await page.click("text=Sign out")
    await page.wait_for_url("**/console/sign-in")
    keys = (await rig.ask("GET", f"/api/v1/accounts/{rig.owner_id}/keys")).json()["items"]
    assert [key["name"] for key in keys].count("playground") == 0
    await context.close()


@pytest.mark.slow
async def test_everything_can_be_reached_by_keyboard(rig: Rig, chromium: Browser):
    await _furnish(rig)
    context = await _context(chromium, "desk", "light")
    page = await context.new_page()
    await page.goto(f"{rig.url}/console/sign-in")
    await page.keyboard.type(rig.key)
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/console/")
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.textContent") == "Skip to content"
    for path in ("/console/", "/console/provider-keys", "/console/settings"):
        await page.goto(rig.url + path)
        wanted = await page.evaluate(
            "[...document.querySelectorAll('main a, main button, main input:not([type=hidden]), "
            "main select, main textarea, main summary')].filter(e => e.checkVisibility()).length"
        )
        reached = set()
        for _ in range(wanted + 60):
            await page.keyboard.press("Tab")
            at = await page.evaluate(
                "[document.activeElement.closest('main') && [...document.querySelectorAll('main *')]"
                ".indexOf(document.activeElement), getComputedStyle(document.activeElement).outlineStyle,"
                " document.activeElement === document.body]"
            )
            assert at[1] != "none" or at[2], "the focus is seen wherever it is"
            if at[0] is not None:
                reached.add(at[0])
        assert len(reached) >= wanted, path
    await page.goto(f"{rig.url}/console/usage")
    await page.focus("details.api summary")
    await page.keyboard.press("Enter")
    assert "curl" in await page.inner_text("#api-line")
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    for width in (1440, 390):
        await page.set_viewport_size({"width": width, "height": 900})
        assert await page.evaluate(overflow) <= 0
    await page.set_viewport_size({"width": 1440, "height": 900})
    await page.keyboard.press("Control+k")
    await page.wait_for_selector("dialog[open]")
    await page.keyboard.type("batch")
    await page.wait_for_selector(".found a:has-text('batch-jobs')")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await page.wait_for_selector("h1:has-text('batch-jobs')")
    await page.goto(f"{rig.url}/console/provider-keys")
    await page.focus("tbody tr:first-child a")
    await page.keyboard.press("ArrowDown")
    assert await page.evaluate("document.activeElement.textContent") == "spare"
    await context.close()


@pytest.mark.slow
async def test_tables_sort_and_charts_tell_their_values(rig: Rig, chromium: Browser):
    await _furnish(rig)
    context = await _context(chromium, "desk", "light")
    page = await context.new_page()
    await _sign_in(page, rig)
    await page.goto(f"{rig.url}/console/usage?range=today")
    heads = "#usage-table th button"
    await page.click(f"{heads}:has-text('Calls')")
    column = "all => all.map(cell => Number(cell.querySelector('data').value))"
    down = await page.eval_on_selector_all("#usage-table tbody td:nth-child(2)", column)
    assert down == sorted(down, reverse=True)
    await page.click(f"{heads}:has-text('Calls')")
    assert (
        await page.eval_on_selector_all("#usage-table tbody td:nth-child(2)", column) == down[::-1]
    )
    assert await page.get_attribute("#usage-table th:nth-child(2)", "aria-sort") == "ascending"
    box = await page.locator("[data-chart] .u-over").bounding_box()
    assert box is not None
    await page.mouse.move(box["x"] + box["width"] - 8, box["y"] + 40)
    await page.wait_for_function("document.querySelector('.legend b') !== null")
    assert "$" in await page.inner_text(".legend")
    await page.click("summary:has-text('The figures behind it')")
    assert await page.is_visible("#usage-by-time")
    await context.close()


@pytest.mark.slow
async def test_it_works_without_script_and_under_its_own_policy(rig: Rig, chromium: Browser):
    ids = await _furnish(rig)
    context = await chromium.new_context(
        viewport={"width": 1440, "height": 900}, java_script_enabled=False
    )
    watched = Watched(await context.new_page())
    page = watched.page
    await _sign_in(page, rig)
    for path in _pages(ids).values():
        answer = await page.goto(rig.url + path)
        assert answer is not None
        assert answer.status == 200
    await page.goto(f"{rig.url}/console/provider-keys")
    await _add_provider_key(page, rig)
    await page.goto(f"{rig.url}/console/accounts/new")
    await page.fill("#f-name", "plain")
    await page.click("button:has-text('Create the account')")
    await page.wait_for_selector("#invitation-link")
    await page.goto(f"{rig.url}/console/accounts/{ids['account_id']}/rules")
    await page.fill("[name='limits.rpm']", "12")
    await page.click("button:has-text('Save')")
    await page.wait_for_selector("text=The rules hold from the next call on")
    await page.goto(f"{rig.url}/console/?range=today")
    assert "The figures behind it" in await page.inner_text("main")
    assert await page.is_visible("#calls-by-time"), "without script the figures stand in the table"
    assert watched.complaints == []
    await context.close()


async def test_no_hostile_text_runs_under_the_console_s_own_policy(rig: Rig, chromium: Browser):
    name = "<img src=x onerror=alert(1)>"
    rig.standin.documents = {"/models": {"data": [{"id": "<script>alert(2)</script>"}]}}
    key = await rig.add_provider_key(name=name, models=None, verify=True)
    made = (await rig.ask("POST", "/api/v1/accounts", {"name": name})).json()
    body = {"model": "<script>alert(3)</script>", "messages": []}
    await rig.ask("POST", "/v1/chat/completions", body, x_xairouter_label="<svg onload=alert(4)>")
    [record] = await rig.records(expect=1)
    ids = {
        "key_id": key["id"],
        "account_id": made["account"]["id"],
        "call_id": record["call_id"],
        "name": "faq",
    }
    context = await chromium.new_context()
    watched = Watched(await context.new_page())
    page = watched.page
    await _sign_in(page, rig)
    for path in _pages(ids).values():
        await page.goto(rig.url + path)
        await page.wait_for_timeout(30)
    await page.keyboard.press("Control+k")
    await page.keyboard.type("<img src=x onerror=alert(5)>")
    await page.wait_for_selector(".found a")
    await page.goto(f"{rig.url}/console/calls")
    assert "<script>alert(3)</script>" in await page.inner_text("main")
    assert watched.complaints == []
    await context.close()


async def test_no_other_page_can_put_the_console_into_a_frame(rig: Rig, chromium: Browser):
    context = await chromium.new_context()
    page = await context.new_page()
    await _sign_in(page, rig)
    foreign = await context.new_page()
    # The stand-in is another origin; it is made to show a page that frames ours.
    await foreign.goto(rig.standin_url)
    await foreign.set_content(f"<iframe src='{rig.url}/console/' width=900 height=900></iframe>")
    await foreign.wait_for_timeout(500)
    framed = [frame for frame in foreign.frames if frame != foreign.main_frame]
    for frame in framed:
        assert "Overview" not in await frame.content()
    await context.close()
