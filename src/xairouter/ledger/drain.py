"""From the journal into storage, and the recovery of journals that a dead process left behind.

One transaction a batch: records inserted where they are not there yet, roll-ups and chains raised
by the inserted ones only. So a crash at any point repeats work and never doubles it.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from xairouter.clock import fresh_id, now_ms, pause
from xairouter.domain.notices import PRICE_UNKNOWN, Occasion
from xairouter.domain.records import REPORTED, UsageRecord
from xairouter.errors import StorageError
from xairouter.ledger.book import Book
from xairouter.ledger.journal import left_behind, read_folder, release_folder
from xairouter.observe import log
from xairouter.storage.database import Database
from xairouter.storage.notices import raise_all
from xairouter.storage.records import ObjectRow, insert_all, insert_objects

BATCH = 500
EVERY_SECONDS = 0.2
ADOPT_EVERY_SECONDS = 10.0
_LONGEST_WAIT = 5.0
_OBJECT_DIALECTS = frozenset({"openai_responses"})


class Drain:
    """Moves finished records into storage; ``run`` until told to stop."""

    def __init__(self, book: Book, database: Database, folders: Path) -> None:
        self._book = book
        self._database = database
        self._folders = folders
        self._storing = asyncio.Lock()
        self.is_failing = False
        self.on_adopted: Callable[[Sequence[UsageRecord]], None] | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Drain every 0.2 s and adopt abandoned journals every 10 s; storage errors are waited
        out with growing pauses and lose nothing."""
        wait_seconds, adopt_in = EVERY_SECONDS, ADOPT_EVERY_SECONDS
        while not stop.is_set():
            await pause(stop, wait_seconds)
            try:
                await self.drain()
                adopt_in -= wait_seconds
                if adopt_in <= 0:
                    adopt_in = ADOPT_EVERY_SECONDS
                    await self.adopt()
                wait_seconds, self.is_failing = EVERY_SECONDS, False
            except Exception as error:  # noqa: BLE001 -- a background loop outlives every failure
                self._book.metrics.drain_failures.inc()
                self.is_failing = True
                wait_seconds = min(_LONGEST_WAIT, wait_seconds * 2)
                log.warning("drain_failed", reason=str(error), again_in=wait_seconds)

    async def drain(self) -> None:
        """Store everything that is finished; raises StorageError when the database is away.

        When it returns, what had finished before is stored, whoever was storing it.
        """
        async with self._storing:
            await self._drain()

    async def _drain(self) -> None:
        await self._bind(self._book.take_bound())
        while records := self._book.take_finished(BATCH):
            stored = False
            try:
                await self._store(records)
                stored = True
            finally:
                if not stored:
                    self._book.put_back(records)
            self._book.journal.drained({record.call_id for record in records})
        self._book.metrics.journal.set(self._book.journal.size)

    async def adopt(self) -> int:
        """Store what journals of dead processes hold; returns how many records that were."""
        count = 0
        for folder, lock in left_behind(self._folders, self._book.journal.folder):
            try:
                records = read_folder(folder).records()
                for start in range(0, len(records), BATCH):
                    await self._store(records[start : start + BATCH])
                if self.on_adopted is not None:
                    self.on_adopted(records)
                for path in folder.glob("*.log"):
                    path.unlink()
                count += len(records)
                if records:
                    log.info("journal_adopted", folder=folder.name, records=len(records))
            finally:
                release_folder(folder, lock)
        return count

    async def flush(self, seconds: float) -> None:
        """At shutdown: try for a while; what does not get through stays in the journal."""
        try:
            async with asyncio.timeout(seconds):
                await self.drain()
        except (StorageError, TimeoutError) as error:
            log.warning("drain_left_for_next_start", reason=str(error))

    async def _bind(self, records: Sequence[UsageRecord]) -> None:
        objects = objects_of(records)
        if objects:
            async with self._database.write() as connection:
                await insert_objects(connection, objects)

    async def _store(self, records: Sequence[UsageRecord]) -> None:
        async with self._database.write() as connection:
            fresh = await insert_all(connection, records, objects_of(records), secrets.token_bytes)
            await raise_all(connection, occasions_of(fresh), now_ms=now_ms(), new_id=fresh_id)


def objects_of(records: Sequence[UsageRecord]) -> list[ObjectRow]:
    """Provider objects that these calls made."""
    return [
        ObjectRow(
            record.owner_id,
            record.provider_object_id,
            record.account_id,
            record.provider_key_id,
            record.dialect,
            record.started_at_ms,
        )
        for record in records
        if record.provider_object_id is not None
        and record.provider_key_id is not None
        and record.dialect in _OBJECT_DIALECTS
    ]


def occasions_of(records: Sequence[UsageRecord]) -> list[Occasion]:
    """What a person should know of these calls: models whose price nobody knows."""
    unpriced = {
        (record.owner_id, record.model_used or record.model_asked)
        for record in records
        if record.cost_nano is None and record.usage_source == REPORTED
    }
    return [
        Occasion(owner_id, PRICE_UNKNOWN, model, {"model": model[:256]})
        for owner_id, model in sorted((o, m) for o, m in unpriced if m is not None)
    ]
