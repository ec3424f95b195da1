"""Every system call of the journal fails, once or for long: it is noticed, said, and nothing that was
known to be on disk or could be written again is lost with the power."""

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.unit.ledger.disk import CALLS, ERRNOS, Disk
from tests.unit.ledger.test_frames import record
from tests.waiting import until
from xairouter.errors import LedgerError
from xairouter.ledger import journal as journal_module
from xairouter.ledger.book import Book
from xairouter.ledger.folders import read_folder
from xairouter.ledger.frames import Attempt, Begin, Finish
from xairouter.ledger.journal import Journal
from xairouter.observe import Metrics


def _attempt(call_id: str, number: int) -> Attempt:
    return Attempt(call_id, "pk_1", "openai", 1, "gpt", "openai_chat", 5, 0, number)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES", 700)
    monkeypatch.setattr(journal_module, "ROTATE_AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(journal_module, "LOOK_AGAIN_SECONDS", 0.002)


async def _call(journal: Journal, call_id: str) -> bool:
    """A call with two attempts; whether the journal took it."""
    try:
        await journal.append(call_id, Begin(record(call_id=call_id)))
        for number in (1, 2):
            await journal.append(call_id, _attempt(call_id, number))
    except LedgerError:
        return False
    return True


async def _is_safe(journal: Journal) -> None:
    """Wait until everything that was written is on disk."""

    async def safe() -> bool:
        journal._sync()
        journal.drained(set())
        is_held = any(segment.holds for segment in journal._segments)
        return not is_held and journal.look() == (True, "ok")

    await until(safe)


def _calls(folder: Path) -> dict[str, int]:
    """By call: how many attempts are known of."""
    return {one.call_id: one.attempts for one in read_folder(folder).records()}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("times", [1, 1 << 30], ids=["once", "lasting"])
@pytest.mark.parametrize("number", ERRNOS, ids=lambda number: os.strerror(number).split()[0])
@pytest.mark.parametrize("name", CALLS)
async def test_a_system_call_that_fails_is_noticed_and_what_was_taken_is_on_disk_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int, times: int
):
    disk = Disk(tmp_path / "j", monkeypatch)
    journal = Journal(tmp_path / "j", max_bytes=1 << 30, sync_ms=0, write=disk._write)
    book = Book(journal, Metrics(), lambda: 0.0)
    taken = {f"a{n}" for n in range(3) if await _call(journal, f"a{n}")}
    await _is_safe(journal)
    with capture_logs() as logs:
        disk.fail(name, number, times)
        turn = 0
        states = set()

        async def has_met_it() -> bool:
            nonlocal turn
            turn += 1
            if await _call(journal, f"b{turn}"):
                taken.add(f"b{turn}")
            journal.drained({f"b{turn - 4}"} if turn > 4 else set())
            states.add(journal.look())
            lasts = times > 1 and name in ("fsync", "fdatasync")
            refused = journal.refusal
            if refused and os.strerror(number) in refused:
                with pytest.raises(LedgerError, match=os.strerror(number)):
                    book.open(record(call_id="c"))
            return disk.failed > 0 and (not lasts or bool(refused)) and turn > 6

        await until(has_met_it)
        disk.mend()
        taken |= {f"d{n}" for n in range(3) if await _call(journal, f"d{n}")}
        await _is_safe(journal)
    said = [one for one in logs if os.strerror(number) == one.get("reason")]
    assert said, "the failure was not logged"
    assert all(one["file"].endswith(".log") for one in said)
    if name in ("fsync", "fdatasync") and times > 1:
        assert (False, f"cannot be forced to disk: {os.strerror(number)}") in states
    if name == "unlink" and times > 1:
        said_so = f"stored segments cannot be removed: {os.strerror(number)}"
        assert (True, said_so) in states
    there = _calls(disk.power_cut(tmp_path / "after"))
    stored = {f"b{n}" for n in range(turn)}
    assert taken - stored <= there.keys()
    assert {there[one] for one in taken - stored} == {2}
    disk.mend()
    await journal.close()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fails_times", [1, 2, 5])
async def test_pages_that_a_failed_fsync_dropped_are_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_times: int
):
    """The kernel says once that it could not write, and then that all is well."""
    disk = Disk(tmp_path / "j", monkeypatch)
    journal = Journal(tmp_path / "j", max_bytes=1 << 30, sync_ms=0, write=disk._write)
    assert await _call(journal, "a")
    await _is_safe(journal)
    disk.fail("fdatasync", 5, fails_times)
    for n in range(4):
        assert await _call(journal, f"b{n}")
    await _is_safe(journal)
    assert _calls(disk.power_cut(tmp_path / "cut")) == dict.fromkeys(
        ["a", "b0", "b1", "b2", "b3"], 2
    )
    # A process that dies now, or goes on, finds each call once and nothing damaged.
    assert _calls(tmp_path / "j") == dict.fromkeys(["a", "b0", "b1", "b2", "b3"], 2)
    assert len(list((tmp_path / "j").glob("*.log"))) < 8
    await journal.close()


@pytest.mark.usefixtures("quick")
async def test_what_is_written_again_keeps_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Segments behind the one that failed could be forced, while a call has frames in each."""
    disk = Disk(tmp_path / "j", monkeypatch)
    journal = Journal(tmp_path / "j", max_bytes=1 << 30, sync_ms=0, write=disk._write)
    disk.forces.clear()
    disk.fail("fdatasync", 5, 1)
    await journal.append("a", Begin(record(call_id="a")))
    for number in range(1, 9):
        await journal.append("a", _attempt("a", number))
        assert await _call(journal, f"b{number}")
    assert len(journal._segments) > 3
    disk.forces.set()
    await _is_safe(journal)
    expected = {"a": 8} | {f"b{number}": 2 for number in range(1, 9)}
    assert _calls(disk.power_cut(tmp_path / "cut")) == expected
    assert _calls(tmp_path / "j") == expected
    await journal.close()


@pytest.mark.usefixtures("quick")
async def test_a_lasting_failure_leaves_few_files_and_ends_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    disk = Disk(tmp_path / "j", monkeypatch)
    journal = Journal(tmp_path / "j", max_bytes=1 << 30, sync_ms=0, write=disk._write)
    disk.fail("fdatasync", 5)
    assert await _call(journal, "a")

    async def has_failed_often() -> bool:
        return disk.failed > 20

    await until(has_failed_often)
    assert len(list((tmp_path / "j").glob("*.log"))) <= 3
    # What runs goes on, and is stored: nothing of it needs to be held any more.
    journal.add("a", Finish(record(call_id="a", outcome="completed")))
    await _call(journal, "b")
    journal.drained({"a", "b"})
    assert not any(segment.holds for segment in journal._segments)
    disk.mend()

    async def is_over() -> bool:
        return not journal.refusal

    await until(is_over)
    await journal.close()
    assert not (tmp_path / "j").exists()


@pytest.mark.usefixtures("quick")
async def test_what_is_held_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journal_module, "MOST_HELD", 3000)
    monkeypatch.setattr(journal_module, "LOOK_AGAIN_SECONDS", 60.0)
    disk = Disk(tmp_path / "j", monkeypatch)
    journal = Journal(tmp_path / "j", max_bytes=1 << 30, sync_ms=0, write=disk._write)
    disk.fail("fdatasync", 5)
    for n in range(60):
        assert await _call(journal, f"c{n}")
        assert sum(segment.holds for segment in journal._segments) < 3000 + 1500
    disk.mend()
    journal._renew()
    await _is_safe(journal)
    # No file is cut of which not everything is held.
    assert _calls(tmp_path / "j") == {f"c{n}": 2 for n in range(60)}
    await journal.close()


@pytest.mark.usefixtures("quick")
async def test_a_journal_that_cannot_be_forced_closes_and_keeps_its_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    disk = Disk(tmp_path / "j", monkeypatch)
    journal = Journal(tmp_path / "j", max_bytes=1 << 30, sync_ms=0, write=disk._write)
    assert await _call(journal, "a")
    disk.fail("fdatasync", 5)
    await journal.close()
    assert _calls(tmp_path / "j") == {"a": 2}
