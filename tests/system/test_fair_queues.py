"""What waits in a queue of the whole installation waits by turns of owners: one's many changes, hanging
provider or hanging webhook hold up nobody else's."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from tests.rig import SECRET, Rig
from tests.waiting import until
from xairouter.custody.slots import reseal_all
from xairouter.directory.identity import Identifier, Identity
from xairouter.domain.notices import Notice, Occasion
from xairouter.domain.permissions import Permission
from xairouter.manage import herald, probe, refresh, vault
from xairouter.manage.desk import Actor, change
from xairouter.manage.notices import raise_notices
from xairouter.upstream.interface import Limits

pytestmark = pytest.mark.shared_rig
FOR_EVER = 100_000.0
"""Seconds that no test lasts."""


class Elsewhere:
    """A tenant's server: ``/hanging`` answers no question but a call, which it refuses as a provider
    refuses a key; ``/hook`` takes every notice."""

    def __init__(self) -> None:
        self.hanging = 0
        self.taken: list[Any] = []
        self.url = ""
        self._let_go = asyncio.Event()

    async def _hang(self, request: web.Request) -> web.Response:
        if request.path.endswith("/chat/completions"):
            error = {"message": "Incorrect API key provided.", "code": "invalid_api_key"}
            return web.json_response({"error": error}, status=401)
        self.hanging += 1
        await self._let_go.wait()
        return web.Response()

    async def _take(self, request: web.Request) -> web.Response:
        self.taken.append((await request.json())["data"])
        return web.Response()

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/hanging{rest:.*}", self._hang)
        app.router.add_post("/hook", self._take)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
        return runner

    def let_go(self) -> None:
        self._let_go.set()


@pytest.fixture
async def elsewhere(rig: Rig) -> AsyncIterator[Elsewhere]:
    made = Elsewhere()
    runner = await made.start()
    yield made
    made.let_go()
    # What the router still waits for must end before its owners are gone.
    await rig.house.herald.deliver()
    await rig.house.refresher.confirm()
    await rig.house.refresher.refresh()
    await runner.cleanup()


async def _actor(rig: Rig) -> Actor:
    identifier = Identifier(rig.house.directory, rig.house.room)
    identity = await identifier.resolve({b"x-api-key": rig.key.encode()}, b"")
    assert isinstance(identity, Identity)
    return Actor(identity.caller, identity.vault, "127.0.0.1")


async def _neighbour(rig: Rig) -> Rig:
    """The same router and stand-in, used by another owner."""
    made = await rig.new_owner("neighbour")
    return replace(rig, key=made.api_key, owner_id=made.account.id)


@pytest.mark.both
async def test_an_owner_s_hundred_changes_delay_another_s_by_one(rig: Rig):
    desk, other = rig.house.desk, await _neighbour(rig)
    busy, single = await _actor(rig), await _actor(other)
    order: list[str] = []

    async def one(actor: Actor) -> None:
        async with change(desk, actor, Permission.SETTINGS_CHANGE, actor.owner_id):
            order.append(actor.owner_id)

    async with desk.database.write():
        changes = [asyncio.create_task(one(actor)) for actor in [busy] * 100 + [single]]
        await asyncio.sleep(0)  # All of them wait in the queue now.
    await asyncio.gather(*changes)
    assert len(order) == 101
    assert order.index(single.owner_id) <= 1


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No deadline ends the wait for what hangs."""
    limits = Limits(connect=FOR_EVER, first_byte=FOR_EVER)
    for module in (herald, probe):
        monkeypatch.setattr(module, "_LIMITS", limits)
        monkeypatch.setattr(module, "_WHOLE_SECONDS", FOR_EVER)
    monkeypatch.setattr(herald, "_CLAIM_MS", 3_600_000)


async def _notice(rig: Rig, hook: str) -> None:
    """A notice for the owner, whose webhook is there."""
    answer = await rig.ask("PATCH", "/api/v1/settings", {"webhook_url": hook})
    assert answer.status == 200, answer.body
    assert (await rig.ask("POST", "/api/v1/notices/test")).status == 201


@pytest.mark.both
async def test_a_webhook_that_hangs_delays_no_other_owner_s_notice(
    rig: Rig, elsewhere: Elsewhere, patient: None
):
    other = await _neighbour(rig)
    await _notice(rig, elsewhere.url + "/hanging")
    await until(lambda: elsewhere.hanging)
    for number in range(1, 4):
        await _notice(other, elsewhere.url + "/hook")
        await until(lambda: len(elsewhere.taken) >= number)  # noqa: B023
    assert {notice["owner_id"] for notice in elsewhere.taken} == {other.owner_id}
    await rig.ask("POST", "/api/v1/notices/test")
    await _notice(other, elsewhere.url + "/hook")
    await until(lambda: len(elsewhere.taken) == 4)
    assert elsewhere.hanging == 1, "of one owner one is told at a time"


async def test_webhooks_of_owners_that_hang_do_not_delay_the_operator_s(
    rig: Rig, elsewhere: Elsewhere, patient: None, monkeypatch: pytest.MonkeyPatch
):
    dispatcher = rig.house.herald
    target = herald.Target(elsewhere.url + "/hook", "a secret of the operator's own")
    monkeypatch.setattr(dispatcher, "_operator", target)
    async with AsyncExitStack() as held:
        for number in range(herald.MOST_TOLD):
            await held.enter_async_context(dispatcher._places.place(f"hanging {number}"))
        await _notice(rig, elsewhere.url + "/hook")
        await until(lambda: rig.owner_id in dispatcher._telling.names)
        async with rig.house.database.write() as connection:
            about = Occasion("", Notice.JOURNAL_BACKLOG, "test", {"megabytes": 1})
            await raise_notices(connection, [about])
        await until(lambda: elsewhere.taken)
        assert [notice["owner_id"] for notice in elsewhere.taken] == [None]
    await until(lambda: len(elsewhere.taken) == 2)
    await rig.sql("delete from notices where owner_id = ''")


@pytest.mark.parametrize("of", ["rejected keys", "keys that are due"])
async def test_a_provider_that_hangs_delays_no_other_owner_s_check_up(
    rig: Rig, elsewhere: Elsewhere, patient: None, monkeypatch: pytest.MonkeyPatch, of: str
):
    other = await _neighbour(rig)
    endpoints = {"openai_chat": elsewhere.url + "/hanging/v1"}
    await rig.add_provider_key(endpoints=endpoints)
    key = await other.add_provider_key()
    if of == "keys that are due":
        monkeypatch.setattr(refresh, "LOOK_EVERY_SECONDS", 0.0)
        monkeypatch.setattr(refresh, "REFRESH_SECONDS", 0.0)
    else:
        assert (await rig.chat()).status == 502

    async def asked() -> int:
        await rig.ask("GET", "/api/v1/me")  # Its vault is at hand.
        return elsewhere.hanging

    await until(asked)
    rig.standin.rejected.add(SECRET)
    await other.chat()

    async def rejected() -> bool:
        shown = (await other.ask("GET", f"/api/v1/provider-keys/{key['id']}")).json()
        return bool(shown["health"]["state"] == "rejected")

    await until(rejected)
    rig.standin.rejected.clear()
    assert elsewhere.hanging == 1, "of one owner one key is asked about at a time"


class Sealing:
    """``reseal_all``, which waits for ``let_go`` each time."""

    def __init__(self) -> None:
        self.begun, self.let_go = threading.Event(), threading.Event()

    def __call__(self, *args: Any) -> Any:
        self.begun.set()
        self.let_go.wait()
        return reseal_all(*args)


@pytest.fixture
def sealing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sealing]:
    made = Sealing()
    monkeypatch.setattr(vault, "reseal_all", made)
    monkeypatch.setattr(vault, "MOST_SEALED_INSIDE", 1, raising=False)
    yield made
    made.let_go.set()


@pytest.mark.both
async def test_what_a_deletion_seals_anew_holds_up_no_other_owner_s_change(
    rig: Rig, sealing: Sealing
):
    other = await _neighbour(rig)
    made = await rig.add_account("gone")
    path = f"/api/v1/accounts/{made['account']['id']}/keys/{made['key']['id']}"
    deleting = asyncio.create_task(rig.ask("DELETE", path))
    await until(sealing.begun.is_set)
    async with asyncio.timeout(60):
        answer = await other.ask("POST", "/api/v1/accounts", {"name": "meanwhile"})
    assert answer.status == 201
    assert not deleting.done()
    sealing.let_go.set()
    assert (await deleting).status == 204


@pytest.mark.both
@pytest.mark.parametrize("most_inside", [0, 32])
async def test_what_changes_while_a_vault_is_sealed_anew_stays_changed(
    rig: Rig, sealing: Sealing, monkeypatch: pytest.MonkeyPatch, most_inside: int
):
    accounts = {
        name: await rig.add_account(name) for name in ("gone", "suspended", "ended", "kept")
    }
    keys = {
        name: f"/api/v1/accounts/{made['account']['id']}/keys/{made['key']['id']}"
        for name, made in accounts.items()
    }
    provider_key = await rig.add_provider_key()
    deleting = asyncio.create_task(rig.ask("DELETE", keys["gone"]))
    await until(sealing.begun.is_set)
    accounts["new"] = await rig.add_account("new")
    changes = [
        ("PATCH", keys["suspended"], {"status": "suspended"}, 200),
        ("PATCH", keys["ended"], {"expires_at": "2099-01-01T00:00:00Z"}, 200),
        ("PATCH", f"/api/v1/provider-keys/{provider_key['id']}", {"name": "renamed"}, 200),
    ]
    for method, path, body, status in changes:
        assert (await rig.ask(method, path, body)).status == status, path
    monkeypatch.setattr(vault, "MOST_SEALED_INSIDE", most_inside)
    sealing.let_go.set()
    assert (await deleting).status == 204
    served = {name: (await rig.chat(key=made["api_key"])).status for name, made in accounts.items()}
    assert served == {"gone": 401, "suspended": 401, "ended": 200, "kept": 200, "new": 200}
    slots = (await rig.ask("GET", "/api/v1/vault")).json()["slots"]
    assert all(slot["genuine"] for slot in slots)
    sealed = {slot["account_id"]: slot["sealed"] for slot in slots}
    assert not sealed[accounts["suspended"]["account"]["id"]]
    ends = {slot["account_id"]: slot["expires_at"] for slot in slots}
    assert ends[accounts["ended"]["account"]["id"]].startswith("2099")
    assert (await rig.ask("PATCH", keys["suspended"], {"status": "active"})).status == 200
    assert (await rig.chat(key=accounts["suspended"]["api_key"])).status == 200
