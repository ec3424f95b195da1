"""What a tenant's own provider replies is never a page of the console's origin, in a real Chromium.

Each attack is tried on a signed-in victim twice: as the browser sends it, and through a proxy that
takes out what the browser says of a request's purpose (``sec-fetch-…``), as browsers do that say
nothing of it, so that the reply's own headers stand alone.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Page
from playwright.async_api import Error as BrowserError

from tests.browser.test_rooms import CHROMIUM, chromium
from tests.rig import Rig, start_rig
from xairouter.standin.faults import Reply

__all__ = ["chromium"]
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
ATTACK = (
    "<!doctype html><title>a page</title><svg xmlns='http://www.w3.org/2000/svg'>"
    "<script>fetch('/console/?attack-ran')</script></svg>"
    "<img src='/console/static/icon.svg?attack-ran' onerror='1'>"
)
WORKER = "self.addEventListener('fetch', (event) => event.respondWith(new Response('taken')))"
HOSTILE = (
    ("service-worker-allowed", "/"),
    ("content-security-policy", "default-src * 'unsafe-inline'"),
    ("access-control-allow-origin", "*"),
)
TYPES = (
    "text/html",
    "image/svg+xml",
    "application/xhtml+xml",
    "text/xml",
    "application/json",
    "text/plain",
    "text/event-stream",
    "multipart/x-mixed-replace; boundary=x",
    "",
)


async def _forward(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request to the router without ``sec-fetch-…``, and its reply to the end."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        kept = [
            line
            for line in head.rstrip("\r\n").split("\r\n")
            if not line.lower().startswith(("sec-fetch-", "connection:"))
        ]
        length = re.search(r"(?i)\r\ncontent-length: *(\d+)", head)
        body = await reader.readexactly(int(length[1])) if length else b""
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        up_writer.write("\r\n".join([*kept, "connection: close", "", ""]).encode("latin-1") + body)

        async def pipe() -> None:
            while piece := await up_reader.read(65_536):
                writer.write(piece)
                await writer.drain()

        # Until the reply is whole, or the browser has left.
        ends = [asyncio.ensure_future(pipe()), asyncio.ensure_future(reader.read())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
        up_writer.close()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


@pytest.fixture(params=["as it is", "without sec-fetch"])
async def origin(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Rig, str]]:
    """A router whose owner is the victim, and the origin under which the browser knows it."""
    rig = await start_rig(tmp_path)
    server = None
    url = rig.url
    if request.param != "as it is":
        server = await asyncio.start_server(
            lambda reader, writer: _forward(rig.port, reader, writer), "127.0.0.1"
        )
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield rig, url
    finally:
        if server is not None:
            server.close()
        await rig.stop()


class Victim:
    """A signed-in browser, and whether a script of the attacker's ever ran in it."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.ran: list[str] = []
        context.on("request", lambda asked: self._note(asked.url))

    def _note(self, url: str) -> None:
        if "attack-ran" in url:
            self.ran.append(url)


async def _signed_in(chromium: Browser, rig: Rig, url: str) -> tuple[Victim, Page]:
    victim = Victim(await chromium.new_context())
    page = await victim.context.new_page()
    await page.goto(f"{url}/console/sign-in")
    await page.fill("#key", rig.key)
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/console/")
    return victim, page


async def _attacker(rig: Rig) -> str:
    """The key of another owner, whose provider replies what it likes."""
    made = await rig.new_owner("attacker")
    await rig.add_provider_key(key=made.api_key)
    return str(made.api_key)


async def _follow(page: Page, url: str, **headers: str) -> None:
    """Open a link; that it becomes a download is no fault."""
    await page.set_extra_http_headers(headers)
    try:
        await page.goto(url, wait_until="commit")
    except BrowserError as error:
        if "Download is starting" not in str(error) and "ERR_ABORTED" not in str(error):
            raise
    await page.wait_for_timeout(100)


@asynccontextmanager
async def _site(html: str) -> AsyncIterator[str]:
    """Another site: a browser takes localhost for one that is not 127.0.0.1."""
    body = html.encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n"
                b"content-length: %d\r\n\r\n" % len(body) + body
            )
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1")
    try:
        yield f"http://localhost:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_a_link_with_the_attacker_s_key_opens_nothing_that_runs(
    origin: tuple[Rig, str], chromium: Browser
):
    rig, url = origin
    key = await _attacker(rig)
    victim, page = await _signed_in(chromium, rig, url)
    tab = await victim.context.new_page()
    before = await rig.ask("GET", f"/api/v1/accounts/{rig.owner_id}/keys")
    for kind in TYPES:
        typed = (("content-type", kind),) if kind else ()
        rig.standin.scripted = Reply(200, (*typed, *HOSTILE), body=ATTACK.encode())
        for path in (f"/v1/responses/x?key={key}", f"/v1/responses/x/input_items?key={key}"):
            await _follow(tab, url + path)
        # Even if a link could carry a credential: what the provider says does not run.
        asked = len(rig.standin.requests)
        await _follow(tab, f"{url}/v1/responses/x", authorization=f"Bearer {key}")
        assert len(rig.standin.requests) == asked + (url != rig.url)
    await page.goto(f"{url}/console/")
    assert victim.ran == []
    after = await rig.ask("GET", f"/api/v1/accounts/{rig.owner_id}/keys")
    assert before.json() == after.json()
    await victim.context.close()


async def test_no_service_worker_can_be_registered_from_the_data_plane(
    origin: tuple[Rig, str], chromium: Browser
):
    rig, url = origin
    key = await _attacker(rig)
    victim, page = await _signed_in(chromium, rig, url)
    # Even from a script on the console's own origin, and with a credential that goes along.
    await victim.context.set_extra_http_headers({"authorization": f"Bearer {key}"})
    for kind in ("text/javascript", "application/javascript", "text/ecmascript", "module", ""):
        typed = (("content-type", kind),) if kind else ()
        rig.standin.scripted = Reply(200, (*typed, *HOSTILE), body=WORKER.encode())
        for scope in ("/", "/console/", "/v1/responses/"):
            said = await page.evaluate(
                """async ([path, scope]) => {
                    try { await navigator.serviceWorker.register(path, {scope}); return "registered" }
                    catch (error) { return error.name }
                }""",
                [f"/v1/responses/x?key={key}", scope],
            )
            assert said in ("SecurityError", "TypeError"), (kind, scope)
    found = await page.evaluate("navigator.serviceWorker.getRegistrations().then((a) => a.length)")
    assert found == 0
    await victim.context.close()


async def test_a_form_of_another_site_opens_nothing_that_runs(
    origin: tuple[Rig, str], chromium: Browser
):
    rig, url = origin
    key = await _attacker(rig)
    victim, _ = await _signed_in(chromium, rig, url)
    path = f"/v1beta/models/m:generateContent?key={key}"
    forms = "".join(
        f"<form method=post enctype=text/plain action='{url}{path}' target={target}>"
        """<input name='{"contents":[],"x":"' value='"}'></form>"""
        for target in ("_self", "frame")
    )
    async with _site(forms + "<iframe name=frame></iframe>") as site:
        for kind in TYPES:
            typed = (("content-type", kind),) if kind else ()
            rig.standin.scripted = Reply(200, (*typed, *HOSTILE), body=ATTACK.encode())
            for number in range(2):
                page = await victim.context.new_page()
                await page.goto(site)
                asked = len(rig.standin.requests)
                async with page.expect_response(lambda one: "/v1beta/" in one.url) as came:
                    await page.evaluate(f"document.forms[{number}].submit()")
                assert (await came.value).status == (403 if url == rig.url else 200)
                assert len(rig.standin.requests) == asked + (url != rig.url)
                await page.wait_for_timeout(100)
                await page.close()
    assert victim.ran == []
    await victim.context.close()


async def test_an_allowed_origin_calls_from_a_page_and_no_other_does(
    tmp_path: Path, chromium: Browser
):
    ask = """async ([url, key]) => {
        try {
            const reply = await fetch(url + "/v1/chat/completions", {
                method: "POST",
                headers: {authorization: "Bearer " + key, "content-type": "application/json",
                          "x-stainless-lang": "js"},
                body: JSON.stringify({model: "demo-large", messages: []}),
            })
            return [reply.status, reply.headers.get("x-xairouter-call-id")]
        } catch (error) { return [error.name, ""] }
    }"""
    async with _site("<p>an app") as app, _site("<p>another") as other:
        rig = await start_rig(tmp_path, cors_origins=app)
        try:
            await rig.add_provider_key()
            page = await chromium.new_page()
            await page.goto(app)
            status, call_id = await page.evaluate(ask, [rig.url, rig.key])
            assert (status, call_id[:5]) == (200, "call_")
            await page.goto(other)
            assert await page.evaluate(ask, [rig.url, rig.key]) == ["TypeError", ""]
            assert len(await rig.records(expect=1)) == 1
        finally:
            await rig.stop()
