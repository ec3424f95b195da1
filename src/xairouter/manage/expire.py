"""What ends by itself: slots of expired keys and codes, and records past their days."""

import asyncio

from xairouter.clock import now_ms, pause
from xairouter.directory.directory import Directory
from xairouter.manage.desk import write_operation
from xairouter.manage.sessions import end_sessions
from xairouter.observe import log
from xairouter.storage import changes, keys, notices, owners, records
from xairouter.storage.database import Database

EVERY_SECONDS = 20.0
DAY_MS = 86_400_000
FORGET_EVERY_MS = 3_600_000
KEPT_CHANGES = 100_000


async def expire(database: Database, directory: Directory) -> int:
    """Remove every slot whose time is over; returns how many."""
    async with database.read() as connection:
        if not await keys.expired_slots(connection, now_ms()):
            return 0
    async with database.write() as connection:
        slots = await keys.expired_slots(connection, now_ms())
        for slot in slots:
            await end_sessions(connection, slot.owner_id, [slot])
            await keys.drop_slots(connection, slot.owner_id, [slot.id])
            await changes.announce(connection, slot.owner_id, "slot.expired", slot.id)
            await write_operation(
                connection,
                owner_id=slot.owner_id,
                actor="expiry",
                verb="slot.expired",
                target_id=slot.id,
            )
    await database.forget_deleted()
    for owner_id in {slot.owner_id for slot in slots}:
        await directory.changed(owner_id)
    return len(slots)


async def forget_old(database: Database) -> int:
    """Delete usage records past their owner's ``record_days`` and changes that every instance has
    read; returns how many records. Roll-ups and the chain's hashes stay."""
    forgotten = 0
    async with database.write() as connection:
        for account in await owners.list_owners(connection):
            owner = await owners.get_owner(connection, account.id)
            if owner is not None:
                before = now_ms() - owner.settings.record_days * DAY_MS
                forgotten += await records.delete_before(connection, account.id, before)
                await notices.delete_before(connection, account.id, before)
        await changes.trim(connection, KEPT_CHANGES)
    return forgotten


async def run(database: Database, directory: Directory, stop: asyncio.Event) -> None:
    """Expire every 20 s and forget old records every hour, until told to stop."""
    forgot_at = 0
    while not stop.is_set():
        await pause(stop, EVERY_SECONDS)
        try:
            await expire(database, directory)
            if now_ms() - forgot_at > FORGET_EVERY_MS:
                forgot_at = now_ms()
                await forget_old(database)
        except Exception as error:  # noqa: BLE001 -- a background loop outlives every failure
            log.warning("expiry_failed", reason=str(error))
