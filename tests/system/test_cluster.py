"""Several instances on one PostgreSQL and one Valkey: what one learns, all know; what one counts, all
count; and how soon, with each of the ways on which they hear of each other broken."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, start_cluster
from tests.patience import PRODUCT
from tests.rig import Rig
from tests.system.test_limits import _codes
from tests.waiting import until
from xairouter.directory import directory
from xairouter.directory.directory import BLIND_AFTER_SECONDS
from xairouter.gateway import running

BOUND = 2.0
"""Seconds in which a revocation reaches every instance. How often each way is looked at keeps it; how
long a busy machine takes for that, no test can say."""


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with start_cluster(tmp_path, 3) as made:
        await made.rigs[0].add_provider_key()
        yield made


async def _revoke(rig: Rig, team: Any) -> None:
    path = f"/api/v1/accounts/{team['account']['id']}/keys/{team['key']['id']}"
    assert (await rig.ask("DELETE", path)).status == 204


async def _stream(rig: Rig, key: str) -> "asyncio.Task[bytes]":
    """A stream whose reply has begun; its task has what it said."""
    reply = await rig.session.post(
        f"{rig.url}/v1/chat/completions",
        json={"model": "fault-slow", "stream": True, "messages": []},
        headers={"authorization": f"Bearer {key}"},
    )
    assert reply.status == 200
    return asyncio.create_task(reply.read())


async def _ends(cluster: Cluster, team: Any) -> list[bytes]:
    """Revoke a key while each instance streams for it: what each stream said to its end."""
    streams = [await _stream(rig, team["api_key"]) for rig in cluster.rigs]
    await _revoke(cluster.rigs[0], team)
    return await asyncio.wait_for(asyncio.gather(*streams), 60)


async def _use(cluster: Cluster, team: Any) -> None:
    """Every instance has the key in its cache, and none is writing any more: one that is cut while it
    does holds the others up until PostgreSQL ends it."""
    for rig in cluster.rigs:
        await rig.caught_up()
        assert (await rig.chat(key=team["api_key"])).status == 200
    await until(lambda: not any(rig.house.journal.size for rig in cluster.rigs))


@pytest.mark.usefixtures("product_times")
def test_each_way_is_looked_at_often_enough_for_the_bound():
    by_database = directory.POLL_SECONDS + running.UNSURE_SECONDS + running.LOOK_SECONDS
    assert by_database < BOUND
    assert running.UNSURE_SECONDS + running.LOOK_SECONDS < BOUND, "by the bus, told at once"
    assert BLIND_AFTER_SECONDS + running.LOOK_SECONDS < BOUND, "by neither, blind for 0 s"


async def test_revocation_reaches_every_instance_and_its_streams(cluster: Cluster):
    team = await cluster.rigs[0].add_account()
    await _use(cluster, team)
    bodies = await _ends(cluster, team)
    assert all(b"revoked" in body for body in bodies)
    for rig in cluster.rigs:
        assert (await rig.chat(key=team["api_key"])).code == "invalid_api_key"


async def test_revocation_is_in_time_without_the_bus(cluster: Cluster):
    team = await cluster.rigs[0].add_account()
    await _use(cluster, team)
    for one in cluster.instances:
        one.valkey.refuse()
    bodies = await _ends(cluster, team)
    assert all(b"revoked" in body for body in bodies)


async def test_revocation_is_in_time_by_the_bus_where_the_database_is_cut(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
):
    """What an instance hears and cannot look into counts as revoked."""
    monkeypatch.setattr(running, "UNSURE_SECONDS", PRODUCT[running.__name__, "UNSURE_SECONDS"])
    # Where it can be looked into, that may take as long as it takes: no time passes there.
    cluster.rigs[0].house.running.now = lambda: 0.0
    team, other = await cluster.rigs[0].add_account(), await cluster.rigs[0].add_account("other")
    await _use(cluster, team)
    await _use(cluster, other)
    for one in cluster.instances[1:]:
        one.database.cut()
    # By the bus alone: known keys go on, and the instance says in what state it is.
    for rig in cluster.rigs[1:]:

        async def says_so(rig: Rig = rig) -> bool:
            ready = (await rig.ask("GET", "/readyz", key=None)).json()
            is_unread = str(ready["database"]).startswith("not read for")
            return is_unread and ready["blind_for_seconds"] < BLIND_AFTER_SECONDS

        await until(says_so)
        assert (await rig.chat(key=other["api_key"])).status == 200
    bodies = await _ends(cluster, team)
    assert b"revoked" in bodies[0]
    assert all(b"cannot be known" in body for body in bodies[1:])


@pytest.mark.parametrize("way", ["refuse", "cut"])
async def test_without_bus_and_database_known_keys_end_when_the_installation_says(
    tmp_path: Path, way: str
):
    """With XAIROUTER_BLIND_SECONDS=0: within the bound, for new calls and for streams."""
    async with start_cluster(tmp_path, 2, blind_seconds=0) as cluster:
        # Only where and when this is about it: a machine that stands still makes everybody blind.
        for rig in cluster.rigs:
            assert rig.house.directory._blind_seconds == 0
            rig.house.directory._blind_seconds = 3600
        await cluster.rigs[0].add_provider_key()
        team = await cluster.rigs[0].add_account()
        await _use(cluster, team)
        blind = cluster.instances[1]
        stream = await _stream(blind.rig, team["api_key"])
        blind.rig.house.directory._blind_seconds = 0
        getattr(blind.database, way)()
        getattr(blind.valkey, way)()
        await _revoke(cluster.rigs[0], team)
        body = await asyncio.wait_for(stream, 60)
        assert b"cannot be known" in body
        refused = await blind.rig.chat(key=team["api_key"])
        assert refused.code == "storage_unavailable"
        assert (await blind.rig.ask("GET", "/readyz", key=None)).status == 503
        blind.database.mend()
        blind.valkey.mend()
        blind.rig.house.directory._blind_seconds = 3600
        async with asyncio.timeout(60):
            while (await blind.rig.chat(key=team["api_key"])).code != "invalid_api_key":
                await asyncio.sleep(0.1)
        assert (await blind.rig.chat()).status == 200


async def test_limits_are_exact_across_instances(cluster: Cluster):
    first = cluster.rigs[0]
    rules = {"limits": {"rpd": 50, "concurrency": 200}}
    team = await first.add_account(rules=rules)
    for rig in cluster.rigs:
        # Known everywhere: a hundred look-ups at once may take longer than one is waited for.
        assert (await rig.ask("GET", "/api/v1/me", key=team["api_key"])).status == 200
    answers = await asyncio.gather(
        *(rig.chat(key=team["api_key"]) for rig in cluster.rigs for _ in range(40))
    )
    assert _codes(list(answers)) == {200: 50, "rate_limited": 70}


async def test_one_call_at_a_time_means_one_in_the_whole_cluster(cluster: Cluster):
    team = await cluster.rigs[0].add_account(rules={"limits": {"concurrency": 1}})
    running = asyncio.create_task(cluster.rigs[0].chat("fault-slow", key=team["api_key"]))
    await until(lambda: cluster.rigs[0].standin.requests)
    for rig in cluster.rigs[1:]:
        assert (await rig.chat(key=team["api_key"])).code == "concurrency_limited"
    running.cancel()


async def test_rules_and_routing_reach_every_instance(cluster: Cluster):
    first, *others = cluster.rigs
    team = await first.add_account()
    await _use(cluster, team)
    path = f"/api/v1/accounts/{team['account']['id']}/rules"
    assert (await first.ask("PUT", path, {"allow_models": ["other"]})).status == 200
    async with asyncio.timeout(60):
        for rig in others:
            while (await rig.chat(key=team["api_key"])).code != "model_not_allowed":
                await asyncio.sleep(0.01)


async def test_a_sleeping_key_sleeps_everywhere_and_wakes_everywhere(cluster: Cluster):
    first, *others = cluster.rigs
    for rig in cluster.rigs:
        rig.house.health.now = lambda: 1000.0
    key = next(iter((await first.house.directory.owner(first.owner_id)).provider_keys.values()))
    assert (await first.chat("fault-429")).status == 429
    async with asyncio.timeout(60):
        for rig in others:
            while not rig.house.health.of(key):
                await asyncio.sleep(0.01)
    asked = len(first.standin.requests)
    for rig in others:
        assert (await rig.chat("fault-429")).code == "all_keys_sleeping"
    assert len(first.standin.requests) == asked
    first.house.health.forget(key.id)
    async with asyncio.timeout(60):
        for rig in others:
            while rig.house.health.of(key):
                await asyncio.sleep(0.01)


async def test_an_object_made_at_one_instance_is_known_at_the_next_at_once(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
):
    # As often as it takes where the machine is busy and the record is stored late.
    monkeypatch.setattr(directory, "BINDING_TRIES", 240)
    first, second, third = cluster.rigs
    team = await first.add_account()
    body = {"model": "demo-large", "input": "hello", "store": True}
    for rig, other in ((first, second), (second, third), (third, first)):
        made = await rig.ask("POST", "/v1/responses", body, key=team["api_key"])
        assert made.status == 200, made.body
        path = f"/v1/responses/{made.json()['id']}"
        found = await other.ask("GET", path, key=team["api_key"])
        assert found.status == 200, found.body
    monkeypatch.undo()
    strange = await second.ask("GET", "/v1/responses/resp_of_nobody", key=team["api_key"])
    assert strange.code == "object_not_found"


async def test_an_owner_who_takes_over_is_believed_everywhere_and_a_planted_vault_nowhere(
    cluster: Cluster,
):
    first, *others = cluster.rigs
    for rig in cluster.rigs:
        assert (await rig.chat()).status == 200
    key = first.key
    for rig in (first, others[0]):
        taken = await rig.ask("POST", "/api/v1/me/take-over", key=key)
        assert taken.status == 201, taken.body
        key = taken.json()["api_key"]
    for rig in cluster.rigs:
        # Twice over, and the last instance has seen neither.
        assert (await rig.chat(key=key)).status == 200, rig.port
        assert (await rig.chat()).code == "invalid_api_key"
    # A third vault, without the word of the second one: who writes the database does this.
    taken = await first.ask("POST", "/api/v1/me/take-over", key=key)
    (row,) = await first.sql("select max(epoch) from successions")
    await first.sql(("delete from successions where epoch = ?", (row[0],)))
    planted = taken.json()["api_key"]
    for rig in others:
        assert (await rig.chat(key=planted)).code == "invalid_api_key"


async def test_management_of_one_instance_is_read_at_another(cluster: Cluster):
    first, second, _ = cluster.rigs
    team = await first.add_account()
    shown = await second.ask("GET", f"/api/v1/accounts/{team['account']['id']}")
    assert shown.json()["name"] == "team"
    assert (await second.ask("GET", "/api/v1/me", key=team["api_key"])).status == 200

    async def knows_them() -> bool:
        ready = json.loads((await second.ask("GET", "/readyz", key=None)).body)
        return (ready["bus"], ready["counters"]) == ("2 other instances", "valkey")

    await until(knows_them)


async def test_instances_without_valkey_say_that_they_count_for_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from tests.rig import start_rig
    from tests.servers import drop_database, postgres_database
    from xairouter.directory import neighbours

    monkeypatch.setattr(neighbours, "LOOK_SECONDS", 0.1)
    url = postgres_database()

    async def says(rig: Rig, word: str) -> None:
        async with asyncio.timeout(120):
            while word not in (await rig.ask("GET", "/readyz", key=None)).json()["bus"]:
                await asyncio.sleep(0.1)

    first = await start_rig(tmp_path / "one", database_url=url)
    try:
        await says(first, "one instance")
        second = await start_rig(tmp_path / "two", beside=first, database_url=url)
        try:
            await says(first, "1 other instances count limits for themselves")
            await says(second, "1 other instances count limits for themselves")
        finally:
            await second.stop()
        await says(first, "one instance")
    finally:
        await first.stop()
        drop_database(url)
