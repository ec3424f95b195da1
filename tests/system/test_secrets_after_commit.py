"""Whoever has made a secret gets it, whatever fails once it is in the database: nobody else has it."""

import re
from typing import Any

import pytest
import sqlalchemy.exc

from tests.rig import Answer, Rig
from tests.system.test_console import Browser
from xairouter.errors import StorageError
from xairouter.manage import links
from xairouter.manage.expire import Expiry

pytestmark = pytest.mark.own_rig


async def _take_over(rig: Rig) -> Answer:
    return await rig.ask("POST", "/api/v1/me/take-over")


async def _recover(rig: Rig) -> Answer:
    body = {"recovery_code": rig.recovery_code}
    return await rig.ask("POST", "/api/v1/recover", body, key=None)


async def _rotate(rig: Rig) -> Answer:
    me = (await rig.ask("GET", "/api/v1/me")).json()
    path = f"/api/v1/accounts/{rig.owner_id}/keys/{me['key']['id']}/rotate"
    return await rig.ask("POST", path, {"overlap_seconds": 0})


async def _create(rig: Rig) -> Answer:
    return await rig.ask("POST", "/api/v1/accounts", {"name": "team"})


WAYS = {"take over": _take_over, "recover": _recover, "rotate": _rotate, "create": _create}


@pytest.mark.both
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fails", ["witness", "database"])
async def test_a_secret_that_was_made_is_shown_whatever_fails_afterwards(
    rig: Rig, way: str, fails: str, monkeypatch: pytest.MonkeyPatch
):
    await rig.add_provider_key()
    witness, driver = rig.house.settings.witness_file, rig.house.database._driver
    tried: list[str] = []

    async def away(*_: Any) -> None:
        tried.append("")
        raise sqlalchemy.exc.OperationalError("x", {}, Exception("away"))

    with monkeypatch.context() as broken:
        if fails == "witness":
            witness.rename(witness.with_name("kept"))
            witness.mkdir()
        else:
            broken.setattr(driver, "forget_deleted", away)
        made = await WAYS[way](rig)
        assert made.status in (200, 201), made.body
        key = made.json()["api_key"]
        assert (await rig.chat(key=key)).status == 200
    if fails == "witness":
        witness.rmdir()
        witness.with_name("kept").rename(witness)
        assert rig.house.room.witness.write() == ""
    elif tried:
        done: list[str] = []
        real = driver.forget_deleted

        async def again(connection: Any) -> None:
            done.append("")
            await real(connection)

        monkeypatch.setattr(driver, "forget_deleted", again)
        expiry = Expiry(rig.house.database, rig.house.directory, seconds=lambda: 1.0)
        await expiry.look()
        assert done == [""], "what stands in the log is emptied later"
    assert (await rig.chat(key=key)).status == 200


async def _link(rig: Rig, browser: Browser) -> Answer:
    _, token = await links.make_link(rig.house.database, links.INVITE, "another")
    return await browser.ask("POST", f"/console/setup/{token}", name="another")


async def _invitation(rig: Rig, browser: Browser) -> Answer:
    link = (await rig.add_account("invited", invite=True))["link"]
    return await browser.ask("POST", link.removeprefix(rig.url))


async def _code(rig: Rig, browser: Browser) -> Answer:
    return await browser.ask("POST", "/console/recover", code=rig.recovery_code)


async def _console(rig: Rig, browser: Browser) -> Answer:
    return await browser.ask("POST", "/console/settings/take-over", confirm="acme")


@pytest.mark.parametrize("way", [_link, _invitation, _code, _console])
async def test_a_page_shows_its_secrets_also_where_nobody_can_be_signed_in(
    rig: Rig, way: Any, monkeypatch: pytest.MonkeyPatch
):
    browser = Browser(rig)
    await browser.sign_in()

    async def away(*_: Any) -> str:
        raise StorageError("away")

    monkeypatch.setattr("xairouter.console.visit.open_session", away)
    page = await way(rig, browser)
    assert page.status == 201
    [key] = set(re.findall(r"sk-Xvs[0-9A-Za-z]{45}", page.body.decode()))
    assert (await rig.ask("GET", "/api/v1/me", key=key)).status == 200
