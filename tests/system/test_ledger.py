"""One record for every call, also across kill −9, a locked database and a full journal."""

import asyncio
import contextlib
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import aiohttp
import pytest
import sqlalchemy as sa

from tests.rig import Rig, start_rig
from tests.system.process import Router, create_owner, start_router
from tests.system.test_money import Gate
from tests.waiting import until
from xairouter.ledger.frames import Frame, Progress
from xairouter.ledger.salvage import decode_all
from xairouter.standin.faults import FAULTS
from xairouter.standin.server import StandIn
from xairouter.storage.database import Database

pytestmark = pytest.mark.both


async def _load(router: Router, key: str, stop: asyncio.Event, dice: random.Random) -> set[str]:
    """Calls in many tasks, each labelled; the labels of those that were answered whole."""
    answered: set[str] = set()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def caller(number: int) -> None:
            count = 0
            while not stop.is_set():
                count += 1
                label = f"{router.process.pid}-{number}-{count}"
                stream = dice.random() < 0.5
                model = dice.choice(["demo", "demo", "fault-drip", "fault-500"])
                body = {
                    "model": model,
                    "stream": stream,
                    "user": label,
                    "messages": [{"role": "user", "content": "some words to say"}],
                }
                with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                    async with session.post(
                        router.url + "/v1/chat/completions",
                        json=body,
                        headers={"authorization": f"Bearer {key}", "x-xairouter-label": label},
                    ) as reply:
                        await reply.read()
                        answered.add(label)

        await asyncio.gather(*(caller(number) for number in range(12)))
    return answered


def _has_seen(standin: StandIn, calls: int) -> bool:
    return len(standin.requests) >= calls


async def _sum(data_dir: Path, url: str, statement: str) -> tuple:
    """One row of numbers from a stopped installation's database."""
    database = Database(url or f"sqlite:///{data_dir}/xairouter.db")
    async with database.read() as connection:
        row = (await connection.execute(sa.text(statement))).one()
    await database.close()
    return tuple(row)


@pytest.mark.slow
async def test_after_kill_9_under_load_every_call_has_exactly_one_record(
    tmp_path: Path, storage: str
):
    data_dir = tmp_path / "data"
    where = {"XAIROUTER_DATABASE_URL": storage}
    standin = StandIn()
    port = await standin.start()
    key = await create_owner(data_dir, **where)
    dice = random.Random(7)
    answered: set[str] = set()
    kills = int(os.environ.get("XAIROUTER_TEST_KILLS", "6"))
    try:
        for number in range(kills):
            router = await start_router(data_dir, **where)
            if number == 0:
                await router.add_standin(key, port)
            stop = asyncio.Event()
            load = asyncio.create_task(_load(router, key, stop, dice))
            enough = len(standin.requests) + dice.randint(15, 80)
            await until(partial(_has_seen, standin, enough), 120)
            await router.kill()
            stop.set()
            answered |= await load
        router = await start_router(data_dir, **where)
        records = []
        cursor = ""
        while True:
            _, page = await router.ask("GET", f"/api/v1/usage/records?limit=500{cursor}", key)
            records += page["items"]
            if not page["next_cursor"]:
                break
            cursor = f"&cursor={page['next_cursor']}"
        assert await router.terminate() == 0
    finally:
        await standin.stop()
    seen = Counter(received.json()["user"] for received in standin.requests)
    recorded = Counter(record["label"] for record in records)
    assert len(seen) > 50
    assert set(seen) <= set(recorded), "a request the upstream saw lacks a record"
    assert answered <= set(recorded)
    assert len({record["call_id"] for record in records}) == len(records)
    assert max(recorded.values()) == 1
    attempts = sum(record["attempts"] for record in records)
    interrupted = [record for record in records if record["outcome"] == "interrupted"]
    assert sum(seen.values()) <= attempts <= sum(seen.values()) + len(interrupted)
    assert len(interrupted) <= 12 * kills
    # The roll-ups were raised once for each record, and the chain has one link for each.
    sums = "select sum(calls), sum(attempts) from usage_hours"
    assert await _sum(data_dir, storage, sums) == (len(records), attempts)
    links = "select count(*) from chain where kind = 'usage'"
    assert await _sum(data_dir, storage, links) == (len(records),)
    assert not list((data_dir / "journal").glob("*/*.log"))


def _frames(data_dir: Path) -> Iterator[Frame]:
    """What the journals of a running router hold by now."""
    for segment in (data_dir / "journal").glob("*/*.log"):
        yield from decode_all(segment.read_bytes())


async def test_an_interrupted_call_keeps_what_was_known(tmp_path: Path):
    data_dir = tmp_path / "data"
    standin = StandIn()
    port = await standin.start()
    key = await create_owner(data_dir)
    try:
        router = await start_router(data_dir)
        await router.add_standin(key, port)
        call = asyncio.create_task(
            router.ask(
                "POST",
                "/v1/messages",
                key,
                {
                    "model": "fault-slow",
                    "stream": True,
                    "max_tokens": 77,
                    "messages": [{"role": "user", "content": "x"}],
                },
            )
        )
        await until(lambda: any(isinstance(one, Progress) for one in _frames(data_dir)))
        await router.kill()
        with contextlib.suppress(aiohttp.ClientError):
            await call
        router = await start_router(data_dir)
        _, page = await router.ask("GET", "/api/v1/usage/records", key)
        await router.terminate()
    finally:
        await standin.stop()
    [record] = page["items"]
    assert (record["outcome"], record["attempts"], record["status"]) == ("interrupted", 1, 200)
    assert record["max_output_tokens"] == 77
    assert record["input_tokens"] is not None
    assert record["provider_key_id"].startswith("pk_")


async def test_sigterm_drains_and_ends_with_status_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    gate = Gate()
    monkeypatch.setitem(FAULTS, "fault-gate", gate.play)
    data_dir = tmp_path / "data"
    standin = StandIn()
    port = await standin.start()
    key = await create_owner(data_dir)
    try:
        router = await start_router(data_dir, XAIROUTER_DRAIN_SECONDS="120")
        await router.add_standin(key, port)
        words = " ".join(["word"] * 30)
        body = {
            "model": "fault-gate",
            "stream": True,
            "messages": [{"role": "user", "content": words}],
        }

        async def is_draining() -> bool:
            return (await router.ask("GET", "/readyz", key))[1]["draining"] is True

        async with aiohttp.ClientSession() as session:
            headers = {"authorization": f"Bearer {key}"}
            url = router.url + "/v1/chat/completions"
            async with session.post(url, json=body, headers=headers) as stream:
                await stream.content.readany()
                ended = asyncio.create_task(router.terminate())
                await until(is_draining)
                async with session.post(url, json=body, headers=headers) as refused:
                    assert refused.status == 503
                    assert refused.headers["x-xairouter-error"] == "draining"
                gate.go.set()
                assert (await stream.read()).endswith(b"data: [DONE]\n\n")
        assert await ended == 0
    finally:
        await standin.stop()
    assert await _sum(data_dir, "", "select outcome from usage_records") == ("completed",)
    assert not list((data_dir / "journal").glob("*"))


async def test_a_locked_database_stops_no_call_and_loses_no_row(rig: Rig):
    await rig.add_provider_key()
    assert (await rig.chat()).status == 200
    await rig.house.drain.drain()
    other = Database(rig.house.settings.effective_database_url)
    async with other.write():
        answers = await asyncio.gather(*(rig.chat() for _ in range(20)))
        assert {answer.status for answer in answers} == {200}
    await other.close()
    assert len(await rig.records(expect=21)) == 21


async def test_the_metric_tells_of_a_journal_that_cannot_be_stored(rig: Rig):
    await rig.add_provider_key()
    other = Database(rig.house.settings.effective_database_url)

    async def waiting() -> float:
        text = (await rig.ask("GET", "/metrics", key=None)).body.decode()
        [line] = [one for one in text.splitlines() if one.startswith("xairouter_journal_bytes ")]
        return float(line.rpartition(" ")[2])

    assert (await rig.chat()).status == 200
    async with other.write():
        assert (await rig.chat()).status == 200
        assert await waiting() > 0
    await other.close()
    await rig.records(expect=2)
    await until(lambda: _is_nothing(waiting))


async def _is_nothing(measure: Callable[[], Awaitable[float]]) -> bool:
    return await measure() == 0


async def test_management_answers_503_while_the_database_is_away(rig: Rig, monkeypatch):
    from xairouter.errors import StorageError

    await rig.add_provider_key()
    # Once the change has been read back, nothing has to be looked up again.
    ((newest,),) = await rig.sql("select max(seq) from changes")
    while rig.house.directory._read_to < newest:
        await asyncio.sleep(0.01)
    assert (await rig.chat()).status == 200

    def away(*_, **__):
        raise StorageError("The database cannot be used now (test).")

    monkeypatch.setattr(rig.house.database, "read", away)
    monkeypatch.setattr(rig.house.database, "write", away)
    assert (await rig.chat()).status == 200
    answer = await rig.ask("GET", "/api/v1/accounts")
    assert (answer.status, answer.json()["code"]) == (503, "storage_unavailable")
    unknown = await rig.chat(key="sk-Xvs" + "a" * 39 + "23emdh")
    assert (unknown.status, unknown.code) == (503, "storage_unavailable")


async def test_no_place_in_the_book_no_call(rig: Rig, monkeypatch):
    await rig.add_provider_key()
    assert (await rig.chat()).status == 200
    count = len(rig.standin.requests)

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rig.house.journal, "_write", full)
    answer = await rig.chat()
    assert (answer.status, answer.code) == (503, "ledger_unavailable")
    assert len(rig.standin.requests) == count
    monkeypatch.undo()
    assert (await rig.chat()).status == 200
    _, unmade, _ = await rig.records(expect=3)
    assert (unmade["outcome"], unmade["error_code"]) == ("refused", "ledger_unavailable")
    assert (unmade["attempts"], unmade["cost_usd"]) == (0, 0)


async def test_a_journal_at_its_limit_refuses_new_calls(rig: Rig, monkeypatch):
    await rig.add_provider_key()
    monkeypatch.setattr(type(rig.house.journal), "has_room", property(lambda _: False))
    answer = await rig.chat()
    assert (answer.status, answer.code) == (503, "ledger_unavailable")
    assert (await rig.ask("GET", "/readyz", key=None)).status == 503
    assert rig.standin.requests == []


async def test_refusals_above_the_rate_are_only_counted(rig: Rig):
    from xairouter.ledger.book import REFUSALS_PER_SECOND

    await rig.add_provider_key(models=["only"])
    answers = await asyncio.gather(*(rig.chat("none") for _ in range(200)))
    assert {answer.code for answer in answers} == {"model_not_found"}
    recorded = len(await rig.records())
    counted = rig.house.metrics.unrecorded_refusals._value.get()
    assert recorded + counted == 200
    assert recorded >= REFUSALS_PER_SECOND


@pytest.mark.parametrize("again", [1, 2])
async def test_a_start_after_a_crash_is_repeatable(tmp_path: Path, again: int, storage: str):
    """A crash between storing and removing the journal repeats work and doubles nothing."""
    import shutil

    from tests.unit.ledger.test_frames import record
    from xairouter.ledger.frames import Begin, Finish, encode

    rig = await start_rig(tmp_path / "data", database_url=storage)
    await rig.stop()
    folder = tmp_path / "data" / "journal" / "inst_dead"
    folder.mkdir(parents=True)
    made = record(owner_id=rig.owner_id)
    (folder / "00000001.log").write_bytes(
        encode(Begin(made)) + encode(Finish(record(owner_id=rig.owner_id, outcome="completed")))
    )
    kept = tmp_path / "kept"
    shutil.copytree(folder, kept)
    for _ in range(again):
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        from xairouter.app import House

        house = House(rig.house.settings)
        await house.start()
        await house.stop()
        assert not folder.exists()
    data = tmp_path / "data"
    assert await _sum(data, storage, "select outcome from usage_records") == ("completed",)
    assert await _sum(data, storage, "select sum(calls) from usage_hours") == (1,)
