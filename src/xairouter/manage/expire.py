"""What ends by itself: slots of expired keys and codes, and records past their days."""

import asyncio
import contextlib

from xairouter.clock import now_ms
from xairouter.directory.directory import Directory
from xairouter.manage.desk import write_operation
from xairouter.observe import log
from xairouter.storage import changes, keys
from xairouter.storage.database import Database

EVERY_SECONDS = 20.0


async def expire(database: Database, directory: Directory) -> int:
    """Remove every slot whose time is over; returns how many."""
    async with database.read() as connection:
        if not await keys.expired_slots(connection, now_ms()):
            return 0
    async with database.write() as connection:
        slots = await keys.expired_slots(connection, now_ms())
        for slot in slots:
            await keys.drop_slots(connection, slot.owner_id, [slot.id])
            await changes.announce(connection, slot.owner_id, "slot.expired", slot.id)
            await write_operation(
                connection,
                owner_id=slot.owner_id,
                actor="expiry",
                verb="slot.expired",
                target_id=slot.id,
            )
    await database.shrink_log()
    for owner_id in {slot.owner_id for slot in slots}:
        await directory.changed(owner_id)
    return len(slots)


async def run(database: Database, directory: Directory, stop: asyncio.Event) -> None:
    """Expire every 20 s, until told to stop."""
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), EVERY_SECONDS)
        try:
            await expire(database, directory)
        except Exception as error:  # noqa: BLE001 -- a background loop outlives every failure
            log.warning("expiry_failed", reason=str(error))
