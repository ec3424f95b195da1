"""Attempts that are made at the same time are limited as those one after another are."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.responses import Response

from xairouter.api.routes import me
from xairouter.console.rooms import entrance
from xairouter.domain.permissions import Permission
from xairouter.errors import ErrorCode, ManageError
from xairouter.manage import desk as desks
from xairouter.manage import owners
from xairouter.manage.attempts import AttemptLimits, Attempts
from xairouter.storage import changes
from xairouter.storage import owners as stored_owners

LIMIT = 10
AT_ONCE = 60


class LookUps:
    """Stands for whatever is awaited to check a secret: nothing is answered before ``end``."""

    def __init__(self, *, is_right: bool) -> None:
        self.count = 0
        self.is_right = is_right
        self.end = asyncio.Event()

    async def made(self, *_: object) -> bool:
        self.count += 1
        await self.end.wait()
        return self.is_right

    async def recovered(self, *_: object) -> Any:
        if not await self.made():
            raise ManageError(ErrorCode.INVALID_API_KEY, "wrong")
        return SimpleNamespace()


class Tries:
    """The same try by each way in, from one address, each with a secret of its own."""

    def __init__(self, look_ups: LookUps, monkeypatch: pytest.MonkeyPatch) -> None:
        self.look_ups = look_ups
        self.desk: Any = SimpleNamespace(attempts=AttemptLimits(lambda: 0.0))
        self.desk.attempts.refused = Attempts(LIMIT, lambda: 0.0)
        self.number = 0
        monkeypatch.setattr(owners, "recover", look_ups.recovered)
        monkeypatch.setattr(me, "issued_view", lambda made: {})
        monkeypatch.setattr(me, "address_of", lambda request: "192.0.2.1")
        monkeypatch.setattr(entrance, "welcome", look_ups_welcome)
        monkeypatch.setattr(desks, "reach_of", lambda caller, verb: "tree")
        monkeypatch.setattr(desks, "log_refused", nothing)
        monkeypatch.setattr(desks, "log_operation", nothing)
        monkeypatch.setattr(changes, "announce", nothing)

    def visit(self) -> Any:
        self.number += 1
        secret = f"wrong {self.number}"

        async def form() -> dict[str, str]:
            return {"key": secret, "code": secret}

        return SimpleNamespace(
            desk=self.desk,
            address="192.0.2.1",
            form=form,
            can_sign_in=True,
            sign_in=self.look_ups.made,
            words=lambda *_, **__: "",
            see=lambda to: Response(status_code=303),
            render=lambda template, status=200, **_: Response(status_code=status),
        )

    async def sign_in(self) -> int:
        return (await entrance.sign_in(self.visit())).status_code

    async def recover_page(self) -> int:
        return (await entrance.recover(self.visit())).status_code

    async def recover(self) -> int:
        self.number += 1
        body = b'{"recovery_code": "XR1-%d"}' % self.number
        try:
            await me.recover(SimpleNamespace(), self.desk, body)  # type: ignore[arg-type]
        except ManageError as error:
            return 429 if error.code == ErrorCode.RATE_LIMITED else 401
        return 201

    async def change(self) -> int:
        actor: Any = SimpleNamespace(
            caller=SimpleNamespace(key=SimpleNamespace(id="xk_1")),
            owner_id="acc_1",
            vault=SimpleNamespace(epoch=1),
        )
        self.desk.database = SimpleNamespace(write=lambda _owner_id: Transaction())
        self.desk.directory = SimpleNamespace(changed=nothing)
        try:
            async with desks.change(self.desk, actor, Permission.PANIC):
                await self.look_ups.recovered()
        except ManageError as error:
            return 429 if error.code == ErrorCode.RATE_LIMITED else 401
        return 201


class Transaction:
    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        return None


async def nothing(*_: object, **__: object) -> None:
    return None


async def look_ups_welcome(*_: object) -> Response:
    return Response(status_code=201)


WAYS = ["sign_in", "recover_page", "recover", "change"]


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    async def found(*_: object) -> Any:
        return SimpleNamespace(vault_epoch=1)

    monkeypatch.setattr(stored_owners, "get_owner", found)


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize("way", WAYS)
async def test_wrong_ones_at_once_are_tried_as_often_as_the_limit_says(
    way: str, monkeypatch: pytest.MonkeyPatch
):
    look_ups = LookUps(is_right=False)
    one_try: Callable[[], Awaitable[int]] = getattr(Tries(look_ups, monkeypatch), way)
    tasks = [asyncio.ensure_future(one_try()) for _ in range(AT_ONCE)]
    for _ in range(50):
        await asyncio.sleep(0)  # each task runs as far as it can without an answer
    assert look_ups.count == LIMIT
    look_ups.end.set()
    assert sorted(await asyncio.gather(*tasks)) == [401] * LIMIT + [429] * (AT_ONCE - LIMIT)


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize("way", WAYS)
async def test_right_ones_one_after_another_are_not_limited(
    way: str, monkeypatch: pytest.MonkeyPatch
):
    look_ups = LookUps(is_right=True)
    look_ups.end.set()
    one_try: Callable[[], Awaitable[int]] = getattr(Tries(look_ups, monkeypatch), way)
    answers = [await one_try() for _ in range(LIMIT * 2)]
    assert set(answers) <= {201, 303}, answers
