"""The journal's folder: one write a turn, torn writes cut off, segments that go when drained."""

import asyncio
import errno
import os
from pathlib import Path

import pytest

from tests.unit.ledger.test_frames import record
from xairouter.errors import LedgerError
from xairouter.ledger import journal as journal_module
from xairouter.ledger.folders import left_behind, read_folder
from xairouter.ledger.frames import Begin, Finish
from xairouter.ledger.journal import Journal


def _journal(folder: Path, **options) -> Journal:
    return Journal(folder, max_bytes=1 << 30, sync_ms=0, **options)


async def test_frames_of_one_turn_share_a_write(tmp_path: Path):
    writes = []

    def write(descriptor: int, data: bytes) -> int:
        writes.append(len(data))
        return os.write(descriptor, data)

    journal = _journal(tmp_path / "j", write=write)
    await asyncio.gather(
        *(journal.append(f"c{n}", Begin(record(call_id=f"c{n}"))) for n in range(50))
    )
    assert len(writes) == 1
    assert len(read_folder(tmp_path / "j").records()) == 50
    await journal.close()


async def test_a_frame_is_on_disk_before_the_caller_goes_on(tmp_path: Path):
    journal = _journal(tmp_path / "j")
    await journal.append("call_1", Begin(record()))
    assert [r.call_id for r in read_folder(tmp_path / "j").records()] == ["call_1"]
    await journal.close()


async def test_what_nobody_waits_for_is_written_before_what_somebody_does(tmp_path: Path):
    journal = _journal(tmp_path / "j")
    journal.add("call_1", Begin(record()))
    await journal.append("call_2", Begin(record(call_id="call_2")))
    assert [r.call_id for r in read_folder(tmp_path / "j").records()] == ["call_1", "call_2"]
    journal.add("call_3", Begin(record(call_id="call_3")))
    await journal.close()
    assert len(read_folder(tmp_path / "j").records()) == 3


async def test_a_torn_write_is_cut_off_and_told(tmp_path: Path):
    state = {"fail": False}

    def write(descriptor: int, data: bytes) -> int:
        if state["fail"]:
            os.write(descriptor, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        return os.write(descriptor, data)

    journal = _journal(tmp_path / "j", write=write)
    await journal.append("a", Begin(record(call_id="a")))
    state["fail"] = True
    with pytest.raises(LedgerError, match="No space"):
        await journal.append("b", Begin(record(call_id="b")))
    journal.add("b", Finish(record(call_id="b")))
    await asyncio.sleep(0.01)
    state["fail"] = False
    await journal.append("c", Begin(record(call_id="c")))
    assert [r.call_id for r in read_folder(tmp_path / "j").records()] == ["a", "c"]
    await journal.close()


async def test_segments_go_when_every_call_in_them_is_drained(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES", 400)
    journal = _journal(tmp_path / "j")
    for n in range(12):
        await journal.append(f"c{n}", Begin(record(call_id=f"c{n}")))
    assert len(list((tmp_path / "j").glob("*.log"))) > 3
    journal.drained({f"c{n}" for n in range(1, 12)})
    kept = {r.call_id for r in read_folder(tmp_path / "j").records()}
    assert "c0" in kept
    journal.drained({"c0"})
    assert read_folder(tmp_path / "j").records() == []
    assert journal.size == 0
    await journal.close()
    assert not (tmp_path / "j").exists()


async def test_a_living_process_s_folder_is_not_adopted_and_a_dead_one_s_is(tmp_path: Path):
    living = _journal(tmp_path / "living")
    (tmp_path / "dead").mkdir()
    own = _journal(tmp_path / "own")
    assert [folder.name for folder, _ in left_behind(tmp_path, own.folder)] == ["dead"]
    with pytest.raises(LedgerError, match="in use"):
        _journal(tmp_path / "living")
    await living.close()
    await own.close()


async def test_the_limit_is_seen(tmp_path: Path):
    journal = Journal(tmp_path / "j", max_bytes=100, sync_ms=0)
    assert journal.has_room
    await journal.append("a", Begin(record(call_id="a")))
    assert not journal.has_room
    await journal.close()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EMFILE])
@pytest.mark.parametrize("name", ["open", "write", "ftruncate", "fsync", "fdatasync", "close"])
async def test_whatever_fails_in_a_flush_its_callers_get_an_answer_and_what_was_taken_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
):
    """Every system call of the journal fails for a while, around each rotation."""
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES", 400)
    monkeypatch.setattr(journal_module, "ROTATE_AGAIN_SECONDS", 0.0)
    real = getattr(os, name)
    failing = set()

    def fails(*arguments, **more):
        if "now" in failing:
            raise OSError(number, os.strerror(number))
        return real(*arguments, **more)

    def half(descriptor: int, data: bytes) -> int:
        """A torn write, where what follows it is to fail."""
        if "now" in failing and name == "ftruncate" and len(data) > 1:
            os.write(descriptor, data[: len(data) // 2])
            raise OSError(number, os.strerror(number))
        return os.write(descriptor, data)

    monkeypatch.setattr(os, name, fails)
    journal = _journal(tmp_path / "j", write=half)
    taken, refused = [], []
    for turn in range(40):
        failing.discard("now")
        if turn % 4 in (1, 2):
            failing.add("now")
        call_id = f"c{turn:02d}"
        try:
            async with asyncio.timeout(20):
                await journal.append(call_id, Begin(record(call_id=call_id)))
            taken.append(call_id)
        except LedgerError as error:
            refused.append(str(error))
    failing.clear()
    assert all(os.strerror(number) in sentence for sentence in refused)
    if name in ("open", "fsync", "fdatasync", "close"):
        assert not refused, "a call was refused although its segment could still be written"
    there = [one.call_id for one in read_folder(tmp_path / "j").records()]
    assert [call_id for call_id in there if call_id in taken] == taken
    assert len(list((tmp_path / "j").glob("*.log"))) > 3
    await journal.close()


async def test_a_failure_that_is_no_disks_answers_its_callers_too(tmp_path: Path):
    def broken(descriptor: int, data: bytes) -> int:
        raise RuntimeError("cannot start a thread")

    journal = _journal(tmp_path / "j", write=broken)
    told: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(str(context["exception"])))
    with pytest.raises(LedgerError, match="cannot be written"):
        await asyncio.wait_for(journal.append("a", Begin(record(call_id="a"))), 20)
    assert told == ["cannot start a thread"]
    loop.set_exception_handler(None)
    journal._write = os.write
    await journal.append("b", Begin(record(call_id="b")))
    assert [one.call_id for one in read_folder(tmp_path / "j").records()] == ["b"]
    await journal.close()
