"""Whose turn it is to rehearse: one process at a time, and one place in the queue for each owner."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from xairouter.errors import ErrorCode, ManageError


class Rehearsals:
    """The queue of one process."""

    def __init__(self) -> None:
        self._owners: set[str] = set()
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def turn(self, owner_id: str) -> AsyncIterator[None]:
        """Wait for the turn; raises ManageError ``conflict`` where the owner waits already."""
        if owner_id in self._owners:
            raise ManageError(
                ErrorCode.CONFLICT,
                "A rehearsal of this owner is under way; ask again when it has ended.",
            )
        self._owners.add(owner_id)
        try:
            async with self._turn:
                yield
        finally:
            self._owners.discard(owner_id)
