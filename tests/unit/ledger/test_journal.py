"""The journal's folder: one write a turn, torn writes cut off, segments that go when drained."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.unit.ledger.test_frames import record
from xairouter.errors import LedgerError
from xairouter.ledger import journal as journal_module
from xairouter.ledger.frames import Begin, Finish
from xairouter.ledger.journal import Journal, left_behind, read_folder


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
