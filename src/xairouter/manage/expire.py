"""What ends by itself: slots of expired keys and codes, and records past their days.

Whoever's time is over by the clock is refused at once. What cannot be undone waits until the clock may
be believed (``sureness``), and a slot for two days more: a clock that is wrong for a while, ahead by
however much, destroys nothing. Console sessions alone go at once; one signs in again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from xairouter.clock import format_id, made_at_ms, now_ms, pause
from xairouter.custody.vault import OpenVault, audit_mac
from xairouter.directory.directory import Directory
from xairouter.domain.permissions import ActedBy, SystemChange
from xairouter.domain.slots import AHEAD_MS, LIVES_MS, SlotPurpose
from xairouter.manage.desk import OperationEntry, write_operation
from xairouter.manage.sessions import end_sessions
from xairouter.manage.sureness import Sureness
from xairouter.observe import log
from xairouter.storage import changes, keys, notices, owners, pruning, records
from xairouter.storage.database import Database

EVERY_SECONDS = 20.0
DAY_MS = 86_400_000
SLOT_KEPT_MS = 2 * DAY_MS
"""For so long an expired slot opens nothing, and is still there."""
FORGET_EVERY_SECONDS = 3600.0
KEPT_CHANGES = 100_000
KEPT_NOTICES = 5_000
"""Dismissed notices of an owner; a tenant can make them without end."""
SLICE = 1000
"""Rows that go in one transaction."""


async def expire(
    database: Database, directory: Directory, before_ms: int, purpose: SlotPurpose | None = None
) -> int:
    """Remove every slot, or those of a purpose, whose time was over by then, and where a purpose has a
    longest life, those that would live longer; returns how many."""
    life_ms = None if purpose is None else LIVES_MS.get(purpose)
    latest_ms = None if life_ms is None else before_ms + life_ms + AHEAD_MS
    async with database.read() as connection:
        if not await keys.expired_slots(connection, before_ms, purpose, latest_ms):
            return 0
    async with database.write() as connection:
        slots = await keys.expired_slots(connection, before_ms, purpose, latest_ms)
        for slot in slots:
            await end_sessions(connection, slot.owner_id, [slot])
            await keys.drop_slots(connection, slot.owner_id, [slot.id])
            await changes.announce(connection, slot.owner_id, SystemChange.SLOT_EXPIRED, slot.id)
            await write_operation(
                connection,
                OperationEntry(
                    owner_id=slot.owner_id,
                    actor=ActedBy.EXPIRY,
                    verb=SystemChange.SLOT_EXPIRED,
                    target_id=slot.id,
                ),
            )
    await database.forget_deleted()
    for owner_id in {slot.owner_id for slot in slots}:
        await directory.changed(owner_id)
    return len(slots)


async def forget_old(database: Database, now: int, most_objects: int | None = None) -> int:
    """Delete usage records past their owner's ``record_days``, the bindings of provider objects that
    those calls made, or that are more than an owner may have, and changes that every instance has
    read; returns how many records. Roll-ups and the chain's hashes stay."""
    async with database.write() as connection:
        kept = await owners.record_days(connection)
        for owner_id, days in kept:
            await notices.delete_before(connection, owner_id, now - days * DAY_MS)
            await notices.delete_beyond(connection, owner_id, KEPT_NOTICES)
        await changes.trim(connection, KEPT_CHANGES)
    forgotten = 0
    for owner_id, days in kept:
        before_ms = now - days * DAY_MS
        forgotten += await _in_slices(database, owner_id, before_ms, records.delete_before)
        await _in_slices(database, owner_id, before_ms, records.forget_objects)
        await _forget_objects_beyond(database, owner_id, most_objects)
    return forgotten


async def _forget_objects_beyond(database: Database, owner_id: str, most: int | None) -> None:
    """Let go of an owner's oldest provider objects where there are more than so many."""
    if most is None:
        return
    async with database.read() as connection:
        newest_ms = await records.newest_object_beyond(connection, owner_id, most)
    if newest_ms is not None:
        await _in_slices(database, owner_id, newest_ms + 1, records.forget_objects)


async def prune_chains(
    database: Database, now: int, vault_at_hand: Callable[[str], OpenVault | None]
) -> int:
    """Prune the entries of forgotten records from the beginnings of hash chains, where the owner's vault
    is at hand to sign where the chain begins then; returns how many entries that concerned."""
    pruned = 0
    async with database.read() as connection:
        kept = await owners.record_days(connection)
    for owner_id, days in kept:
        vault, looked = vault_at_hand(owner_id), SLICE
        while vault is not None and looked == SLICE:
            async with database.write(owner_id) as connection:
                looked = await pruning.prune(
                    connection,
                    pruning.Due(owner_id, format_id("call", now - days * DAY_MS, 0), now),
                    partial(audit_mac, vault),
                    SLICE,
                )
            pruned += looked
            await asyncio.sleep(0)
    return pruned


Forget = Callable[..., Awaitable[int]]
"""By connection, owner, instant and how many at most: how many that were."""


async def _in_slices(database: Database, owner_id: str, before_ms: int, forget: Forget) -> int:
    """Forget all there is, in slices between which others write."""
    forgotten, gone = 0, SLICE
    while gone == SLICE:
        async with database.write(owner_id) as connection:
            gone = await forget(connection, owner_id, before_ms, SLICE)
        forgotten += gone
        await asyncio.sleep(0)
    return forgotten


class Expiry:
    """Looks at the clock and at what is due; destroys that once the clock may be believed."""

    def __init__(
        self,
        database: Database,
        directory: Directory,
        *,
        wall_ms: Callable[[], int] = now_ms,
        seconds: Callable[[], float],
        vault_at_hand: Callable[[str], OpenVault | None] = lambda _: None,
        most_objects: int | None = None,
    ) -> None:
        self._vault_at_hand = vault_at_hand
        self._most_objects = most_objects
        self._database = database
        self._directory = directory
        self._wall_ms = wall_ms
        self._seconds = seconds
        self._sureness = Sureness()
        self._forget_at = seconds()

    async def look(self) -> None:
        """One reading of the clock, and what follows from it."""
        wall, seconds = self._wall_ms(), self._seconds()
        step = self._sureness.look(wall, seconds)
        if step is not None:
            log.warning("clock_jumped", seconds=round(step))
            self._forget_at = seconds
        if self._sureness.evidence_due:
            self._sureness.compare(wall, await self._newest_of_the_day_before(wall))
        await expire(self._database, self._directory, wall, SlotPurpose.SESSION)
        await self._database.forget_left()
        doubt = self._sureness.doubt(seconds)
        if seconds >= self._forget_at:
            self._forget_at = seconds + FORGET_EVERY_SECONDS
            due = await self._due(wall)
            if doubt is not None:
                self._forget_at = min(self._forget_at, seconds + doubt.seconds)
                if any(due.values()):
                    # Whoever sees that the clock is wrong has until then to set it.
                    left = round(doubt.seconds)
                    log.warning("forgetting_waits", why=doubt.why, in_seconds=left, **due)
            elif any(due.values()):
                log.info("forgetting", **due)
            if doubt is None:
                await forget_old(self._database, wall, self._most_objects)
                await prune_chains(self._database, wall, self._vault_at_hand)
        if doubt is None:
            await expire(self._database, self._directory, wall - SLOT_KEPT_MS)

    async def _newest_of_the_day_before(self, wall: int) -> int | None:
        async with self._database.read() as connection:
            newest = await records.newest_id(connection, format_id("call", wall - DAY_MS, 0))
        return None if newest is None else made_at_ms(newest)

    async def _due(self, wall: int) -> dict[str, int]:
        """How much is about to be destroyed."""
        due = 0
        async with self._database.read() as connection:
            for owner_id, days in await owners.record_days(connection):
                due += await records.count_before(connection, owner_id, wall - days * DAY_MS)
            slots = await keys.expired_slots(connection, wall - SLOT_KEPT_MS)
        return {"records": due, "slots": len(slots)}

    async def run(self, stop: asyncio.Event) -> None:
        """Look every 20 s, until told to stop."""
        while await pause(stop, EVERY_SECONDS):
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 -- a background loop outlives every failure
                log.warning("expiry_failed", reason=str(error))
