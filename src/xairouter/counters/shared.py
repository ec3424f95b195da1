"""Counters in Valkey, and what happens while it is away: nobody with limits is let through, or each
instance goes on with its share of every limit. The installation chooses.

A share is made by counting each call as many times as there are instances, on top of what the
records say: so all of them together never admit more than the limit leaves. When the server is
back, counters of the owners that were served meanwhile begin anew from the records, and calls that
are still under way are counted there.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from xairouter.accounting.counts import Counts
from xairouter.clock import pause
from xairouter.counters.interface import (
    Correction,
    Counted,
    Crossed,
    Exceeded,
    Held,
    History,
    Left,
    Standing,
)
from xairouter.counters.memory import MemoryCounters
from xairouter.counters.valkey import ValkeyCounters
from xairouter.errors import StorageError, ValkeyAwayError
from xairouter.observe import log
from xairouter.policy.limits import Demand, Key

LOOK_SECONDS = 0.5
_AWAY = "The counters cannot be read now: Valkey is away."


class SharedCounters:
    """``instances`` tells how many there are, this one included. ``flush`` brings this instance's
    own records into storage."""

    def __init__(
        self,
        valkey: ValkeyCounters,
        history: History,
        instances: Callable[[], int],
        flush: Callable[[], Awaitable[None]],
        *,
        shares: bool,
        on_away: Callable[[bool], None] = lambda is_away: None,
    ) -> None:
        self._valkey = valkey
        self._history = history
        self._instances = instances
        self._flush = flush
        self._shares = shares
        self._memory: MemoryCounters | None = None
        self._parts = 1
        self._by_memory: dict[str, tuple[Held, int]] = {}
        self._from_before: dict[str, tuple[Held, int]] = {}
        self._late: dict[str, Counts] = {}
        self._touched: set[str] = set()
        self._on_away = on_away
        self.is_away = False
        self.lag_seconds = valkey.lag_seconds

    @property
    def state(self) -> str:
        """For a person to read."""
        if not self.is_away:
            return "valkey"
        if self._shares:
            return f"valkey is away: 1/{self._parts} of each limit here"
        return "valkey is away: calls of limited accounts are refused"

    async def reserve(self, call: Counted, demands: Sequence[Demand]) -> Held | Exceeded:
        if not self.is_away:
            try:
                return await self._valkey.reserve(call, demands)
            except ValkeyAwayError as error:
                self._lost(str(error))
        memory = self._memory
        if memory is None:
            raise StorageError(_AWAY)
        parts = self._parts
        shared = [replace(one, amount=one.amount * parts) for one in demands]
        answer = await memory.reserve(call, shared)
        if isinstance(answer, Exceeded):
            return answer
        self._by_memory[call.call_id] = answer, parts
        self._touched.add(call.owner_id)
        return Held(
            call, tuple(demands), _part(answer.requests, parts), _part(answer.tokens, parts)
        )

    def settle(self, held: Held, used: Counts) -> None:
        kept = self._by_memory.pop(held.call.call_id, None)
        if kept is None:
            self._valkey.settle(held, used)
            # It may have begun before the server went away.
            kept = self._from_before.pop(held.call.call_id, None)
            if kept is not None and self._memory is not None:
                self._memory.settle(kept[0], _times(used, kept[1]))
            return
        of_memory, parts = kept
        if self._memory is not None:
            self._memory.settle(of_memory, _times(used, parts))
        else:
            self._late[held.call.call_id] = used

    def recover(self, owner_id: str, call_id: str, used: Counts) -> None:
        self._valkey.recover(owner_id, call_id, used)

    async def correct(self, correction: Correction) -> None:
        if not self.is_away:
            try:
                await self._valkey.correct(correction)
            except ValkeyAwayError as error:
                self._lost(str(error))
            else:
                return
        # It may have been counted or not: what the records say holds, here and there.
        owner_id = correction.call.owner_id
        self._valkey.know(correction)
        self._touched.add(owner_id)
        if self._memory is not None:
            self._memory.forget(owner_id)

    async def used(self, owner_id: str, demands: Sequence[Demand], zone: ZoneInfo) -> list[int]:
        if not self.is_away:
            try:
                return await self._valkey.used(owner_id, demands, zone)
            except ValkeyAwayError as error:
                self._lost(str(error))
        if self._memory is None:
            raise StorageError(_AWAY)
        return await self._memory.used(owner_id, demands, zone)

    def crossed(self) -> list[Crossed]:
        found = self._valkey.crossed()
        return found + (self._memory.crossed() if self._memory is not None else [])

    def told(self, crossed: Sequence[Crossed]) -> None:
        self._valkey.told(crossed)
        if self._memory is not None:
            self._memory.told(crossed)

    def forget(self, owner_id: str) -> None:
        self._valkey.forget(owner_id)
        if self._memory is not None:
            self._memory.forget(owner_id)

    async def claim(self, owner_id: str, seconds: float) -> bool:
        """Shares of limits are counted several times on purpose: nothing is compared meanwhile."""
        return not self.is_away and await self._valkey.claim(owner_id, seconds)

    async def standing(
        self, owner_id: str, keys: Sequence[Key], zone: ZoneInfo
    ) -> dict[Key, Standing]:
        return await self._valkey.standing(owner_id, keys, zone)

    async def raise_to(self, owner_id: str, key: Key, zone: ZoneInfo, least: Standing) -> int:
        return await self._valkey.raise_to(owner_id, key, zone, least)

    async def run(self, stop: asyncio.Event) -> None:
        """Let the driver work; while the server is away, look whether it is back."""
        driver = asyncio.create_task(self._valkey.run(stop))
        while await pause(stop, LOOK_SECONDS):
            if not self.is_away and not await self._valkey.is_there():
                self._lost("It does not answer.")
            elif self.is_away and await self._valkey.is_there():
                try:
                    await self._return()
                except StorageError as error:
                    log.warning("counters_still_away", reason=str(error))
        await driver

    async def close(self) -> None:
        if self._memory is not None:
            await self._memory.close()
        await self._valkey.close()

    def _lost(self, why: str) -> None:
        if self.is_away:
            return
        self.is_away = True
        self._parts = max(1, self._instances())
        self._memory = MemoryCounters(self._history) if self._shares else None
        if self._memory is not None:
            # Calls under way are in no record yet, and only this instance knows of its own.
            for held in self._valkey.running():
                times = [replace(one, amount=one.amount * self._parts) for one in held.demands]
                of_memory = replace(held, demands=tuple(times))
                self._memory.adopt(of_memory)
                self._from_before[held.call.call_id] = of_memory, self._parts
        self._on_away(True)
        log.warning("counters_away", reason=why, shares=self._shares, parts=self._parts)

    async def _return(self) -> None:
        """Back to the server, with what it missed."""
        await self._flush()
        for owner_id in list(self._touched):
            await self._valkey.begin_anew(owner_id)
        self.is_away = False
        self._memory = None
        self._from_before.clear()
        self._touched.clear()
        self._on_away(False)
        running = list(self._by_memory.items())
        log.info("counters_back", running=len(running))
        for call_id, (held, parts) in running:
            own = [replace(one, amount=one.amount // parts) for one in held.demands]
            try:
                await self._valkey.adopt(replace(held, demands=tuple(own)))
            finally:
                self._by_memory.pop(call_id, None)
            ended = self._late.pop(call_id, None)
            if ended is not None:
                self._valkey.settle(held, ended)


def _times(used: Counts, parts: int) -> Counts:
    return Counts(used.requests * parts, used.tokens * parts, used.nano * parts)


def _part(left: Left | None, parts: int) -> Left | None:
    return None if left is None else replace(left, remaining=left.remaining // parts)
