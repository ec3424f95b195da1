"""Turns of requests of which nobody knows whose they are: pages, documents, refused keys, probes.

They share what one owner would have, however many connections ask: one of them begins in a turn of
the event loop, and while calls are in flight one in ``BESIDE_CALLS`` turns, since a page takes the
loop for longer than the start of a call does. Addresses take turns, so that one which asks on many
connections waits for itself alone.
"""

import asyncio
from collections.abc import Callable

from xairouter.policy.networks import name_of_address
from xairouter.turns import RoundRobin

BESIDE_CALLS = 4


class AnonymousTurns:
    """One share. All methods belong to the event loop's thread."""

    def __init__(self, is_beside_calls: Callable[[], bool] = lambda: False) -> None:
        self._is_beside_calls = is_beside_calls
        self._waiting = RoundRobin()
        self._resting = 0
        """Turns of the loop until the next request may begin."""

    async def turn(self, address: str) -> None:
        """Wait until a request from an address may begin."""
        if not self._resting:
            self._rest()
            return
        await self._waiting.wait(name_of_address(address))

    def _rest(self) -> None:
        self._resting = BESIDE_CALLS if self._is_beside_calls() else 1
        asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._resting -= 1
        if self._resting:
            asyncio.get_running_loop().call_soon(self._next_turn)
        elif self._waiting.let_next_go():
            self._rest()
