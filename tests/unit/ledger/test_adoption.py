"""Journals of dead processes: bounded memory, segments that go one by one, and deaths in between."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.servers import sqlite_database
from tests.unit.ledger.test_frames import record
from xairouter.errors import StorageError
from xairouter.ledger import adoption as adoption_module
from xairouter.ledger.adoption import Adoption
from xairouter.ledger.book import Book
from xairouter.ledger.drain import Drain
from xairouter.ledger.folders import read_folder
from xairouter.ledger.frames import Attempt, Begin, Finish, Frame, Recovery, encode
from xairouter.ledger.journal import Journal
from xairouter.observe import Metrics
from xairouter.storage.database import Database
from xairouter.storage.tables import usage_hours, usage_records

BATCH = 3
SEGMENTS, CALLS = 6, 5


class _Died(BaseException):
    """The process is gone."""


class _Place:
    """A database, a folder of journals, and who adopts."""

    def __init__(self, path: Path) -> None:
        sqlite_database(path / "xairouter.db")
        self.database = Database(f"sqlite:///{path / 'xairouter.db'}")
        self.folders = path / "journal"
        own = self.folders / "inst_own"
        self.journal = Journal(own, max_bytes=1 << 30, sync_ms=0)
        self.drain = Drain(Book(self.journal, Metrics(), lambda: 0.0), self.database)
        self.adoption = Adoption(self.drain, self.folders, own)

    def leave(self) -> Path:
        """A folder of a dead process: each segment has calls that ended, the first one a call that
        ends in the fourth, and the second one a call that never ends."""
        folder = self.folders / "inst_dead"
        folder.mkdir()
        for number in range(1, SEGMENTS + 1):
            frames: list[Frame] = []
            if number in (1, 2):
                frames.append(Begin(record(call_id=f"long{number}")))
                frames.append(_attempt(f"long{number}"))
            for place in range(CALLS):
                frames += _call(f"c{number}_{place}")
            if number == 4:
                frames.append(Finish(record(call_id="long1", outcome="completed", attempts=1)))
            data = b"".join(map(encode, frames))
            (folder / f"{number:08d}.log").write_bytes(data)
        return folder

    async def stored(self) -> dict[str, str]:
        async with self.database.read() as connection:
            rows = await connection.execute(sa.select(usage_records))
            found = {row.call_id: row.outcome for row in rows}
            counted = await connection.execute(sa.select(sa.func.sum(usage_hours.c.calls)))
            assert (counted.scalar() or 0) == len(found)
        return found

    async def close(self) -> None:
        await self.journal.close()
        await self.database.close()


def _attempt(call_id: str) -> Attempt:
    return Attempt(call_id, "pk_1", "openai", 1, "gpt", "openai_chat", 5, 0, 1)


def _call(call_id: str) -> list[Frame]:
    ended = record(call_id=call_id, outcome="completed", attempts=1)
    return [Begin(record(call_id=call_id)), _attempt(call_id), Finish(ended)]


EXPECTED = {
    f"c{number}_{place}": "completed" for number in range(1, SEGMENTS + 1) for place in range(CALLS)
} | {"long1": "completed", "long2": "interrupted"}


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[_Place]:
    monkeypatch.setattr(adoption_module, "BATCH", BATCH)
    monkeypatch.setattr(adoption_module, "_SLICE", 1)
    made = _Place(tmp_path)
    yield made
    await made.close()


async def test_calls_that_ended_are_not_held_beyond_a_batch(
    place: _Place, monkeypatch: pytest.MonkeyPatch
):
    place.leave()
    most, take = 0, Recovery.take

    def watched(self: Recovery, frame: Frame) -> None:
        nonlocal most
        take(self, frame)
        most = max(most, len(self._records) + len(self.settlements))

    monkeypatch.setattr(Recovery, "take", watched)
    assert await place.adoption.adopt() == len(EXPECTED)
    assert most <= BATCH + 2, "two calls are open at most"
    assert await place.stored() == EXPECTED
    assert not (place.folders / "inst_dead").exists()


async def test_a_segment_goes_when_it_and_those_before_it_are_stored(
    place: _Place, monkeypatch: pytest.MonkeyPatch
):
    folder = place.leave()
    seen, store = [], place.drain.store

    async def watched(*arguments):
        there = sorted(int(path.stem) for path in folder.glob("*.log"))
        # What is not stored yet can still be read.
        known = {one.call_id for one in read_folder(folder).records()}
        assert EXPECTED.keys() - (await place.stored()).keys() <= known
        seen.append(there[0])
        return await store(*arguments)

    monkeypatch.setattr(place.drain, "store", watched)
    await place.adoption.adopt()
    # The first goes when the call that began there has ended; the second holds one that never did.
    assert sorted(set(seen)) == [1, 2]
    assert seen == sorted(seen)


STORES = 14


@pytest.mark.parametrize("when", ["before", "after", "unlink"])
@pytest.mark.parametrize("at", range(1, STORES))
async def test_a_death_in_the_middle_loses_nothing_and_doubles_nothing(
    place: _Place, monkeypatch: pytest.MonkeyPatch, at: int, when: str
):
    place.leave()
    steps, store, unlink = 0, place.drain.store, os.unlink

    def dies(here: str) -> None:
        nonlocal steps
        steps += here == when
        if here == when and steps == at:
            raise _Died

    async def dying_store(*arguments):
        dies("before")
        found = await store(*arguments)
        dies("after")
        return found

    def dying_unlink(path, **named):
        if "inst_dead" in str(path):
            dies("unlink")
        unlink(path, **named)

    with monkeypatch.context() as dying:
        dying.setattr(place.drain, "store", dying_store)
        dying.setattr(os, "unlink", dying_unlink)
        try:
            await place.adoption.adopt()
        except _Died:
            pass
        else:
            assert steps < at, "it was to die"
    await place.adoption.adopt()
    assert await place.stored() == EXPECTED
    assert not (place.folders / "inst_dead").exists()


async def test_counters_wait_for_it_and_say_so(place: _Place, monkeypatch: pytest.MonkeyPatch):
    folder = place.leave()
    monkeypatch.setattr(adoption_module, "WAIT_SECONDS", 0.0)
    with pytest.raises(StorageError, match="an earlier journal is being read"):
        await Adoption(place.drain, place.folders, folder).flush()
    assert not place.adoption.is_done
    stop = asyncio.Event()
    running = asyncio.create_task(place.adoption.run(stop))
    assert await place.adoption.wait(60)
    assert place.adoption.state == "done"
    await place.adoption.flush()
    stop.set()
    await running
    assert await place.stored() == EXPECTED


@pytest.mark.parametrize("number", [5, 13])
async def test_a_journal_that_cannot_be_read_is_told_and_not_in_the_way_of_others(
    place: _Place, monkeypatch: pytest.MonkeyPatch, number: int
):
    folder = place.leave()
    other = place.folders / "inst_later"
    other.mkdir()
    (other / "00000001.log").write_bytes(b"".join(map(encode, _call("other"))))
    read = Path.read_bytes

    def broken(path: Path) -> bytes:
        if path.parent == folder and path.stem == "00000003":
            raise OSError(number, os.strerror(number), str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", broken)
    await place.adoption.adopt()
    assert place.adoption.state == f"failing: {os.strerror(number)}"
    assert "other" in await place.stored()
    monkeypatch.setattr(Path, "read_bytes", read)
    await place.adoption.adopt()
    assert await place.stored() == EXPECTED | {"other": "completed"}
