"""What one owner can have stored has bounds, and who reaches one is told so."""

import asyncio

import pytest

from tests.rig import Rig
from tests.system.test_console import Browser
from xairouter.clock import now_ms
from xairouter.manage import expire, sessions
from xairouter.storage import records
from xairouter.storage.records import ObjectRow

pytestmark = [pytest.mark.both, pytest.mark.shared_rig]


@pytest.mark.own_rig(max_accounts=3)
async def test_an_owner_has_so_many_accounts_and_no_more(rig: Rig):
    made = [await rig.add_account(f"a{number}") for number in range(2)]
    for path, body in (
        ("/api/v1/accounts", {"name": "one more"}),
        ("/api/v1/accounts", {"name": "one more", "invite": True}),
    ):
        refused = await rig.ask("POST", path, body)
        assert (refused.status, refused.json()["code"]) == (409, "conflict")
        assert "at most 3 accounts" in refused.json()["detail"]
    assert len((await rig.ask("GET", "/api/v1/accounts")).json()["items"]) == 2
    gone = await rig.ask("DELETE", f"/api/v1/accounts/{made[0]['account']['id']}")
    assert gone.status == 204
    await rig.add_account("in its place")


@pytest.mark.own_rig(max_accounts=3)
async def test_accounts_that_are_made_at_once_are_not_more_than_one_after_another(rig: Rig):
    made = await asyncio.gather(
        *(rig.ask("POST", "/api/v1/accounts", {"name": f"a{number}"}) for number in range(8))
    )
    assert sorted(answer.status for answer in made) == [201] * 2 + [409] * 6


@pytest.mark.own_rig(max_api_keys=3)
async def test_an_owner_has_so_many_keys_and_invitations_and_no_more(rig: Rig):
    team = await rig.add_account("team")
    path = f"/api/v1/accounts/{team['account']['id']}"
    assert (await rig.ask("POST", f"{path}/invitations")).status == 201
    key = f"{path}/keys/{team['key']['id']}"
    for way, body in (
        (f"{path}/keys", {"name": "one more"}),
        (f"{key}/rotate", {"overlap_seconds": 3600}),
        ("/api/v1/accounts", {"name": "one more"}),
        ("/api/v1/accounts", {"name": "one more", "invite": True}),
    ):
        refused = await rig.ask("POST", way, body)
        assert (refused.status, refused.json()["code"]) == (409, "conflict"), way
        assert "at most 3 XAI API keys" in refused.json()["detail"], way
    assert (await rig.ask("POST", f"{path}/invitations")).status == 201, "in the other's place"
    assert (await rig.ask("DELETE", key)).status == 204
    assert (await rig.ask("POST", f"{path}/keys", {"name": "in its place"})).status == 201


async def test_a_key_has_so_many_open_sessions_and_a_further_one_ends_the_oldest(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sessions, "MOST_SESSIONS", 2)

    browsers = [Browser(rig) for _ in range(3)]
    for browser in browsers:
        assert (await browser.sign_in()).status == 303
    seen = [(await browser.ask("GET", "/console/")).status for browser in browsers]
    assert seen == [303, 200, 200]


def _object(owner_id: str, name: str, at_ms: int) -> ObjectRow:
    return ObjectRow(owner_id, name, owner_id, "pk_1", "openai_responses", at_ms)


async def test_of_an_owner_s_provider_objects_the_newest_are_remembered(rig: Rig):
    other, now = await rig.new_owner("other"), now_ms()
    database = rig.house.database
    names = [f"resp_{number}" for number in range(9)]
    async with database.write() as connection:
        rows = [_object(rig.owner_id, name, now + at) for at, name in enumerate(names)]
        await records.insert_objects(connection, [*rows, _object(other.account.id, "resp_x", now)])
    for most, left in ((9, 9), (4, 4), (4, 4)):
        await expire.forget_old(database, now, most)
        async with database.read() as connection:
            found = await records.find_objects(connection, rig.owner_id, names)
        assert sorted(row.object_id for row in found) == names[9 - left :]
    async with database.read() as connection:
        assert await records.find_objects(connection, other.account.id, ["resp_x"])


async def test_of_dismissed_notices_the_newest_are_kept_and_open_ones_all(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(expire, "KEPT_NOTICES", 2)
    await rig.sql(
        *(
            (
                "insert into notices (id, owner_id, kind, subject_id, detail, count, first_at_ms, "
                "last_at_ms, dismissed_at_ms, tries) values (?, ?, 'test', ?, '{}', 1, 1, 1, ?, 0)",
                (f"ntc_{number}", rig.owner_id, str(number), closed),
            )
            for number, closed in enumerate((now_ms(), None, now_ms(), now_ms(), None, now_ms()))
        )
    )
    await expire.forget_old(rig.house.database, now_ms())
    left = await rig.sql(("select id from notices where owner_id = ?", (rig.owner_id,)))
    assert sorted(name for (name,) in left) == ["ntc_1", "ntc_3", "ntc_4", "ntc_5"]
