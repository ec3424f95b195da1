"""Other instances on the same database, where no bus tells of them.

Without Valkey each instance counts limits for itself. That cannot be forbidden, since a new instance
may start before an old one has ended; it is told, and shown while it lasts.
"""

import asyncio
import contextlib

from xairouter.clock import pause
from xairouter.directory.bus import NoBus
from xairouter.errors import StorageError
from xairouter.observe import log
from xairouter.storage.database import Database

LOOK_SECONDS = 5.0
RETRY_SECONDS = 1.0


class Neighbours(NoBus):
    """The bus of an instance without Valkey: it tells and hears nothing, and counts the others on
    its database; ``others`` stays 0 on a database that only one machine can use."""

    def __init__(self, database: Database, instance: str) -> None:
        super().__init__(instance)
        self._database = database

    @property
    def state(self) -> str:
        """In words, for ``/readyz``."""
        if not self.others:
            return "none: one instance"
        return f"none: {self.others} other instances count limits for themselves; set Valkey up"

    async def run(self, stop: asyncio.Event) -> None:
        """Look every five seconds, until told to stop."""
        while not stop.is_set():
            with contextlib.suppress(StorageError):
                async with self._database.read(seconds=None) as connection:
                    while not stop.is_set():
                        self._note(await self._database.others(connection, self.instance))
                        await pause(stop, LOOK_SECONDS)
            await pause(stop, RETRY_SECONDS)

    def _note(self, others: int) -> None:
        if others and not self.others:
            log.error(
                "other_instances_without_valkey",
                others=others,
                reason="Each counts limits for itself; set XAIROUTER_VALKEY_URL for all of them.",
            )
        self.others = others
