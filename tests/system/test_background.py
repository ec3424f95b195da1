"""A response in the background is settled once, by the first reply that shows its end, on whichever
instance: record, hash chain, roll-ups, counters and budgets say the same before and after."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import start_cluster
from tests.rig import Rig, start_rig
from tests.servers import drop_database, postgres_database
from tests.system.test_money import Gate
from tests.waiting import until
from xairouter.manage import verifying
from xairouter.standin import replies
from xairouter.standin.faults import FAULTS, Reply

pytestmark = [pytest.mark.both, pytest.mark.shared_rig]
PRICES = {"*": {"input": 1000, "output": 2000}}
"""USD per million: a thousandth of a dollar for each token in, two for each token out."""
MOST = 300
"""Tokens of output that every request declares: 0.60 USD."""
USAGE = {
    "input_tokens": 20,
    "input_tokens_details": {"cached_tokens": 5},
    "output_tokens": 40,
    "output_tokens_details": {"reasoning_tokens": 30},
    "total_tokens": 60,
}
"""What the provider bills in the end: 0.10 USD."""
COST = 0.1
WHERE = "/v1/responses"


@pytest.fixture
async def ready(rig: Rig) -> Rig:
    return await make_ready(rig)


async def make_ready(rig: Rig) -> Rig:
    await rig.ask("PUT", "/api/v1/prices", PRICES)
    await rig.add_provider_key()
    await budget(rig, rig.owner_id, day_usd=1.2, total_usd=1.2)
    return rig


async def budget(rig: Rig, account_id: str, **budget: float) -> None:
    rules = {"budget": budget, "limits": {"tph": 10_000_000, "tpm": 10_000_000}}
    answer = await rig.ask("PUT", f"/api/v1/accounts/{account_id}/rules", rules)
    assert answer.status == 200, answer.body


async def begin(rig: Rig, *, key: str = "", **fields: Any) -> Any:
    body = {"model": "m", "background": True, "max_output_tokens": MOST, "input": "a few words"}
    return await rig.ask("POST", "/v1/responses", {**body, **fields}, key=key)


def now_is(rig: Rig, made: str, status: str, usage: Any = USAGE) -> dict[str, Any]:
    """The provider shows a response so from now on."""
    document = {"id": made, "object": "response", "status": status, "usage": usage, "output": []}
    rig.standin.documents[f"/responses/{made}"] = document
    return document


async def used(rig: Rig, key: str = "") -> dict[str, float]:
    me = (await rig.ask("GET", "/api/v1/me", key=key)).json()
    found = {one["name"]: one["used_usd"] for one in me["budgets"]}
    return found | {one["name"]: one["used"] for one in me["limits"]}


async def the_record(rig: Rig) -> dict[str, Any]:
    """The record of the only POST that was made."""
    [found] = [one for one in await rig.records() if one["path"] == WHERE and one["attempts"]]
    return dict(found)


async def everything_agrees(rig: Rig, **expected: float) -> None:
    """Live counters, the same begun anew, records, both roll-ups and the chain."""
    await rig.records()
    live = await used(rig)
    assert {name: live[name] for name in expected} == pytest.approx(expected)
    assert live["day"] == pytest.approx(live["total"])
    rig.house.counters.forget(rig.owner_id)
    assert await used(rig) == live
    sums = (
        "SELECT SUM(counted_tokens), SUM(counted_nano), SUM(input_tokens), SUM(output_tokens), "
        "SUM(cost_nano) FROM usage_records WHERE owner_id = ?"
    )
    [(tokens, nano, *stated)] = await rig.sql((sums, (rig.owner_id,)))
    assert (int(tokens), int(nano)) == (live["tph"], round(live["day"] * 10**9))
    names = "SUM(input_tokens), SUM(output_tokens), SUM(cost_nano)"
    [(hours, *by_hour)] = await rig.sql(
        (f"SELECT SUM(counted_nano), {names} FROM usage_hours WHERE owner_id = ?", (rig.owner_id,))
    )
    assert int(hours) == int(nano)
    grains = f"SELECT grain, dimension, {names} FROM usage_sums WHERE owner_id = ? GROUP BY 1, 2"
    by_place = await rig.sql((grains, (rig.owner_id,)))
    assert len(by_place) >= 15
    for found in (by_hour, *(row[2:] for row in by_place)):
        assert [int(one) for one in found] == [int(one or 0) for one in stated]
    report = await verifying.verify(rig.house.database, verifying.Report(rig.owner_id))
    assert report.is_whole, report.faults


WAYS = {
    "get": ("GET", "", "completed"),
    "failed": ("GET", "", "failed"),
    "incomplete": ("GET", "", "incomplete"),
    "cancelled": ("GET", "", "cancelled"),
    "cancel": ("POST", "/cancel", "cancelled"),
    "delete": ("DELETE", "", "completed"),
    "stream": ("GET", "?stream=true", "completed"),
}


@pytest.mark.parametrize("way", WAYS)
async def test_the_first_reply_that_shows_the_end_settles_and_the_second_does_not(
    ready: Rig, way: str
):
    method, suffix, status = WAYS[way]
    made = (await begin(ready)).json()["id"]
    before = await the_record(ready)
    assert (before["usage_source"], before["outcome"]) == ("estimated", "completed")
    held = (await used(ready))["day"]
    assert held >= 0.6
    assert (await begin(ready)).code == "budget_exhausted", "it would not fit beside the first"
    ready.standin.requests.clear()
    answer = {"id": made, "object": "response", "status": status, "usage": USAGE, "output": []}
    if way == "stream":
        event = {"type": "response.completed", "response": answer}
        ready.standin.scripted = Reply(200, replies._EVENTS, events=replies.named_events([event]))
    else:
        ready.standin.scripted = replies.whole(answer)
    for _ in range(3):
        assert (await ready.ask(method, f"/v1/responses/{made}{suffix}")).status == 200
        await ready.records()
        # Whatever the provider says now, the first statement was the final one.
        answer["usage"] = {**USAGE, "output_tokens": 1}
        if way != "stream":
            ready.standin.scripted = replies.whole(answer)
    ready.standin.scripted = None
    records = await ready.records()
    after = next(one for one in records if one["call_id"] == before["call_id"])
    assert after["usage_source"] == "reported"
    assert (after["input_tokens"], after["cached_input_tokens"]) == (20, 5)
    assert (after["output_tokens"], after["reasoning_tokens"]) == (40, 30)
    assert after["cost_usd"] == pytest.approx(COST)
    assert after["price_version"]
    assert after.keys() == before.keys()
    kept = ("account_id", "key_id", "started_at", "status", "outcome", "reserved_usd", "total_ms")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    await everything_agrees(ready, day=COST, tph=60)
    assert (await begin(ready)).status == 200
    entries = "SELECT COUNT(*) FROM chain WHERE kind = 'settled' AND ref_id = ?"
    assert await ready.sql((entries, (before["call_id"],))) == [(1,)]
    shown = [one for one in records if one["path"].startswith("/v1/responses/")]
    assert [(one["usage_source"], one["cost_usd"]) for one in shown] == [("none", 0)] * 3


@pytest.mark.parametrize(
    ("status", "usage"),
    [
        ("queued", None),
        ("in_progress", USAGE),
        ("queued", USAGE),
        ("completed", None),
        ("cancelled", None),
        ("done", USAGE),
        (["completed"], USAGE),
        (None, USAGE),
    ],
)
async def test_until_its_end_is_stated_with_its_usage_it_stays_reserved(
    ready: Rig, status: Any, usage: Any
):
    made = (await begin(ready)).json()["id"]
    held = (await used(ready))["day"]
    now_is(ready, made, status, usage)
    for _ in range(2):
        assert (await ready.ask("GET", f"/v1/responses/{made}")).status == 200
    assert (await the_record(ready))["usage_source"] == "estimated"
    await everything_agrees(ready, day=held)
    now_is(ready, made, "completed")
    assert (await ready.ask("GET", f"/v1/responses/{made}")).status == 200
    await everything_agrees(ready, day=COST, tph=60)


async def test_a_reply_that_is_not_of_the_object_asked_for_settles_nothing(ready: Rig):
    made = (await begin(ready)).json()["id"]
    held = (await used(ready))["day"]
    ready.standin.documents[f"/responses/{made}"] = now_is(ready, "resp_other", "completed")
    await ready.ask("GET", f"/v1/responses/{made}")
    error = json.dumps(now_is(ready, made, "failed")).encode()
    ready.standin.scripted = Reply(500, replies._JSON, error)
    await ready.ask("GET", f"/v1/responses/{made}")
    ready.standin.scripted = None
    ready.house.health._keys.clear()
    await everything_agrees(ready, day=held)


async def test_who_reaches_the_object_settles_and_the_account_that_made_it_pays(ready: Rig):
    team = await ready.add_account("team")
    other = await ready.add_account("other")
    for one in (team, other):
        await budget(ready, one["account"]["id"], day_usd=1)
    made = (await begin(ready, key=team["api_key"])).json()["id"]
    now_is(ready, made, "completed")
    held = (await used(ready, team["api_key"]))["day"]
    assert held >= 0.6
    assert (await begin(ready, key=team["api_key"])).code == "budget_exhausted"
    answer = await ready.ask("GET", f"/v1/responses/{made}", key=other["api_key"])
    assert (answer.status, answer.code) == (404, "object_not_found")
    await ready.records()
    assert (await used(ready, team["api_key"]))["day"] == held
    # The owner's own account reaches everything.
    assert (await ready.ask("GET", f"/v1/responses/{made}")).status == 200
    await ready.records()
    assert (await used(ready, team["api_key"]))["day"] == pytest.approx(COST)
    assert (await used(ready, other["api_key"]))["day"] == 0
    record = await the_record(ready)
    assert record["account_id"] == team["account"]["id"]
    assert record["key_id"] == team["key"]["id"]
    assert record["cost_usd"] == pytest.approx(COST)
    await everything_agrees(ready, day=COST)
    assert (await begin(ready, key=team["api_key"])).status == 200


async def test_many_readers_at_once_settle_once(ready: Rig):
    made = (await begin(ready)).json()["id"]
    now_is(ready, made, "completed")
    await asyncio.gather(*(ready.ask("GET", f"/v1/responses/{made}") for _ in range(20)))
    await everything_agrees(ready, day=COST, tph=60)
    entries = "SELECT COUNT(*) FROM chain WHERE kind = 'settled' AND owner_id = ?"
    assert await ready.sql((entries, (ready.owner_id,))) == [(1,)]


async def test_a_settlement_is_stored_with_the_record_that_it_settles(ready: Rig):
    """The end is seen before the record of the beginning has left the journal."""
    await used(ready)  # Counters that began later would wait for the drain.
    async with ready.house.drain._storing:
        made = (await begin(ready)).json()["id"]
        now_is(ready, made, "completed")
        assert (await ready.ask("GET", f"/v1/responses/{made}")).status == 200
    await everything_agrees(ready, day=COST, tph=60)
    assert ready.house.journal.size == 0


async def test_a_stream_that_states_its_end_needs_no_settlement(ready: Rig):
    answer = await begin(ready, stream=True)
    assert b"response.completed" in answer.body
    record = await the_record(ready)
    assert record["usage_source"] == "reported"
    made = record["provider_object_id"]
    now_is(ready, made, "completed")
    before = await used(ready)
    await ready.ask("GET", f"/v1/responses/{made}")
    await everything_agrees(ready, day=before["day"])
    assert (await the_record(ready)) == record


async def test_what_was_settled_by_hand_is_found(ready: Rig):
    await budget(ready, ready.owner_id, day_usd=5)
    made = (await begin(ready)).json()["id"]
    now_is(ready, made, "completed")
    await ready.ask("GET", f"/v1/responses/{made}")
    second = (await begin(ready)).json()["id"]
    await ready.records()
    one = "WHERE owner_id = ? AND provider_object_id = ?"
    for statement in (
        f"UPDATE usage_records SET output_tokens = 1 {one}",
        f"UPDATE usage_records SET settled = NULL {one}",
        f"UPDATE usage_records SET settled = 'x' {one}",
    ):
        kept = f"SELECT output_tokens, settled FROM usage_records {one}"
        [values] = await ready.sql((kept, (ready.owner_id, made)))
        await ready.sql((statement, (ready.owner_id, made)))
        report = await verifying.verify(ready.house.database, verifying.Report(ready.owner_id))
        assert any("altered" in fault for fault in report.faults), statement
        back = f"UPDATE usage_records SET output_tokens = ?, settled = ? {one}"
        await ready.sql((back, (*values, ready.owner_id, made)))
    assert (await verifying.verify(ready.house.database, verifying.Report(ready.owner_id))).is_whole
    forged = json.dumps({"seen_by": "x", "at_ms": 1, "before": {"output_tokens": None}})
    await ready.sql(
        (
            f"UPDATE usage_records SET output_tokens = 9, settled = ? {one}",
            (forged, ready.owner_id, second),
        )
    )
    [fault] = (
        await verifying.verify(ready.house.database, verifying.Report(ready.owner_id))
    ).faults
    assert "no entry says that it was settled" in fault


async def test_two_instances_settle_once_and_count_the_same(tmp_path: Path):
    async with start_cluster(tmp_path, 2) as cluster:
        first, second = cluster.rigs
        await make_ready(first)
        await asyncio.gather(*(used(rig) for rig in cluster.rigs))
        made = (await begin(first)).json()["id"]
        assert (await begin(second)).code == "budget_exhausted"
        now_is(first, made, "completed")
        shown = (rig.ask("GET", f"/v1/responses/{made}") for rig in cluster.rigs * 5)
        assert {answer.status for answer in await asyncio.gather(*shown)} == {200}
        for rig in cluster.rigs:
            await rig.records()
        for rig in cluster.rigs:
            await everything_agrees(rig, day=COST, tph=60)
        entries = "SELECT COUNT(*) FROM chain WHERE kind = 'settled'"
        assert await first.sql(entries) == [(1,)]
        assert (await begin(second)).status == 200, "there is room again"


async def test_an_end_that_is_seen_before_the_record_is_stored_settles_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A stream in the background runs on one instance while another is asked how it stands."""
    gate = Gate()
    monkeypatch.setitem(FAULTS, "fault-gate", gate.play)
    async with start_cluster(tmp_path, 2) as cluster:
        first, second = cluster.rigs
        await make_ready(first)
        got = bytearray()

        async def read() -> None:
            body = {"model": "fault-gate", "background": True, "stream": True, "input": "a b c"}
            body["max_output_tokens"] = MOST
            headers = {"authorization": f"Bearer {first.key}"}
            async with first.session.post(first.url + WHERE, json=body, headers=headers) as reply:
                async for piece in reply.content.iter_any():
                    got.extend(piece)

        reading = asyncio.create_task(read())
        await until(lambda: b"response.in_progress" in got)
        made = json.loads(got.split(b"data: ")[1].split(b"\n")[0])["response"]["id"]
        now_is(first, made, "completed")
        assert (await second.ask("GET", f"/v1/responses/{made}")).status == 200
        await second.records()
        [(kept,)] = await first.sql(
            ("SELECT final FROM provider_objects WHERE object_id = ?", (made,))
        )
        assert kept is not None
        assert await first.sql("SELECT 1 FROM usage_records WHERE path = '/v1/responses'") == []
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
        await until(lambda: not first.house.running._calls)
        record = await the_record(first)
        assert (record["outcome"], record["usage_source"]) == ("client_gone", "reported")
        assert record["cost_usd"] == pytest.approx(COST)
        await everything_agrees(first, day=COST, tph=60)
        gate.go.set()


async def test_what_is_settled_while_valkey_is_away_is_counted_when_it_is_back(tmp_path: Path):
    async with start_cluster(tmp_path, 2, valkey_away="share") as cluster:
        first, second = cluster.rigs
        await make_ready(first)
        made = (await begin(first)).json()["id"]
        await first.records()
        assert (await used(second))["day"] >= 0.6
        now_is(first, made, "completed")
        for one in cluster.instances:
            one.valkey.refuse()
        await until(lambda: all(rig.house.counters.is_away for rig in cluster.rigs))
        assert (await second.ask("GET", f"/v1/responses/{made}")).status == 200
        await second.records()
        assert (await used(second))["day"] == pytest.approx(COST)
        for one in cluster.instances:
            one.valkey.mend()
        await until(lambda: not any(rig.house.counters.is_away for rig in cluster.rigs))
        for rig in cluster.rigs:
            await everything_agrees(rig, day=COST, tph=60)


async def test_instances_that_count_apart_take_off_nothing_that_they_had_not_counted(
    tmp_path: Path,
):
    """Without Valkey: the one that shows the end had never heard of the beginning."""
    url = postgres_database()
    first = await start_rig(tmp_path / "first", database_url=url)
    second = await start_rig(tmp_path / "second", beside=first, database_url=url)
    try:
        await until(lambda: second.house.bus.others > 0)
        await make_ready(first)
        assert (await used(second))["day"] == 0
        made = (await begin(first)).json()["id"]
        await first.records()
        now_is(first, made, "completed")
        assert (await second.ask("GET", f"/v1/responses/{made}")).status == 200
        await second.records()
        assert (await used(second))["day"] == pytest.approx(COST)
        assert (await used(first))["day"] >= 0.6, "from above, until its counters begin anew"
    finally:
        await second.stop()
        await first.stop()
        drop_database(url)
