"""What ends stays ended: sessions with their time, and everything that panic covers."""

from typing import Any

import pytest

from tests.rig import Answer, Rig
from tests.system.test_console import Browser
from xairouter.clock import format_id, now_ms
from xairouter.console.pages import SIGNED_IN
from xairouter.domain.slots import LIVES_MS, SlotPurpose
from xairouter.manage.attempts import Attempts, names_of_sign_in

FAR = "2099-01-01T00:00:00Z"


async def session_ends(rig: Rig) -> list[int]:
    rows = await rig.sql("select expires_at_ms from slots where purpose = 'session'")
    return [ends for (ends,) in rows]


async def new_account(rig: Rig, name: str, **fields: Any) -> Any:
    answer = await rig.ask("POST", "/api/v1/accounts", {"name": name, **fields})
    assert answer.status == 201, answer.body
    return answer.json()


def keys_of(made: Any) -> str:
    return f"/api/v1/accounts/{made['account']['id']}/keys/{made['key']['id']}"


async def page(browser: Browser) -> int:
    return (await browser.ask("GET", "/console/me")).status


async def test_a_key_that_changes_only_ever_shortens_its_sessions(rig: Rig):
    made = await new_account(rig, "t")
    browser = Browser(rig)
    await browser.sign_in(made["api_key"])
    [ends] = await session_ends(rig)
    for change in ({"expires_at": FAR}, {"expires_at": None}, {"name": "x"}):
        assert (await rig.ask("PATCH", keys_of(made), change)).status == 200
        assert await session_ends(rig) == [ends], change
    rotated = await rig.ask("POST", keys_of(made) + "/rotate", {"overlap_seconds": 86_400 * 80})
    assert rotated.status == 201, rotated.body
    assert await session_ends(rig) == [ends]
    assert await page(browser) == 200


async def test_a_session_s_absolute_life_holds_whatever_its_row_says(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    made_at = now_ms() - LIVES_MS[SlotPurpose.SESSION] + 3_600_000
    monkeypatch.setattr(
        "xairouter.manage.sessions.fresh_id", lambda kind: format_id(kind, made_at, 7)
    )
    browser = Browser(rig)
    await browser.sign_in()
    assert await page(browser) == 200
    await rig.sql("update slots set expires_at_ms = 4070908800000 where purpose = 'session'")
    rig.house.directory.drop(rig.owner_id)
    assert await page(browser) == 200
    later = now_ms() + 3_700_000
    monkeypatch.setattr("xairouter.directory.identity.now_ms", lambda: later)
    assert await page(browser) == 303


async def test_the_playground_s_key_outlives_its_session_in_no_way(rig: Rig):
    browser = Browser(rig)
    await browser.sign_in()
    opened = await browser.ask("POST", "/console/playground/key")
    assert opened.status in (200, 201), opened.body
    [[key_id, ends]] = await rig.sql(
        "select id, expires_at_ms from api_keys where session_id is not null"
    )
    path = f"/api/v1/accounts/{rig.owner_id}/keys/{key_id}"
    assert (await rig.ask("PATCH", path, {"expires_at": FAR})).status == 200
    assert await rig.sql(f"select expires_at_ms from api_keys where id = '{key_id}'") == [(ends,)]
    rotated = await rig.ask("POST", path + "/rotate", {"overlap_seconds": 60})
    assert rotated.status == 201, rotated.body
    await browser.ask("POST", "/console/sign-out")
    assert (await rig.ask("GET", "/api/v1/me", key=rotated.json()["api_key"])).status == 401


async def test_panic_ends_every_session_and_invitation_but_the_session_in_use(rig: Rig):
    made = await new_account(rig, "t")
    invited = await new_account(rig, "i", invite=True)
    here, beside, theirs = Browser(rig), Browser(rig), Browser(rig)
    await here.sign_in()
    await beside.sign_in()
    await theirs.sign_in(made["api_key"])
    link = invited["link"].removeprefix(rig.url)
    assert (await rig.ask("GET", link, key=None)).status == 200
    assert (await here.ask("POST", "/console/panic", act="panic")).status == 200
    assert [await page(browser) for browser in (here, beside, theirs)] == [200, 303, 303]
    assert (await rig.ask("GET", link, key=None)).status == 404
    left = await rig.sql("select purpose from slots where ciphertext is not null order by purpose")
    assert [purpose for (purpose,) in left] == ["api_key", "recovery", "session"]
    [newest] = (await rig.ask("GET", "/api/v1/operations?limit=1")).json()["items"]
    assert newest["verb"] == "panic"
    await rig.ask("POST", "/api/v1/panic")
    assert await page(here) == 303, "from the API, no session is in use"


async def test_undo_brings_back_what_that_panic_suspended_and_nothing_else(rig: Rig):
    boss = await new_account(rig, "boss", can_manage=True)
    below = await rig.ask("POST", "/api/v1/accounts", {"name": "below"}, key=boss["api_key"])
    beside, alone = await new_account(rig, "beside"), await new_account(rig, "alone")
    keys = {"below": below.json(), "beside": beside, "alone": alone, "boss": boss}
    await rig.ask("PATCH", keys_of(alone), {"status": "suspended"})

    async def working() -> set[str]:
        answers: dict[str, Answer] = {
            name: await rig.ask("GET", "/api/v1/me", key=made["api_key"])
            for name, made in keys.items()
        }
        return {name for name, answer in answers.items() if answer.status == 200}

    assert (await rig.ask("POST", "/api/v1/panic", key=boss["api_key"])).json() == {"suspended": 1}
    assert await working() == {"beside", "boss"}
    assert (await rig.ask("POST", "/api/v1/panic")).json() == {"suspended": 2}
    assert await working() == set()
    assert (await rig.ask("POST", "/api/v1/panic/undo")).json() == {"resumed": 2}
    assert await working() == {"beside", "boss"}, "not the manager's panic, not what stood alone"
    assert (await rig.ask("POST", "/api/v1/panic/undo", key=boss["api_key"])).json() == {
        "resumed": 1
    }
    assert await working() == {"beside", "boss", "below"}
    # What is suspended by hand after a panic is no longer the panic's.
    await rig.ask("POST", "/api/v1/panic")
    await rig.ask("PATCH", keys_of(beside), {"status": "suspended"})
    await rig.ask("POST", "/api/v1/panic/undo")
    assert await working() == {"boss", "below"}


async def test_the_way_to_panic_is_on_every_page_of_whoever_may(rig: Rig):
    member = await new_account(rig, "m")
    owner, below = Browser(rig), Browser(rig)
    await owner.sign_in()
    await below.sign_in(member["api_key"])
    seen = 0
    pages = {path for method, path, _ in SIGNED_IN if method == "GET" and "{" not in path}
    for path in sorted(pages - {"/console/live"}):  # A stream of figures, without an end.
        answer = await owner.ask("GET", path)
        if answer.status == 200 and b'<nav class="rail"' in answer.body:
            seen += 1
            assert b'href="/console/panic"' in answer.body, path
    assert seen >= 10
    assert b'href="/console/panic"' not in (await below.ask("GET", "/console/me")).body


async def test_refused_changes_cost_no_storage_without_end(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    for limit, most in (("refused_stored", 3), ("refused", 6)):
        monkeypatch.setattr(rig.house.desk.attempts, limit, Attempts(most, lambda: 0.0))
    member = await new_account(rig, "m")
    answers = [
        await rig.ask("POST", "/api/v1/accounts", {"name": "x"}, key=member["api_key"])
        for _ in range(9)
    ]
    assert [answer.status for answer in answers] == [403] * 6 + [429] * 3
    assert answers[-1].json()["code"] == "rate_limited"
    assert int(answers[-1].headers["retry-after"]) == 60
    rows = (await rig.ask("GET", "/api/v1/operations?limit=100")).json()["items"]
    assert sum(row["result"] == "forbidden" for row in rows) == 3
    assert (await new_account(rig, "y"))["account"]["name"] == "y", "other keys are not held up"


async def test_webhook_tests_and_recovery_codes_are_limited(rig: Rig):
    wrong = [await rig.ask("POST", "/api/v1/notices/test") for _ in range(7)]
    assert [answer.status for answer in wrong] == [409] * 5 + [429] * 2
    tries = [
        await rig.ask("POST", "/api/v1/recover", {"recovery_code": f"XR1-{n}"}, key=None)
        for n in range(12)
    ]
    assert [answer.status for answer in tries] == [401] * 10 + [429] * 2


async def test_signing_in_is_limited_by_the_key_that_is_tried_as_well(rig: Rig):
    limit = rig.house.desk.attempts.sign_ins
    made = await new_account(rig, "t")
    for number in range(10):
        limit.count(*names_of_sign_in(f"10.0.0.{number}", made["api_key"]))
    browser = Browser(rig)
    held = await browser.ask("POST", "/console/sign-in", key=made["api_key"])
    assert held.status == 429
    await browser.sign_in()
    assert await page(browser) == 200, "another key from the same address is not held up"
