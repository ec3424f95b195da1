"""One-time links: only the person at the browser sees the owner's first secrets."""

import asyncio
import html
import json
import re
from pathlib import Path

import pytest

from tests.rig import Rig
from tests.system.process import run_command, start_router
from xairouter.manage import links

pytestmark = pytest.mark.shared_rig

FORM = {"content_type": "application/x-www-form-urlencoded"}


async def _invite(rig: Rig, name: str | None = None) -> tuple[links.Link, str]:
    return await links.make_link(rig.house.database, links.INVITE, name)


def _shown(body: bytes) -> tuple[str, str]:
    text = html.unescape(body.decode())
    key = re.search(r"sk-Xvs[0-9A-Za-z]{45}", text)
    code = re.search(r"XR1-[0-9A-Z]{34}", text)
    assert key is not None
    assert code is not None
    return key.group(), code.group()


@pytest.mark.both
async def test_looking_uses_nothing_up_and_accepting_shows_key_and_code_once(rig: Rig):
    link, token = await _invite(rig, "blue & co")
    path = f"/console/setup/{token}"
    for _ in range(2):
        page = await rig.ask("GET", path, key=None)
        assert page.status == 200
        assert b"blue &amp; co" in page.body
        assert b"sk-Xvs" not in page.body
    made = await rig.ask("POST", path, b"", key=None, **FORM)
    assert made.status == 201
    key, code = _shown(made.body)
    me = (await rig.ask("GET", "/api/v1/me", key=key)).json()
    assert (me["account"]["id"], me["account"]["name"]) == (link.account_id, "blue & co")
    assert me["seen_by_operator"] is False
    assert (
        await rig.ask("POST", "/api/v1/recover", {"recovery_code": code}, key=None)
    ).status == 201
    for method in ("GET", "POST"):
        assert (
            await rig.ask(method, path, b"" if method == "POST" else None, key=None)
        ).status == 404


@pytest.mark.both
async def test_of_two_who_accept_at_once_one_becomes_the_owner(rig: Rig):
    _, token = await _invite(rig, "race")
    answers = await asyncio.gather(
        *(rig.ask("POST", f"/console/setup/{token}", b"", key=None, **FORM) for _ in range(8))
    )
    assert sorted(answer.status for answer in answers) == [201] + [404] * 7


async def test_a_problem_leaves_the_link_alive_and_keeps_what_was_typed(rig: Rig):
    _, token = await _invite(rig)
    path = f"/console/setup/{token}"
    for typed, shown in ((b"name=acme", b"already"), (b"name=", b"1 to 128"), (b"", b"1 to 128")):
        refused = await rig.ask("POST", path, typed, key=None, **FORM)
        assert refused.status == 422
        assert shown in refused.body
    hostile = await rig.ask("POST", path, b"name=%3Cscript%3E" + b"x" * 200, key=None, **FORM)
    assert hostile.status == 422
    assert b"<script>x" not in hostile.body
    assert (await rig.ask("POST", path, b"name=green", key=None, **FORM)).status == 201


@pytest.mark.parametrize(
    "headers", [{"sec_fetch_site": "cross-site"}, {"origin": "https://evil.example"}]
)
async def test_another_site_cannot_send_the_form(rig: Rig, headers: dict[str, str]):
    _, token = await _invite(rig, "mine")
    path = f"/console/setup/{token}"
    assert (await rig.ask("POST", path, b"", key=None, **FORM, **headers)).status == 403
    same = {"sec_fetch_site": "same-origin", "origin": rig.url}
    assert (await rig.ask("POST", path, b"", key=None, **FORM, **same)).status == 201


@pytest.mark.both
@pytest.mark.own_rig
async def test_a_link_that_is_too_old_is_gone(rig: Rig):
    _, token = await _invite(rig, "late")
    await rig.sql("update one_time_links set expires_at_ms = 1")
    for method in ("GET", "POST"):
        answer = await rig.ask(method, f"/console/setup/{token}", key=None)
        assert answer.status == 404
        assert b"24 hours" in answer.body


async def test_pages_carry_a_strict_policy_and_nothing_inline(rig: Rig):
    _, token = await _invite(rig, "strict")
    pages = [
        await rig.ask("GET", f"/console/setup/{token}", key=None),
        await rig.ask("GET", "/console/setup/none", key=None),
        await rig.ask("GET", "/console/nothing", key=None),
        await rig.ask("POST", f"/console/setup/{token}", b"", key=None, **FORM),
    ]
    for page in pages:
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["referrer-policy"] == "no-referrer"
        assert page.headers["cache-control"] == "no-store"
        text = page.body.decode()
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style| style=| on\w+=", text)
        assert not re.search(r"(src|href)=\"(?!/console/|#)", text)
    for name in ("console.css", "console.js"):
        assert (await rig.ask("GET", f"/console/static/{name}", key=None)).status == 200
    for name in ("..%2fpages.py", "pages.py", "%2e%2e/pages.py"):
        assert (await rig.ask("GET", f"/console/static/{name}", key=None)).status == 404


@pytest.mark.own_rig
async def test_a_token_is_found_nowhere_on_disk(rig: Rig):
    _, token = await _invite(rig, "hidden")
    await rig.ask("GET", f"/console/setup/{token}", key=None)
    for path in Path(rig.house.settings.data_dir).rglob("*"):
        if path.is_file():
            assert token.encode() not in path.read_bytes()


async def test_the_first_start_prints_a_link_that_makes_the_first_owner(tmp_path: Path):
    import aiohttp

    data_dir = tmp_path / "data"
    router = await start_router(data_dir)
    assert router.process.stdout is not None
    line = (await router.process.stdout.readline()).decode()
    first = line.split()[-1]
    assert first.startswith(router.url + "/console/setup/")
    again = await asyncio.to_thread(run_command, "setup-link", data_dir=data_dir)
    token = again.stdout.strip().rpartition("/")[2]
    async with aiohttp.ClientSession() as session:
        async with session.get(first) as old:
            assert old.status == 404, "a new set-up link takes the place of the one before"
        url = f"{router.url}/console/setup/{token}"
        async with session.post(url, data={"name": "first"}) as made:
            assert made.status == 201
            text = await made.text()
            assert f"{router.url}/v1" in text
    refused = await asyncio.to_thread(run_command, "setup-link", data_dir=data_dir)
    assert refused.returncode == 1
    assert "already" in refused.stderr
    await router.terminate()
    router = await start_router(data_dir)
    await router.terminate()
    assert "setup" not in (tmp_path / "stderr.log").read_text()


def test_invite_prints_a_link_and_no_secret(tmp_path: Path):
    done = run_command(
        "owner",
        "create",
        "blue",
        "--invite",
        "--json",
        data_dir=tmp_path,
        XAIROUTER_PUBLIC_URL="https://router.example/",
    )
    shown = json.loads(done.stdout)
    assert set(shown) == {"account_id", "link"}
    assert shown["link"].startswith("https://router.example/console/setup/")
    assert "sk-Xvs" not in done.stdout + done.stderr
    assert json.loads(run_command("owner", "list", "--json", data_dir=tmp_path).stdout) == []
