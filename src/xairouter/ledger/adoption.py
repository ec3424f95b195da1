"""What dead processes left in their journals, stored by a living one: in the background, segment by
segment, while calls go on.

Held in memory are the calls of which no end was seen yet, and one batch of those that ended. A
segment is removed when what stands in it and before it is stored; so a process that dies in the
middle leaves the rest to the next one, and what is stored twice is counted once.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from xairouter.clock import fresh_id, now_ms, pause
from xairouter.domain.notices import Notice, Occasion
from xairouter.domain.records import Settlement, UsageRecord, UsageSource
from xairouter.errors import StorageError
from xairouter.ledger.drain import BATCH, Drain
from xairouter.ledger.folders import forget, left_behind, release_folder, segments_of
from xairouter.ledger.salvage import DAMAGED, Salvage, set_aside
from xairouter.observe import log
from xairouter.storage.settling import Settled

EVERY_SECONDS = 10.0
START_SECONDS = 2.0
"""How long a start waits for what is mostly a few calls, before it listens."""
WAIT_SECONDS = 5.0
"""How long a call waits that cannot be counted before."""
_AGAIN_SECONDS = 1.0
_SLICE = 100
"""Frames that are read without letting others run."""
_MOST_GAPS_LOGGED = 20
"""Of one segment; the doctor sums up all."""
_MEGABYTE = 1 << 20


class Adoption:
    """Adopts the journals in ``folders``, but for the one that is this process's ``own``."""

    def __init__(self, drain: Drain, folders: Path, own: Path) -> None:
        self._drain = drain
        self._folders = folders
        self._own = own
        self._done = asyncio.Event()
        self._stop = asyncio.Event()
        self._progress = ""
        self._failure = self._logged = ""

    @property
    def is_done(self) -> bool:
        """Whether what there was at the start is in the records."""
        return self._done.is_set()

    @property
    def state(self) -> str:
        """In words how far it is."""
        if self._failure:
            return f"failing: {self._failure}"
        return "done" if self.is_done else self._progress or "begins"

    @property
    def damage(self) -> str:
        """In words whether damaged segments are kept."""
        kept = len(set_aside(self._folders))
        return f"{kept} journal files set aside" if kept else "none"

    async def wait(self, seconds: float) -> bool:
        """Wait until it is done; whether it is."""
        if not self.is_done:
            try:
                async with asyncio.timeout(seconds):
                    await self._done.wait()
            except TimeoutError:
                return False
        return True

    async def flush(self) -> None:
        """Bring into the records what counters are to begin with; raises StorageError where that is
        not possible now."""
        if not await self.wait(WAIT_SECONDS):
            raise StorageError("What was used is not known yet: an earlier journal is being read.")
        await self._drain.drain()

    async def run(self, stop: asyncio.Event) -> None:
        """Adopt at once, and every ten seconds; storage errors are waited out."""
        self._stop = stop
        while not stop.is_set():
            wait_seconds = EVERY_SECONDS
            try:
                await self.adopt()
                if not stop.is_set():
                    self._done.set()
            except Exception as error:  # noqa: BLE001 -- a background loop outlives every failure
                wait_seconds = _AGAIN_SECONDS
                public = error.public if isinstance(error, StorageError) else str(error)
                self._failed(str(error), "", public)
            await pause(stop, wait_seconds)

    async def adopt(self) -> int:
        """Store what journals of dead processes hold; returns how many records that were. A journal
        that cannot be read, or removed, is told and not in the way of the others."""
        count, failure = 0, ""
        for folder, lock in left_behind(self._folders, self._own):
            try:
                try:
                    count += await self._adopt(folder)
                finally:
                    release_folder(folder, lock)
            except OSError as error:
                failure = error.strerror or str(error)
                self._failed(failure, str(error.filename or folder), failure)
        self._logged = self._failure = failure
        return count

    def _failed(self, reason: str, file: str, public: str) -> None:
        """Log a reason where it is another than before; anybody may read what is ``public`` of it."""
        if reason != self._logged:
            log.error("journal_adoption_failed", file=file, reason=reason)
        self._logged, self._failure = reason, public

    async def _adopt(self, folder: Path) -> int:
        segments = segments_of(folder)
        paths = [path for path, _ in segments]
        whole, done = sum(size for _, size in segments), 0
        salvage, count = Salvage(), 0
        begun: dict[str, int] = {}
        for place, path in enumerate(paths):
            self._progress = f"{done // _MEGABYTE} of {whole // _MEGABYTE} MB of {folder.name}"
            data = await asyncio.to_thread(path.read_bytes)
            done += len(data)
            for number, frame in enumerate(salvage.frames(path.name, data)):
                salvage.recovery.take(frame)
                if salvage.recovery.is_full(BATCH):
                    count += await self._store_ended(salvage)
                elif number % _SLICE == 0:
                    await asyncio.sleep(0)
                if self._stop.is_set():
                    return count
            count += await self._store_ended(salvage)
            is_open = salvage.recovery.open_calls()
            begun = {call_id: begun.get(call_id, place) for call_id in is_open}
            # Damaged ones stay until all is told.
            stored = paths[: min(begun.values(), default=place + 1)]
            forget([one for one in stored if one.name not in salvage.damaged])
        harmed = salvage.harmed()
        rest = [await self._priced(one) for one in salvage.recovery.take_open()]
        for start in range(0, len(rest), BATCH):
            count += await self._store(rest[start : start + BATCH], ())
        await self._store((), salvage.recovery.take_settlements())
        await self._tell_of_damage(folder, salvage, harmed)
        forget(paths, salvage.damaged)
        if count:
            log.info("journal_adopted", folder=folder.name, records=count)
        return count

    async def _store_ended(self, salvage: Salvage) -> int:
        ended = salvage.recovery.take_ended()
        settlements = salvage.recovery.take_settlements()
        return await self._store([await self._priced(one) for one in ended], settlements)

    async def _store(
        self, records: Sequence[UsageRecord], settlements: Sequence[Settlement]
    ) -> int:
        if not records and not settlements:
            return 0
        settled = await self._drain.store(records, settlements)
        if self._drain.on_adopted is not None:
            self._drain.on_adopted(records)
        if settled and self._drain.on_settled is not None:
            # What the dead process had counted of it is not known.
            await self._drain.on_settled([Settled(one.after) for one in settled])
        return len(records)

    async def _priced(self, record: UsageRecord) -> UsageRecord:
        is_open = record.usage_source == UsageSource.ESTIMATED and record.cost_nano is None
        price = self._drain.price
        return await price(record) if is_open and price is not None else record

    async def _tell_of_damage(
        self, folder: Path, salvage: Salvage, harmed: Sequence[UsageRecord]
    ) -> None:
        """Log what of a journal was torn or damaged, and raise a notice for what may be lost."""
        for name, gaps in salvage.gaps.items():
            for gap in gaps[:_MOST_GAPS_LOGGED]:
                say = log.error if gap.what == DAMAGED else log.warning
                file = f"{folder.name}/{name}"
                say(f"journal_{gap.what}", file=file, offset=gap.at, bytes=gap.size)
        occasions = damage_occasions(folder.name, salvage, harmed)
        if occasions:
            await self._drain.tell(occasions, now_ms=now_ms(), new_id=fresh_id)


def damage_occasions(
    folder: str, salvage: Salvage, harmed: Sequence[UsageRecord]
) -> list[Occasion]:
    """What the operator, and the owners of calls that were hit, should know of a damaged journal."""
    occasions = [
        Occasion(
            "",
            Notice.JOURNAL_DAMAGED,
            f"{folder}/{name}",
            {
                "file": f"{folder}/{name}",
                "offset": gaps[0].at,
                "bytes": sum(gap.size for gap in gaps),
            },
        )
        for name, gaps in salvage.damaged.items()
    ]
    calls = Counter(record.owner_id for record in harmed)
    occasions += [
        Occasion(owner_id, Notice.USAGE_DAMAGED, folder, {"calls": count})
        for owner_id, count in sorted(calls.items())
    ]
    return occasions
