"""Notices and their webhook: what needs a person is raised once, signed, and told at least once."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from aiohttp import web

from tests.rig import SECRET, Rig, start_rig
from tests.system.process import create_owner, start_router
from tests.waiting import until
from xairouter.clock import now_ms
from xairouter.domain.failures import Cause, Failure
from xairouter.errors import StorageError
from xairouter.manage import herald
from xairouter.policy.health import EVERY_MODEL
from xairouter.storage import provider_keys

pytestmark = pytest.mark.shared_rig


class Receiver:
    """A webhook's other end; ``answers`` are statuses to give, then 200."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self.url = ""

    async def start(self) -> web.AppRunner:
        async def take(request: web.Request) -> web.Response:
            self.got.append((dict(request.headers), await request.read()))
            status = self.answers.pop(0) if self.answers else 200
            headers = {"location": "http://127.0.0.1:1/elsewhere"} if 300 <= status < 400 else {}
            return web.Response(status=status, headers=headers)

        app = web.Application()
        app.router.add_post("/hook", take)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/hook"  # type: ignore[attr-defined]
        return runner

    def documents(self) -> list[Any]:
        return [json.loads(body) for _, body in self.got]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    runner = await made.start()
    yield made
    await runner.cleanup()


async def _hook(rig: Rig, receiver: Receiver) -> str:
    """Point the owner's webhook at the receiver; the signing secret."""
    answer = await rig.ask("PATCH", "/api/v1/settings", {"webhook_url": receiver.url + "?token=1"})
    assert answer.status == 200, answer.body
    return str(answer.json()["webhook_secret"])


async def _open(rig: Rig, kind: str) -> list[Any]:
    page = (await rig.ask("GET", "/api/v1/notices")).json()["items"]
    return [notice for notice in page if notice["kind"] == kind]


async def _soon(check: Any) -> Any:
    return await until(check)


@pytest.mark.both
async def test_a_notice_is_told_once_signed_as_the_specification_has_it(
    rig: Rig, receiver: Receiver
):
    secret = await _hook(rig, receiver)
    made = await rig.ask("POST", "/api/v1/notices/test")
    assert (made.status, made.json()["webhook"]["state"]) == (201, "waiting")
    assert await _soon(rig.house.herald.deliver) or receiver.got
    [(headers, body)] = receiver.got
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    told = json.loads(body)
    assert (told["type"], told["data"]["id"]) == ("notice.test", headers["webhook-id"])
    assert told["data"]["owner_id"] == rig.owner_id
    await rig.house.herald.deliver()
    assert len(receiver.got) == 1
    [notice] = await _open(rig, "test")
    assert notice["webhook"] == {
        "state": "delivered",
        "delivered_at": notice["webhook"]["delivered_at"],
        "tries": 1,
        "error": None,
    }


async def test_the_signing_secret_is_shown_once_and_changes_with_the_address(
    rig: Rig, receiver: Receiver
):
    first = await _hook(rig, receiver)
    again = await rig.ask("PATCH", "/api/v1/settings", {"webhook_url": receiver.url + "?token=1"})
    assert "webhook_secret" not in again.json()
    assert "webhook_secret" not in (await rig.ask("GET", "/api/v1/settings")).json()
    other = await rig.ask("PATCH", "/api/v1/settings", {"webhook_url": receiver.url})
    assert other.json()["webhook_secret"] != first
    gone = await rig.ask("PATCH", "/api/v1/settings", {"webhook_url": None})
    assert gone.json()["webhook_url"] is None
    assert (await rig.ask("POST", "/api/v1/notices/test")).status == 409


async def test_what_is_not_taken_is_tried_again_and_a_redirect_is_not_followed(
    rig: Rig, receiver: Receiver, monkeypatch
):
    monkeypatch.setattr(herald, "PAUSES_SECONDS", (0, 0, 0))
    await _hook(rig, receiver)
    receiver.answers = [500, 302]
    await rig.ask("POST", "/api/v1/notices/test")

    async def delivered() -> bool:
        await rig.house.herald.deliver()
        [notice] = await _open(rig, "test")
        return bool(notice["webhook"]["state"] == "delivered")

    await _soon(delivered)
    assert len(receiver.got) == 3
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1

    receiver.answers = [500] * 9
    await rig.ask("POST", "/api/v1/notices/test")

    async def given_up() -> bool:
        await rig.house.herald.deliver()
        [notice] = await _open(rig, "test")
        return bool(notice["webhook"]["state"] == "given_up")

    await _soon(given_up)
    [notice] = await _open(rig, "test")
    assert notice["webhook"]["error"] == "It answered 500."


async def test_a_notice_that_waits_by_a_clock_that_was_ahead_is_told(rig: Rig, receiver: Receiver):
    await _hook(rig, receiver)
    receiver.answers = [500]
    await rig.ask("POST", "/api/v1/notices/test")

    async def settled() -> bool:
        await rig.house.herald.deliver()
        [notice] = await _open(rig, "test")
        return bool(notice["webhook"]["error"])

    await _soon(settled)
    until = now_ms() + 400 * 86_400_000
    await rig.sql(("update notices set next_try_ms = ? where owner_id = ?", (until, rig.owner_id)))

    async def told() -> bool:
        await rig.house.herald.deliver()
        return len(receiver.got) == 2

    await _soon(told)


async def test_a_webhook_may_not_be_private_and_is_asked_again_when_it_is_used(
    tmp_path: Path, monkeypatch
):
    rig = await start_rig(tmp_path, allow_private_providers=False)
    try:
        for url in (
            "http://hooks.example/x",
            "https://127.0.0.1/x",
            "https://169.254.169.254/latest",
            "https://[::ffff:10.0.0.1]/x",
            "https://2130706433/x",
            "https://u:p@hooks.example/",
            "ftp://hooks.example/",
            "https://hooks.example/\u00fc",
            "nowhere",
        ):
            answer = await rig.ask("PATCH", "/api/v1/settings", {"webhook_url": url})
            assert (answer.status, answer.json()["code"]) == (422, "address_not_allowed"), url
            assert "webhook_url" in answer.json()["fields"]
        assert (await rig.ask("GET", "/api/v1/settings")).json()["webhook_url"] is None
        # A name passes when it is written, and is refused when it resolves to this machine.
        monkeypatch.setattr(
            "socket.getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("127.0.0.1", 443))]
        )
        answer = await rig.ask(
            "PATCH", "/api/v1/settings", {"webhook_url": "https://hooks.example/x"}
        )
        assert answer.status == 200
        await rig.ask("POST", "/api/v1/notices/test")

        async def failed() -> Any:
            await rig.house.herald.deliver()
            [notice] = await _open(rig, "test")
            return notice["webhook"]["error"]

        assert "address is not allowed" in await _soon(failed)
    finally:
        await rig.stop()


async def test_a_key_that_its_provider_rejects_is_confirmed_taken_out_and_told(
    rig: Rig, receiver: Receiver
):
    await _hook(rig, receiver)
    bad = await rig.add_provider_key(name="bad one", weight=1_000_000)
    await rig.add_provider_key(name="good", secret="sk-good-0123456789abcdefgh")
    rig.standin.rejected.add(SECRET)
    assert (await rig.chat()).status == 200

    async def told() -> bool:
        return bool(await _open(rig, "key_rejected"))

    await _soon(told)
    [notice] = await _open(rig, "key_rejected")
    assert notice["subject_id"] == bad["id"]
    assert "“bad one”" in notice["message"]
    shown = (await rig.ask("GET", f"/api/v1/provider-keys/{bad['id']}")).json()
    assert shown["health"]["state"] == "rejected"
    count = [r.secret for r in rig.standin.requests].count(SECRET)
    for _ in range(5):
        assert (await rig.chat()).status == 200
    assert [r.secret for r in rig.standin.requests].count(SECRET) == count

    async def heard() -> bool:
        await rig.house.herald.deliver()
        return "key_rejected" in [one["data"]["kind"] for one in receiver.documents()]

    await _soon(heard)
    assert not [body for _, body in receiver.got if SECRET.encode() in body]
    rig.standin.rejected.clear()
    await rig.ask("POST", f"/api/v1/provider-keys/{bad['id']}/test")
    assert await _open(rig, "key_rejected") == [], "a test that succeeds closes the notice"


async def test_a_401_that_the_probe_does_not_repeat_takes_no_key_out(rig: Rig):
    key = await rig.add_provider_key()
    await rig.chat("fault-401")
    for _ in range(3):
        assert await rig.house.refresher.confirm() == 0
    assert await _open(rig, "key_rejected") == []
    shown = (await rig.ask("GET", f"/api/v1/provider-keys/{key['id']}")).json()
    assert shown["health"]["state"] == "ok"
    assert (await rig.chat()).status == 200


async def test_a_key_that_serves_again_comes_back_by_itself(rig: Rig):
    key = await rig.add_provider_key()
    rig.standin.rejected.add(SECRET)
    await rig.ask("POST", f"/api/v1/provider-keys/{key['id']}/test")
    assert await _open(rig, "key_rejected")
    rig.standin.rejected.clear()
    assert (await rig.chat()).status == 200

    async def back() -> bool:
        shown = (await rig.ask("GET", f"/api/v1/provider-keys/{key['id']}")).json()
        return bool(shown["health"]["state"] == "ok")

    await _soon(back)
    assert await _open(rig, "key_rejected") == []


@pytest.mark.both
async def test_a_key_that_sleeps_for_long_is_told_once(
    rig: Rig, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    # The router's own loop stands still: a turn of it beside one of the test would tell it twice.
    watch_keys, no_turn = rig.house.herald.watch_keys, AsyncMock(__name__="watch_keys")
    monkeypatch.setattr(rig.house.herald, "watch_keys", no_turn)
    await _hook(rig, receiver)
    made = await rig.add_provider_key(name="limited")
    async with rig.house.database.read() as connection:
        from xairouter.storage import provider_keys

        key = await provider_keys.get(connection, rig.owner_id, made["id"])
    assert key is not None
    health = rig.house.health
    start = health.now()
    for minute in range(12):
        health.now = partial(float, start + minute * 61)
        health.failed(key, "m", Failure(Cause.LIMITED, 65))
        await watch_keys()
        assert bool(await _open(rig, "key_sleeping")) is (minute * 61 >= 600)
    [notice] = await _open(rig, "key_sleeping")
    assert notice["count"] == 1
    assert "“limited”" in notice["message"]
    assert "10 minutes" in notice["message"]
    assert EVERY_MODEL not in health.ailing[key.id]


@pytest.mark.own_rig
@pytest.mark.parametrize("where", ["begin", "commit"])
async def test_what_is_seen_once_is_told_although_its_notice_could_not_be_stored(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
):
    rig = await start_rig(tmp_path)
    try:
        key = await rig.add_provider_key(name="unwell")
        await rig.ask("PUT", "/api/v1/prices", {"*": {"input": 1000, "output": 2000}})
        team = await rig.add_account(rules={"budget": {"day_usd": 1, "notify_at": 0.01}})
        async with rig.house.database.read() as connection:
            row = await provider_keys.get(connection, rig.owner_id, key["id"])
        assert row is not None
        write, health = rig.house.database.write, rig.house.health

        @asynccontextmanager
        async def failing(*whose: str, **options: Any) -> AsyncIterator[Any]:
            if where == "begin":
                raise StorageError("away")
            async with write(*whose, **options) as connection:
                yield connection
                raise StorageError("away")

        with monkeypatch.context() as broken:
            broken.setattr(rig.house.database, "write", failing)
            for _ in range(2):
                await rig.chat(key=team["api_key"], max_tokens=10)
                with pytest.raises(StorageError):
                    await rig.house.herald.watch_budgets()
            start = health.now()
            for minute in range(12):
                health.now = partial(float, start + minute * 61)
                health.failed(row, "m", Failure(Cause.LIMITED, 65))
            for _ in range(2):
                with pytest.raises(StorageError):
                    await rig.house.herald.watch_keys()
        await rig.house.herald.watch_budgets()
        await rig.house.herald.watch_keys()
        for kind in ("budget_threshold", "key_sleeping"):
            assert len(await _open(rig, kind)) == 1, kind
        assert rig.house.counters.crossed() == []
        assert health.long_asleep(0) == []
    finally:
        await rig.stop()


@pytest.mark.both
async def test_a_model_without_a_price_is_told_once_however_often_it_is_called(
    rig: Rig, receiver: Receiver
):
    await _hook(rig, receiver)
    await rig.add_provider_key()
    for _ in range(3):
        await rig.chat("nobody-knows-me")
    await rig.records(expect=3)
    [notice] = await _open(rig, "price_unknown")
    assert notice["subject_id"] == "nobody-knows-me"
    assert notice["count"] >= 1
    await rig.house.herald.deliver()
    await _soon(lambda: asyncio.sleep(0, bool(receiver.got)))
    assert "hello there" not in str(receiver.documents()), "no content"
    assert (await rig.ask("POST", f"/api/v1/notices/{notice['id']}/dismiss")).status == 204
    assert await _open(rig, "price_unknown") == []
    whole = (await rig.ask("GET", "/api/v1/notices?state=all")).json()["items"]
    assert [one["id"] for one in whole if one["kind"] == "price_unknown"] == [notice["id"]]
    await rig.chat("nobody-knows-me")
    await rig.records(expect=4)
    assert len(await _open(rig, "price_unknown")) == 1, "what comes up again is a new notice"


@pytest.mark.own_rig
async def test_a_filling_journal_is_told_to_the_operator_even_without_a_database(
    tmp_path: Path, receiver: Receiver, monkeypatch
):
    from xairouter.errors import StorageError

    secret = "an operator's secret of some length"
    rig = await start_rig(
        tmp_path, webhook_url=receiver.url, webhook_secret=secret, journal_max_bytes=1024 * 1024
    )
    try:
        monkeypatch.setattr(rig.house.herald, "_backlog", lambda: 300 * 1024)

        def away(*_: Any) -> Any:
            raise StorageError("away")

        with monkeypatch.context() as broken:
            broken.setattr(rig.house.database, "write", away)
            await rig.house.herald.watch_backlog()
            await rig.house.herald.watch_backlog()
        [told] = receiver.documents()
        assert told["type"] == "notice.journal_backlog"
        assert told["data"]["owner_id"] is None
        await rig.house.herald.watch_backlog()
        assert await rig.sql(
            "select kind, owner_id from notices where dismissed_at_ms is null"
        ) == [("journal_backlog", "")]
        monkeypatch.setattr(rig.house.herald, "_backlog", lambda: 0)
        await rig.house.herald.watch_backlog()
        assert await rig.sql("select kind from notices where dismissed_at_ms is null") == []
        assert (await rig.ask("GET", "/api/v1/notices")).json()["items"] == []
    finally:
        await rig.stop()


async def test_notices_are_the_owner_s_alone(rig: Rig):
    other = await rig.new_owner("other")
    await rig.add_provider_key()
    await rig.chat("nobody-knows-me")
    await rig.records(expect=1)
    [notice] = await _open(rig, "price_unknown")
    page = await rig.ask("GET", "/api/v1/notices", key=other.api_key)
    assert page.json()["items"] == []
    path = f"/api/v1/notices/{notice['id']}/dismiss"
    assert (await rig.ask("POST", path, key=other.api_key)).status == 404
    team = (await rig.ask("POST", "/api/v1/accounts", {"name": "t", "can_manage": True})).json()
    assert (await rig.ask("GET", "/api/v1/notices", key=team["api_key"])).status == 403
    assert await _open(rig, "price_unknown")


@pytest.mark.both
async def test_invented_models_fill_no_table(rig: Rig, monkeypatch):
    from xairouter.storage import notices

    monkeypatch.setattr(notices, "MOST_OPEN", 3)
    await rig.add_provider_key()
    for number in range(6):
        await rig.chat(f"unknown-{number}")
    await rig.records(expect=6)
    assert len(await _open(rig, "price_unknown")) == 3


async def test_a_process_killed_before_it_told_tells_when_it_is_back(
    tmp_path: Path, receiver: Receiver
):
    data_dir = tmp_path / "data"
    key = await create_owner(data_dir)
    receiver.answers = [500]
    router = await start_router(data_dir)
    status, _ = await router.ask("PATCH", "/api/v1/settings", key, {"webhook_url": receiver.url})
    assert status == 200
    await router.ask("POST", "/api/v1/notices/test", key)

    async def noted() -> bool:
        """A try that is not noted yet is a claim, which holds for a minute."""
        _, page = await router.ask("GET", "/api/v1/notices", key)
        return any(notice["webhook"]["error"] for notice in page["items"])

    await _soon(noted)
    assert len(receiver.got) == 1
    await router.kill()
    router = await start_router(data_dir)
    try:
        await _soon(lambda: asyncio.sleep(0, len(receiver.got) > 1))
    finally:
        await router.kill()
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
