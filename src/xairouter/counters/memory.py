"""Counters in this process's memory. All methods belong to the event loop's thread.

A counter begins when it is first asked for, with what the records say. While those are read, calls
may end: what ends meanwhile is counted here and left out there, so nothing counts twice or never.
"""

import asyncio
from collections.abc import Callable, Sequence
from zoneinfo import ZoneInfo

from xairouter.clock import now_ms
from xairouter.counters.interface import (
    Counted,
    Crossed,
    Exceeded,
    Held,
    History,
    Left,
    Tally,
    first_of,
    tightest,
)
from xairouter.policy.limits import Demand, Key
from xairouter.policy.windows import (
    MONEY,
    REQUESTS,
    RUNNING,
    TOKENS,
    WINDOWS,
    Window,
    period_of,
    seconds_until,
    usage_of,
)

MOST_TOLD = 100_000


class _Counter:
    """A counter. Until it ``is_ready`` its past is being read, and ``filled`` is waited for."""

    __slots__ = ("ended", "filled", "is_ready", "running", "unit", "usage", "zone")

    def __init__(self, window: Window, zone: ZoneInfo) -> None:
        self.usage = usage_of(window, zone)
        self.unit = window.unit
        self.zone = zone
        self.is_ready = False
        self.filled = asyncio.Event()
        self.ended: set[str] = set()
        self.running: dict[str, int] = {}


_OfAccounts = dict[str, dict[Key, _Counter]]
"""By account and key: settling a call looks at its own path alone."""


class MemoryCounters:
    """Counters of one process."""

    state = "memory"

    def __init__(self, history: History, clock: Callable[[], int] = now_ms) -> None:
        self._history = history
        self._clock = clock
        self._counters: dict[str, _OfAccounts] = {}
        self._running: dict[str, Held] = {}
        self._crossed: dict[tuple[str, Key, int], Crossed] = {}
        self._told: set[tuple[str, Key, int]] = set()

    async def reserve(self, call: Counted, demands: Sequence[Demand]) -> Held | Exceeded:
        counters = self._at_hand(call, demands)
        if counters is None:
            counters = [await self._counter(call.owner_id, demand, call.zone) for demand in demands]
        now = self._clock()
        for demand, counter in zip(demands, counters, strict=True):
            if counter.usage.used(now) + demand.amount > demand.limit:
                return _exceeded(demands, counters, now)
        requests: list[Left] = []
        tokens: list[Left] = []
        for demand, counter in zip(demands, counters, strict=True):
            counter.usage.add(call.at_ms, demand.amount, now)
            unit = counter.unit
            if unit == RUNNING:
                counter.running[call.call_id] = demand.amount
            elif unit == REQUESTS:
                requests.append(_left(demand, counter, now))
            elif unit == TOKENS:
                tokens.append(_left(demand, counter, now))
        held = Held(call, tuple(demands), tightest(requests), tightest(tokens))
        self._running[call.call_id] = held
        return held

    def adopt(self, held: Held) -> None:
        """A call that was admitted elsewhere and is under way: counters that begin count it."""
        self._running[held.call.call_id] = held

    def settle(self, held: Held, used: Tally) -> None:
        call = held.call
        if self._running.pop(call.call_id, None) is None:
            return
        now = self._clock()
        reserved = {demand.key: demand.amount for demand in held.demands}
        amounts = {REQUESTS: used.requests, TOKENS: used.tokens, MONEY: used.nano}
        of_owner = self._counters.get(call.owner_id, {})
        for account_id in call.path:
            for key, counter in of_owner.get(account_id, {}).items():
                if key not in reserved and not call.concerns(key):
                    continue
                if counter.unit == RUNNING:
                    amount = -counter.running.pop(call.call_id, 0)
                else:
                    amount = amounts[counter.unit] - reserved.get(key, 0)
                if amount:
                    counter.usage.add(call.at_ms, amount, now)
                if not counter.is_ready:
                    counter.ended.add(call.call_id)
        self._look_at_thresholds(held, now)

    def _look_at_thresholds(self, held: Held, now: int) -> None:
        """Note which budgets of a call stand at or above their soft threshold."""
        owner_id, zone = held.call.owner_id, held.call.zone
        for demand in held.demands:
            if demand.notify_at is None:
                continue
            key = demand.key
            counter = self._counters.get(owner_id, {}).get(demand.account_id, {}).get(key)
            if counter is None or counter.usage.used(now) < demand.limit * demand.notify_at:
                continue
            start, _ = period_of(WINDOWS[demand.name].kind, now, zone)
            place = (owner_id, key, start)
            if place not in self._told:
                self._told.add(place)
                self._crossed[place] = Crossed(owner_id, demand, start)

    def take_crossed(self) -> list[Crossed]:
        taken = list(self._crossed.values())
        self._crossed.clear()
        if len(self._told) > MOST_TOLD:
            self._told.clear()
        return taken

    def recover(self, owner_id: str, call_id: str, used: Tally) -> None:
        """What a dead process held in its memory went with it; counters begin with the records."""

    async def used(self, owner_id: str, demands: Sequence[Demand], zone: ZoneInfo) -> list[int]:
        counters = [await self._counter(owner_id, demand, zone) for demand in demands]
        now = self._clock()
        return [counter.usage.used(now) for counter in counters]

    async def run(self, stop: asyncio.Event) -> None:
        """Memory needs no work in the background."""

    async def close(self) -> None:
        """Memory goes with the process."""

    def forget(self, owner_id: str) -> None:
        self._counters.pop(owner_id, None)

    def _at_hand(self, call: Counted, demands: Sequence[Demand]) -> list[_Counter] | None:
        """The counters of all demands, if each is there and ready."""
        of_owner = self._counters.get(call.owner_id)
        if of_owner is None:
            return None
        found: list[_Counter] = []
        try:
            for demand in demands:
                key = demand.key
                counter = of_owner[key[0]][key]
                if not counter.is_ready or counter.zone is not call.zone:
                    return None
                found.append(counter)
        except KeyError:
            return None
        return found

    async def _counter(self, owner_id: str, demand: Demand, zone: ZoneInfo) -> _Counter:
        """The counter of a demand, with its past; read once, by whoever comes first."""
        key = demand.key
        of_account = self._counters.setdefault(owner_id, {}).setdefault(demand.account_id, {})
        found = of_account.get(key)
        if found is not None and found.zone == zone:
            if not found.is_ready:
                await found.filled.wait()
                return await self._counter(owner_id, demand, zone)
            return found
        made = of_account[key] = _Counter(WINDOWS[demand.name], zone)
        is_whole = False
        try:
            await self._fill(owner_id, key, made)
            is_whole = True
        finally:
            # Whoever waits looks again; what could not be read is begun anew.
            if not is_whole and of_account.get(key) is made:
                del of_account[key]
            made.is_ready = True
            made.filled.set()
        return made

    async def _fill(self, owner_id: str, key: Key, counter: _Counter) -> None:
        window = counter.usage.window
        now = self._clock()
        # Calls under way keep what they reserved here, if they did; each counts as running.
        for held in self._running.values():
            if window.unit == RUNNING and held.call.concerns(key):
                places = next((one.amount for one in held.demands if one.key == key), 1)
                counter.usage.add(held.call.at_ms, places, now)
                counter.running[held.call.call_id] = places
            for demand in held.demands:
                if demand.key == key and window.unit != RUNNING:
                    counter.usage.add(held.call.at_ms, demand.amount, now)
        if window.unit == RUNNING:
            return
        while True:
            known = frozenset(counter.ended)
            past = await self._history(owner_id, key, window, now, counter.zone, known)
            # A call that ended while the records were read may be in them already.
            if known == frozenset(counter.ended):
                break
        now = self._clock()
        for at_ms, amount in past.amounts:
            counter.usage.add(at_ms, amount, now)


def _exceeded(demands: Sequence[Demand], counters: Sequence[_Counter], now: int) -> Exceeded:
    """What does not fit, and the moment at which all of it would."""
    refused: list[Demand] = []
    wakes: int | None = now
    for demand, counter in zip(demands, counters, strict=True):
        if counter.usage.used(now) + demand.amount <= demand.limit:
            continue
        refused.append(demand)
        at = counter.usage.frees_at(demand.amount, demand.limit, now)
        wakes = None if at is None or wakes is None else max(wakes, at)
    return Exceeded(first_of(refused), None if wakes is None else seconds_until(wakes, now))


def _left(demand: Demand, counter: _Counter, now: int) -> Left:
    remaining = max(0, demand.limit - counter.usage.used(now))
    return Left(demand.limit, remaining, seconds_until(counter.usage.whole_at(now), now))
