"""A provider key whose row somebody changes in the database: no secret follows the new address."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.rig import Rig
from xairouter.manage.refresh import Refresher
from xairouter.standin.server import StandIn

pytestmark = pytest.mark.shared_rig

NEW = "sk-new-0123456789abcdefgh"
WHY = "Its row was changed outside of the router: the sealed secret does not open under it."


async def altered(rig: Rig, evil: StandIn) -> tuple[str, str]:
    """(path of a provider key whose row points at another server now, that server's base URL)"""
    base = f"http://127.0.0.1:{await evil.start()}"
    key = await rig.add_provider_key()
    endpoints = {name: url.replace(rig.standin_url, base) for name, url in rig.endpoints().items()}
    await rig.sql(
        ("update provider_keys set endpoints = ? where id = ?", (json.dumps(endpoints), key["id"]))
    )
    rig.house.directory.drop(rig.owner_id)
    return f"/api/v1/provider-keys/{key['id']}", base


async def confirmed(rig: Rig, path: str) -> Any:
    await rig.chat()
    await Refresher(rig.house.desk, lambda: 0.0).confirm()
    shown = await rig.ask("GET", path)
    assert shown.json()["health"]["state"] == "altered"
    return shown


VERBS: dict[str, tuple[Callable[[Rig, str], Awaitable[Any]], int, str | None]] = {
    "replace": (
        lambda r, p: r.ask("POST", p + "/replace", {"secret": NEW}),
        422,
        "secret_required",
    ),
    "patch the endpoints": (
        lambda r, p: r.ask("PATCH", p, {"endpoints": r.endpoints(), "secret": NEW}),
        200,
        None,
    ),
    "patch with no endpoints": (
        lambda r, p: r.ask("PATCH", p, {"endpoints": {}, "secret": NEW}),
        422,
        None,
    ),
    "patch the models": (lambda r, p: r.ask("PATCH", p, {"models": ["m"]}), 200, None),
    "patch the status": (lambda r, p: r.ask("PATCH", p, {"status": "disabled"}), 200, None),
    "test": (lambda r, p: r.ask("POST", p + "/test", {}), 200, None),
    "re-key": (lambda r, p: r.ask("POST", "/api/v1/vault/rekey"), 200, None),
    "a call, confirmed": (confirmed, 200, None),
    "a call": (lambda r, p: r.chat(), 502, "provider_key_rejected"),
}


@pytest.mark.parametrize("name", VERBS)
async def test_no_verb_sends_a_secret_to_the_address_in_an_altered_row(rig: Rig, name: str):
    evil = StandIn()
    try:
        path, _ = await altered(rig, evil)
        ask, status, code = VERBS[name]
        answer = await ask(rig, path)
        assert evil.requests == []
        assert answer.status == status, answer.body
        if code == "secret_required":
            said = answer.json()
            assert said["code"] == code
            assert "changed outside of the router" in said["detail"]
            assert set(said["fields"]) == {"provider", "endpoints"}
        elif code is not None:
            assert answer.code == code
            assert b"changed outside of the router" in answer.body
        await rig.chat()
        await rig.ask("POST", path + "/test", {})
        assert evil.requests == []
    finally:
        await evil.stop()


async def test_a_check_up_says_that_the_row_was_altered(rig: Rig):
    evil = StandIn()
    try:
        path, _ = await altered(rig, evil)
        tested = (await rig.ask("POST", path + "/test", {})).json()
        assert (tested["checkup"]["state"], tested["checkup"]["why"]) == ("altered", WHY)
        shown = (await rig.ask("GET", path)).json()["health"]
        assert shown == {"state": "altered", "until": None, "why": WHY}
        notices = (await rig.ask("GET", "/api/v1/notices")).json()["items"]
        assert [one["kind"] for one in notices] == ["key_altered"]
    finally:
        await evil.stop()


@pytest.mark.parametrize("more", [{}, {"provider": "openai"}], ids=["custom", "known"])
@pytest.mark.parametrize("verb", ["replace", "patch"])
async def test_the_secret_goes_where_the_request_names(rig: Rig, verb: str, more: dict[str, str]):
    evil = StandIn()
    try:
        path, _ = await altered(rig, evil)
        await rig.ask("POST", path + "/test", {})
        named = {"endpoints": rig.endpoints(), "secret": NEW, **more}
        ask = ("POST", path + "/replace") if verb == "replace" else ("PATCH", path)
        answer = await rig.ask(*ask, named)
        assert answer.status == 200, answer.body
        assert answer.json()["endpoints"] == rig.endpoints()
        assert answer.json()["health"]["state"] == "ok"
        assert (await rig.chat()).status == 200
        assert rig.standin.requests[-1].secret == NEW
        assert evil.requests == []
    finally:
        await evil.stop()
