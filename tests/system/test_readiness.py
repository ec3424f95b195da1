"""What ``GET /readyz`` says: each row of the table in docs/how-to/watch.md has its test here."""

import asyncio
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, start_cluster
from tests.rig import Rig, start_rig
from tests.unit.ledger.test_frames import record
from tests.waiting import until
from xairouter.clock import now_ms
from xairouter.ledger.drain import Drain
from xairouter.ledger.frames import Finish, encode

pytestmark = pytest.mark.own_rig
DOCS = Path(__file__).parents[2] / "docs" / "how-to" / "watch.md"


async def _ready(rig: Rig) -> tuple[int, dict[str, Any]]:
    answer = await rig.ask("GET", "/readyz", key=None)
    said = answer.json()
    assert (answer.status == 200) == (said["status"] == "ready")
    return answer.status, said


async def _until_said(rig: Rig, part: str, says: str) -> int:
    """Wait until a part says so; the status with which it did."""

    async def is_said() -> int:
        status, said = await _ready(rig)
        return status if re.match(says, str(said[part])) else 0

    status: int = await until(is_said)
    return status


def test_each_row_of_the_table_has_a_test_here():
    table = DOCS.read_text().partition("## What /readyz says")[2]
    rows = list(dict.fromkeys(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)))
    tested = re.findall(r"^async def test_(\w+?)_is", Path(__file__).read_text(), re.MULTILINE)
    assert rows == sorted(set(tested), key=rows.index)
    assert len(rows) == 8


async def test_database_is_told_and_counts_once_calls_may_not_go_on_blind(tmp_path: Path):
    async with start_cluster(tmp_path, 1, blind_seconds=300) as cluster:
        [one] = cluster.instances
        assert await _until_said(one.rig, "database", "ok") == 200
        one.database.refuse()
        assert await _until_said(one.rig, "database", "not read for [1-9]") == 200
        one.valkey.refuse()
        directory = one.rig.house.directory
        directory._now = lambda: time.monotonic() + 310
        status, said = await _ready(one.rig)
        assert (status, said["status"]) == (503, "not ready")
        assert said["blind_for_seconds"] > 300
        one.database.mend()
        assert await _until_said(one.rig, "database", "ok") == 200


async def test_ledger_is_told_and_calls_go_on(tmp_path: Path):
    async with start_cluster(tmp_path, 1) as cluster:
        [one] = cluster.instances
        await one.rig.add_provider_key()
        await one.rig.caught_up()
        assert (await one.rig.chat()).status == 200
        one.database.refuse()
        assert (await one.rig.chat()).status == 200
        assert await _until_said(one.rig, "ledger", "failing") == 200
        assert (await _ready(one.rig))[1]["journal_bytes"] > 0
        one.database.mend()
        assert await _until_said(one.rig, "ledger", "ok") == 200


@pytest.mark.parametrize("shares", [True, False])
async def test_counters_is_told_and_instances_stay_ready(tmp_path: Path, shares: bool):
    way = "share" if shares else "refuse"
    async with start_cluster(tmp_path, 1, valkey_away=way) as cluster:
        assert await _until_said(cluster.rigs[0], "counters", "valkey$") == 200
        await _limited_call(cluster)
        cluster.instances[0].valkey.refuse()
        await _limited_call(cluster)
        words = "1/1 of each limit here" if shares else "calls of limited accounts are refused"
        assert await _until_said(cluster.rigs[0], "counters", f"valkey is away: {words}$") == 200
        cluster.instances[0].valkey.mend()
        assert await _until_said(cluster.rigs[0], "counters", "valkey$") == 200


async def _limited_call(cluster: Cluster) -> None:
    made = await cluster.rigs[0].add_account(
        f"a{os.urandom(3).hex()}", rules={"limits": {"rpd": 9}}
    )
    await cluster.rigs[0].add_provider_key(name=f"k{os.urandom(3).hex()}")
    await cluster.rigs[0].chat(key=made["api_key"])


async def test_bus_is_told_and_instances_stay_ready(rig: Rig, tmp_path: Path):
    assert await _until_said(rig, "bus", "none: one instance$") == 200
    async with start_cluster(tmp_path / "two", 2) as cluster:
        assert await _until_said(cluster.rigs[0], "bus", "1 other instances") == 200
        cluster.instances[0].valkey.refuse()
        assert await _until_said(cluster.rigs[0], "bus", "away") == 200
        cluster.instances[0].valkey.mend()
        assert await _until_said(cluster.rigs[0], "bus", "1 other instances") == 200


@pytest.mark.parametrize("number", [28, 5, 24])
async def test_journal_is_not_ready_when_its_last_write_failed_until_one_succeeds(
    rig: Rig, number: int
):
    await rig.add_provider_key()
    assert (await rig.chat()).status == 200
    assert (await _ready(rig))[1]["journal"] == "ok"

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(number, os.strerror(number))

    rig.house.journal._write = full
    assert (await rig.chat()).code == "ledger_unavailable"
    status, said = await _ready(rig)
    assert (status, said["journal"]) == (503, f"cannot be written: {os.strerror(number)}")
    # No call comes any more, since the instance is not ready: it finds out by itself.
    size = rig.house.journal.size
    rig.house.journal._write = os.write
    assert await _until_said(rig, "journal", "ok") == 200
    assert rig.house.journal.size <= size
    assert (await rig.chat()).status == 200
    assert len(await rig.records(expect=3)) == 3


async def test_journal_is_not_ready_when_it_cannot_be_forced_to_disk(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    """And no call begins: one that the power takes would be lost."""
    await rig.add_provider_key()
    real = os.fdatasync

    def broken(descriptor: int) -> None:
        raise OSError(5, os.strerror(5))

    assert (await rig.chat()).status == 200
    monkeypatch.setattr(os, "fdatasync", broken)
    rig.house.journal._sync()
    assert await _until_said(rig, "journal", "cannot be forced to disk: Input/output") == 503
    for _ in range(3):
        assert (await rig.chat()).code == "ledger_unavailable"
    monkeypatch.setattr(os, "fdatasync", real)
    # Without calls, and without anybody who looks.
    await until(lambda: not rig.house.journal.refusal)
    assert await _until_said(rig, "journal", "ok") == 200
    assert (await rig.chat()).status == 200
    assert len(await rig.records(expect=2)) == 2


async def test_journal_is_ready_and_says_that_stored_segments_cannot_be_removed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    await rig.add_provider_key()
    real = os.unlink

    def broken(path: Any, **named: Any) -> None:
        if str(path).endswith(".log"):
            raise OSError(5, os.strerror(5))
        real(path, **named)

    monkeypatch.setattr(os, "unlink", broken)
    assert (await rig.chat()).status == 200
    rig.house.journal._next_segment()
    await rig.house.drain.drain()
    words = "stored segments cannot be removed: Input/output error"
    assert await _until_said(rig, "journal", words) == 200
    monkeypatch.setattr(os, "unlink", real)
    assert await _until_said(rig, "journal", "ok") == 200
    assert (await rig.chat()).status == 200


@pytest.mark.own_rig(journal_max_bytes=1 << 20)
async def test_journal_is_not_ready_when_it_is_full(rig: Rig):
    rig.house.drain.drain = asyncio.sleep  # type: ignore[assignment,method-assign]
    rig.house.journal._segments[-1].size = 1 << 20
    status, said = await _ready(rig)
    assert (status, said["journal"]) == (503, "full")
    rig.house.journal._segments[-1].size = 0
    assert (await _ready(rig))[0] == 200
    del rig.house.drain.drain


async def test_damage_is_told_until_the_file_is_gone_and_calls_go_on(rig: Rig):
    assert (await _ready(rig))[1]["damage"] == "none"
    folder = rig.house.settings.data_dir / "journal" / "inst_dead"
    folder.mkdir()
    (folder / "00000001.log").write_bytes(b"\x01" * 99)
    await rig.house.adoption.adopt()
    status, said = await _ready(rig)
    assert (status, said["damage"]) == (200, "1 journal files set aside")
    (folder / "00000001.damaged").unlink()
    await rig.house.adoption.adopt()
    assert (await _ready(rig))[1]["damage"] == "none"
    assert not folder.exists()


async def test_adoption_is_not_ready_until_an_earlier_journal_is_stored_while_health_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Calls with limits wait for it, and count what was in it; the others go on."""
    first = await start_rig(tmp_path)
    await first.add_provider_key()
    key = (await first.add_account(rules={"limits": {"rpd": 2}}))["api_key"]
    answered = await first.chat(key=key)
    [stored] = await first.records(expect=1)
    first.is_beside = True
    await first.stop()
    folder = tmp_path / "journal" / "inst_dead"
    folder.mkdir(parents=True)
    used = record(
        call_id="call_lost",
        owner_id=first.owner_id,
        account_id=stored["account_id"],
        started_at_ms=now_ms(),
        outcome="completed",
        attempts=1,
    )
    (folder / "00000001.log").write_bytes(encode(Finish(used)))
    goes_on, store = asyncio.Event(), Drain.store

    async def slow(drain: Drain, records: Any, settlements: Any = ()) -> Any:
        if any(one.call_id == "call_lost" for one in records):
            await goes_on.wait()
        return await store(drain, records, settlements)

    monkeypatch.setattr(Drain, "store", slow)
    monkeypatch.setattr("xairouter.app.START_SECONDS", 0.0)
    monkeypatch.setattr("xairouter.ledger.adoption.WAIT_SECONDS", 0.0)
    rig = await start_rig(tmp_path, beside=first)
    try:
        assert answered.status == 200
        assert (await rig.ask("GET", "/healthz", key=None)).status == 200
        assert await _until_said(rig, "adoption", "0 of 0 MB of inst_dead") == 503
        assert (await rig.chat()).status == 200
        refused = await rig.chat(key=key)
        assert (refused.status, refused.code) == (503, "storage_unavailable")
        goes_on.set()
        assert await _until_said(rig, "adoption", "done") == 200
        assert (await rig.chat(key=key)).code == "rate_limited"
        assert not folder.exists()
    finally:
        goes_on.set()
        await rig.stop()
        await first.standin.stop()


async def test_draining_is_not_ready(rig: Rig):
    assert (await _ready(rig))[1]["draining"] is False
    rig.house.running.is_leaving = True
    status, said = await _ready(rig)
    assert (status, said["draining"]) == (503, True)
