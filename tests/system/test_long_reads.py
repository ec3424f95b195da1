"""An owner who asks for much at once holds few connections to the database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.rig import Rig
from xairouter.manage import audits, verifying
from xairouter.manage.reads import MOST_OF_OWNER
from xairouter.storage.database import Database

MANY = 12
ASKED = (
    "/api/v1/usage",
    "/api/v1/usage?group_by=model",
    "/api/v1/usage/records?label=none&limit=500",
    "/api/v1/usage/export?format=csv",
    "/api/v1/operations",
    "/api/v1/audit",
    "/api/v1/audit?whole=true",
)


class Held:
    """Snapshots of the database at the same time."""

    now = most = 0


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    held, snapshot = Held(), Database.snapshot

    @asynccontextmanager
    async def counted(self: Database, **given: float | None) -> AsyncIterator[object]:
        held.now += 1
        held.most = max(held.most, held.now)
        try:
            async with snapshot(self, **given) as connection:
                yield connection
        finally:
            held.now -= 1

    monkeypatch.setattr(Database, "snapshot", counted)
    return held


async def test_many_at_once_hold_few_connections(rig: Rig, held: Held):
    await rig.add_provider_key()
    await rig.chat()
    await rig.records(expect=1)
    held.most = 0
    for path in ASKED:
        answers = await asyncio.gather(*(rig.ask("GET", path) for _ in range(MANY)))
        assert [one.status for one in answers] == [200] * MANY, path
    # Beside these there is a verification.
    assert held.most <= MOST_OF_OWNER + 1


async def test_verifications_of_one_owner_are_few(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    go_on = asyncio.Event()
    verify = verifying.verify
    under_way: list[str] = []

    async def waiting(database: Database, report: object, *given: object) -> object:
        under_way.append("one")
        await go_on.wait()
        return await verify(database, report, *given)  # type: ignore[arg-type]

    kept = [(await rig.ask("GET", "/api/v1/audit")).json()["checkpoint"]]
    for number in range(audits.MOST_OF_OWNER):
        await rig.ask("PATCH", "/api/v1/settings", {"currency_per_usd": number + 2})
        kept.append((await rig.ask("GET", "/api/v1/audit")).json()["checkpoint"])
    monkeypatch.setattr(audits, "verify", waiting)
    monkeypatch.setattr(audits, "WAIT_SECONDS", 0.05)
    answers = [await rig.ask("POST", "/api/v1/audit/check", one) for one in kept]
    first, last = answers[:-1], answers[-1]
    assert [one.json()["state"] for one in first] == ["verifying"] * audits.MOST_OF_OWNER
    assert (last.status, last.code, last.headers["retry-after"]) == (429, "rate_limited", "10")
    assert under_way == ["one"]
    # What was asked already is answered, how often ever.
    again = await rig.ask("POST", "/api/v1/audit/check", kept[0])
    assert again.json()["state"] == "verifying"
    go_on.set()
