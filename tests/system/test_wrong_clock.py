"""A clock that is wrong for a while, by however much, destroys nothing that cannot be made again."""

import datetime
import sys
from typing import Any

import pytest

from tests.rig import Rig
from tests.system.test_console import Browser
from tests.system.test_console_security import operator_of
from xairouter.clock import now_ms
from xairouter.manage import links, operators
from xairouter.manage.expire import Expiry
from xairouter.observe import log

DAY_MS, HOUR = 86_400_000, 3600
pytestmark = pytest.mark.own_rig


class Clocks:
    """Both clocks of a machine, turned by hand."""

    def __init__(self) -> None:
        self.passed, self.off_ms = 0.0, 0
        self._began = now_ms()

    def wall(self) -> int:
        return self._began + int(self.passed * 1000) + self.off_ms

    def seconds(self) -> float:
        return 5000.0 + self.passed


async def _furnished(rig: Rig, clocks: Clocks) -> tuple[Expiry, str]:
    """Records of today and of the day before, and a key that expires in 300 days."""
    await rig.add_provider_key()
    ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=300)
    team = await rig.add_account()
    made = await rig.ask(
        "POST",
        f"/api/v1/accounts/{team['account']['id']}/keys",
        {"name": "expires", "expires_at": ends.isoformat()},
    )
    key = made.json()["api_key"]
    for _ in range(2):
        assert (await rig.chat(key=key)).status == 200
    newest = (await rig.records(expect=2))[0]["call_id"]
    await rig.sql(
        (
            "update usage_records set call_id = ?, started_at_ms = ? where call_id = ?",
            (_id_of(clocks.wall() - DAY_MS * 3 // 2), clocks.wall() - DAY_MS * 3 // 2, newest),
        )
    )
    house = rig.house
    expiry = Expiry(house.database, house.directory, wall_ms=clocks.wall, seconds=clocks.seconds)
    return expiry, str(key)


def _id_of(at_ms: int) -> str:
    from xairouter.clock import format_id

    return format_id("call", at_ms, 7)


async def _left(rig: Rig) -> tuple[int, int]:
    [(records,)] = await rig.sql("select count(*) from usage_records")
    [(slots,)] = await rig.sql("select count(*) from slots")
    return records, slots


@pytest.mark.both
async def test_a_clock_400_days_ahead_for_most_of_a_day_costs_neither_records_nor_keys(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    clocks = Clocks()
    logged: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(log, "warning", lambda event, **more: logged.append((event, more)))
    expiry, key = await _furnished(rig, clocks)
    before = await _left(rig)
    for _ in range(30):
        clocks.passed += HOUR
        await expiry.look()
    assert not logged
    clocks.off_ms = 400 * DAY_MS
    for _ in range(23):
        await expiry.look()
        clocks.passed += HOUR
    assert await _left(rig) == before
    assert logged[0] == ("clock_jumped", {"seconds": 400 * 86_400})
    event, more = logged[1]
    assert (event, more["records"], more["slots"]) == ("forgetting_waits", 2, 1)
    assert more["why"] == "the clock jumped by 34560000 s"
    clocks.off_ms = 0
    for _ in range(48):
        await expiry.look()
        clocks.passed += HOUR
    assert await _left(rig) == before
    assert (await rig.chat(key=key)).status == 200


@pytest.mark.parametrize("days_ahead", [3, 400, 3652])
async def test_a_router_that_starts_with_a_wrong_clock_waits_a_day_through_every_restart(
    rig: Rig, days_ahead: int
):
    clocks = Clocks()
    _, key = await _furnished(rig, clocks)
    await rig.ask("PATCH", "/api/v1/settings", {"record_days": 1})
    before = await _left(rig)
    clocks.off_ms = days_ahead * DAY_MS
    for _ in range(3):
        expiry = Expiry(
            rig.house.database, rig.house.directory, wall_ms=clocks.wall, seconds=clocks.seconds
        )
        # A call of this time comes in before each restart, and says nothing about the clock.
        await rig.sql(
            (
                "update usage_records set call_id = ? where call_id = (select max(call_id) from "
                "usage_records)",
                (_id_of(clocks.wall() - 1000),),
            )
        )
        for _ in range(7):
            await expiry.look()
            clocks.passed += HOUR
    assert await _left(rig) == before
    clocks.off_ms = 0
    await expiry.look()
    assert await _left(rig) == before
    assert (await rig.chat(key=key)).status == 200


async def test_what_is_due_goes_once_the_clock_may_be_believed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    clocks = Clocks()
    logged: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(log, "info", lambda event, **more: logged.append((event, more)))
    expiry, key = await _furnished(rig, clocks)
    records, slots = await _left(rig)
    await rig.ask("PATCH", "/api/v1/settings", {"record_days": 1})
    await expiry.look()
    assert await _left(rig) == (records, slots)
    clocks.passed = HOUR
    await expiry.look()
    assert await _left(rig) == (records - 1, slots)
    assert logged == [("forgetting", {"records": 1, "slots": 0})]
    # Ten months on, the key is refused by the clock alone; two days later its slot is gone.
    for day in (*range(0, 290, 10), *range(290, 310)):
        clocks.passed = day * 86_400.0
        await expiry.look()
        if clocks.wall() < clocks._began + 301 * DAY_MS:
            assert (await _left(rig))[1] == slots
    assert (await _left(rig))[1] == slots - 1
    assert (await rig.chat(key=key)).code == "invalid_api_key"


def _be_ahead(monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    """Every part of the router reads a clock that is so many days ahead."""
    for name, module in list(sys.modules.items()):
        if name.startswith("xairouter.") and hasattr(module, "now_ms"):
            monkeypatch.setattr(module, "now_ms", lambda: now_ms() + days * DAY_MS)


@pytest.mark.both
@pytest.mark.parametrize("days_ahead", [1, 400, 3652])
async def test_what_a_clock_that_was_ahead_made_for_a_while_ends_when_it_is_right_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, days_ahead: int
):
    database = rig.house.database
    await rig.add_provider_key()
    browser = Browser(rig)
    with monkeypatch.context() as wrong:
        _be_ahead(wrong, days_ahead)
        await browser.sign_in()
        playground = await browser.ask("POST", "/console/playground/key")
        operator = await operator_of(rig)
        another = await operators.make_operator_link(database)
        invited = await rig.add_account("invited", invite=True)
        _, found = await links.make_link(database, links.INVITE, "another")

        async def works() -> dict[str, int]:
            nobody = Browser(rig)
            asked = {
                "session": browser.ask("GET", "/console/me"),
                "playground's key": rig.chat(key=playground.json()["api_key"]),
                "operator's session": operator.ask("GET", "/console/operator"),
                "operator's link": nobody.ask("GET", f"/console/operator/{another}"),
                "invitation": nobody.ask("GET", invited["link"].removeprefix(rig.url)),
                "owner's link": nobody.ask("GET", f"/console/setup/{found}"),
            }
            return {name: (await answer).status for name, answer in asked.items()}

        assert set((await works()).values()) == {200}
    house = rig.house
    await Expiry(database, house.directory, seconds=lambda: 1.0).look()
    assert await works() == {
        "session": 303,
        "playground's key": 401,
        "operator's session": 401,
        "operator's link": 404,
        "invitation": 404,
        "owner's link": 404,
    }
    assert (await rig.chat()).status == 200
    await browser.sign_in()
    assert (await browser.ask("GET", "/console/me")).status == 200


async def test_a_first_link_of_a_clock_that_was_ahead_keeps_no_other_one_away(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    await rig.delete_owners()
    with monkeypatch.context() as wrong:
        _be_ahead(wrong, 400)
        assert await links.first_link(rig.house.database, is_shared=True) is not None
    assert await links.first_link(rig.house.database, is_shared=True) is not None
    assert await links.first_link(rig.house.database, is_shared=True) is None
