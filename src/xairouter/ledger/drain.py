"""From the journal into storage (what dead processes left there: ``adoption.py``).

One transaction a batch: records inserted where they are not there yet, roll-ups and chains raised
by the inserted ones only. So a crash at any point repeats work and never doubles it.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence

from xairouter.accounting.cost import UNKNOWN
from xairouter.accounting.counts import settled as settled_by
from xairouter.clock import fresh_id, now_ms, pause
from xairouter.domain.notices import Notice, Occasion
from xairouter.domain.records import Settlement, UsageRecord, UsageSource
from xairouter.errors import StorageError
from xairouter.ledger.book import Book, key_of
from xairouter.observe import log
from xairouter.storage.database import Database
from xairouter.storage.notices import raise_all
from xairouter.storage.records import ObjectRow, insert_all, insert_objects
from xairouter.storage.settling import Price, Settled, kept_for, settle_all

BATCH = 500
EVERY_SECONDS = 0.2
_LONGEST_WAIT = 5.0
_OBJECT_DIALECTS = frozenset({"openai_responses"})


class Drain:
    """Moves finished records into storage; ``run`` until told to stop."""

    def __init__(self, book: Book, database: Database) -> None:
        self._book = book
        self._database = database
        self._storing = asyncio.Lock()
        self.is_failing = False
        self.on_adopted: Callable[[Sequence[UsageRecord]], None] | None = None
        self.price: Callable[[UsageRecord], Awaitable[UsageRecord]] | None = None
        """Gives a record that was never finished the cost of what is known of it."""
        self.settle_price: Price = _unpriced
        """Gives a record what settles it, with its cost."""
        self.on_settled: Callable[[Sequence[Settled]], Awaitable[None]] | None = None
        """Is told what was settled, before the journal forgets what settled it."""
        self._telling: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Drain every 0.2 s; storage errors are waited out with growing pauses and lose nothing."""
        wait_seconds = EVERY_SECONDS
        while not stop.is_set():
            await pause(stop, wait_seconds)
            try:
                await self.drain()
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
        while True:
            records = self._book.take_finished(BATCH)
            settlements = self._book.take_settlements(BATCH)
            if not records and not settlements:
                break
            settled, stored = list[Settled](), False
            try:
                settled = await self.store(records, settlements)
                stored = True
            finally:
                if not stored:
                    self._book.put_back(records, settlements)
            self._book.journal.drained({record.call_id for record in records})
            if settled or settlements:
                # To its end, whoever waits for it: a request that asked for this may be given up.
                telling = asyncio.create_task(self._tell(settled, settlements))
                self._telling.add(telling)
                telling.add_done_callback(self._telling.discard)
                await asyncio.shield(telling)
        self._book.journal.drained(set())

    async def _tell(self, settled: Sequence[Settled], settlements: Sequence[Settlement]) -> None:
        try:
            if settled and self.on_settled is not None:
                await self.on_settled(settled)
        finally:
            self._book.journal.drained({key_of(one) for one in settlements})

    async def flush(self, seconds: float) -> None:
        """At shutdown: try for a while; what does not get through stays in the journal."""
        try:
            async with asyncio.timeout(seconds):
                await self.drain()
        except (StorageError, TimeoutError) as error:
            log.warning("drain_left_for_next_start", reason=str(error))

    async def _bind(self, records: Sequence[UsageRecord]) -> None:
        objects, is_bound = objects_of(records), False
        if not objects:
            return
        try:
            async with self._database.write() as connection:
                await insert_objects(connection, objects)
            is_bound = True
        finally:
            if not is_bound:
                self._book.put_back(bound=records)

    async def store(
        self, records: Sequence[UsageRecord], settlements: Sequence[Settlement] = ()
    ) -> list[Settled]:
        """Records and what settles them or others, in one transaction; what was settled."""
        chance = secrets.token_bytes
        async with self._database.write() as connection:
            fresh = await insert_all(connection, records, objects_of(records), chance)
            due = [*await kept_for(connection, fresh), *settlements]
            settled = await settle_all(connection, due, self.settle_price, chance)
            changed = [one.after for one in settled if one.before is not None]
            occasions = occasions_of([*fresh, *changed])
            await raise_all(connection, occasions, now_ms=now_ms(), new_id=fresh_id)
        return settled

    async def tell(
        self, occasions: Sequence[Occasion], *, now_ms: int, new_id: Callable[[str], str]
    ) -> None:
        """Raise notices of what persons should know."""
        async with self._database.write() as connection:
            await raise_all(connection, occasions, now_ms=now_ms, new_id=new_id)


def objects_of(records: Sequence[UsageRecord]) -> list[ObjectRow]:
    """Provider objects that these calls made: each reply, and what it keeps beside itself."""
    return [
        ObjectRow(
            record.owner_id,
            object_id,
            record.account_id,
            record.provider_key_id,
            record.dialect,
            record.started_at_ms,
            record.call_id if _awaits_end(record, object_id) else None,
        )
        for record in records
        if record.provider_key_id is not None
        for object_id in (
            record.provider_object_id if record.dialect in _OBJECT_DIALECTS else None,
            *(record.object_parts or ()),
        )
        if object_id is not None
    ]


def _awaits_end(record: UsageRecord, object_id: str) -> bool:
    """Whether the end of an object, seen by a later call, settles the record of the one that made it."""
    is_open = record.background and record.usage_source != UsageSource.REPORTED
    return is_open and object_id == record.provider_object_id


async def _unpriced(record: UsageRecord, settlement: Settlement) -> UsageRecord:
    return settled_by(record, settlement.usage, UNKNOWN, None)


def occasions_of(records: Sequence[UsageRecord]) -> list[Occasion]:
    """What a person should know of these calls: models whose price nobody knows."""
    unpriced = {
        (record.owner_id, record.model_used or record.model_asked)
        for record in records
        if record.cost_nano is None and record.usage_source == UsageSource.REPORTED
    }
    return [
        Occasion(owner_id, Notice.PRICE_UNKNOWN, model, {"model": model[:256]})
        for owner_id, model in sorted((o, m) for o, m in unpriced if m is not None)
    ]
