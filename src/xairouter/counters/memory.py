"""Counters in this process's memory. All methods belong to the event loop's thread.

A counter begins when it is first asked for, with what the records say. While those are read, calls
may end: what ends meanwhile is counted here and left out there, so nothing counts twice or never.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
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

MOST_TOLD = MOST_FOUND = 100_000


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
        self._changes = 0
        """So often a counter began or went: what was found before is found again while it stands."""
        self._running: dict[str, tuple[Held, Sequence[_Counter], int]] = {}
        """By call: its counters and ``_changes`` as it stood when it was admitted."""
        self._found: dict[Key, tuple[list[Key], ZoneInfo, list[_Counter]]] = {}
        """By the last of their keys: the counters that a call found, since the last change."""
        self._found_at = 0
        self._crossed: dict[tuple[str, Key, int], Crossed] = {}
        self._told: set[tuple[str, Key, int]] = set()

    async def reserve(self, call: Counted, demands: Sequence[Demand]) -> Held | Exceeded:
        while (counters := self._at_hand(call, demands)) is None:
            for demand in demands:
                await self._counter(call.owner_id, demand, call.zone)
        now = self._clock()
        uses = [counter.usage.used(now) for counter in counters]
        for demand, used in zip(demands, uses, strict=True):
            if used + demand.amount > demand.limit:
                return _exceeded(demands, counters, now)
        at_ms, call_id = call.at_ms, call.call_id
        left: dict[str, list[Left]] = {REQUESTS: [], TOKENS: []}
        for demand, counter, used in zip(demands, counters, uses, strict=True):
            amount, unit = demand.amount, counter.unit
            counter.usage.add(at_ms, amount)
            if unit == RUNNING:
                counter.running[call_id] = amount
            elif unit != MONEY:
                left[unit].append(_left(demand, used, counter, now))
        held = Held(call, tuple(demands), tightest(left[REQUESTS]), tightest(left[TOKENS]))
        self._running[call_id] = (held, counters, self._changes)
        return held

    def adopt(self, held: Held) -> None:
        """A call that was admitted elsewhere and is under way: counters that begin count it."""
        self._running[held.call.call_id] = (held, (), -1)

    def settle(self, held: Held, used: Tally) -> None:
        call = held.call
        _, counters, changes = self._running.pop(call.call_id, (None, (), None))
        if changes is None:
            return
        now = self._clock()
        amounts = {REQUESTS: used.requests, TOKENS: used.tokens, MONEY: used.nano}
        of_owner = self._counters.get(call.owner_id, {})
        there = sum([len(of_owner.get(account_id, ())) for account_id in call.path])
        if changes == self._changes and there == len(counters):
            # Those that it was admitted by are still all there are: nearly every call.
            concerned: Iterable[tuple[_Counter, int]] = zip(
                counters, [demand.amount for demand in held.demands], strict=True
            )
        else:
            concerned = self._concerned(held)
        for counter, reserved in concerned:
            if counter.unit == RUNNING:
                amount = -counter.running.pop(call.call_id, 0)
            else:
                amount = amounts[counter.unit] - reserved
            if amount:
                counter.usage.add(call.at_ms, amount)
            if not counter.is_ready:
                counter.ended.add(call.call_id)
        for demand in held.demands:
            if demand.notify_at is not None:
                self._look_at_threshold(call, demand, demand.notify_at, now)

    def _concerned(self, held: Held) -> Iterator[tuple[_Counter, int]]:
        """Every counter that counts a call, with what the call reserved there."""
        call, of_owner = held.call, self._counters.get(held.call.owner_id, {})
        reserved = {demand.key: demand.amount for demand in held.demands}
        for account_id in call.path:
            for key, counter in of_owner.get(account_id, {}).items():
                if key in reserved or call.concerns(key):
                    yield counter, reserved.get(key, 0)

    def _look_at_threshold(self, call: Counted, demand: Demand, share: float, now: int) -> None:
        """Note a budget that stands at or above its soft threshold."""
        key = demand.key
        counter = self._counters.get(call.owner_id, {}).get(demand.account_id, {}).get(key)
        if counter is None or counter.usage.used(now) < demand.limit * share:
            return
        start, _ = period_of(WINDOWS[demand.name].kind, now, call.zone)
        place = (call.owner_id, key, start)
        if place not in self._told:
            self._told.add(place)
            self._crossed[place] = Crossed(call.owner_id, demand, start)

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
        self._changes += 1
        self._counters.pop(owner_id, None)

    def _at_hand(self, call: Counted, demands: Sequence[Demand]) -> list[_Counter] | None:
        """The counters of all demands, if each is there and ready."""
        keys = [demand.key for demand in demands]
        if not keys:
            return []
        if self._found_at != self._changes or len(self._found) >= MOST_FOUND:
            self._found.clear()
            self._found_at = self._changes
        known = self._found.get(keys[-1])
        if known is not None and known[0] == keys and known[1] == call.zone:
            return known[2]
        of_owner = self._counters.get(call.owner_id, {})
        try:
            found = [of_owner[key[0]][key] for key in keys]
        except KeyError:
            return None
        if not all(counter.is_ready and counter.zone == call.zone for counter in found):
            return None
        self._found[keys[-1]] = (keys, call.zone, found)
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
        self._changes += 1
        made = of_account[key] = _Counter(WINDOWS[demand.name], zone)
        is_whole = False
        try:
            await self._fill(owner_id, key, made)
            is_whole = True
        finally:
            # Whoever waits looks again; what could not be read is begun anew.
            if not is_whole and of_account.get(key) is made:
                self._changes += 1
                del of_account[key]
            made.is_ready = True
            made.filled.set()
        return made

    async def _fill(self, owner_id: str, key: Key, counter: _Counter) -> None:
        window = counter.usage.window
        now = self._clock()
        counter.usage.used(now)
        # Calls under way keep what they reserved here, if they did; each counts as running.
        for held, _, _ in self._running.values():
            if window.unit == RUNNING and held.call.concerns(key):
                places = next((one.amount for one in held.demands if one.key == key), 1)
                counter.usage.add(held.call.at_ms, places)
                counter.running[held.call.call_id] = places
            for demand in held.demands:
                if demand.key == key and window.unit != RUNNING:
                    counter.usage.add(held.call.at_ms, demand.amount)
        if window.unit == RUNNING:
            return
        while True:
            known = frozenset(counter.ended)
            past = await self._history(owner_id, key, window, now, counter.zone, known)
            # A call that ended while the records were read may be in them already.
            if known == frozenset(counter.ended):
                break
        counter.usage.used(self._clock())
        for at_ms, amount in past.amounts:
            counter.usage.add(at_ms, amount)


def _exceeded(demands: Sequence[Demand], counters: Sequence[_Counter], now: int) -> Exceeded:
    """What does not fit, and the moment at which all of it would."""
    refused: list[Demand] = []
    wakes: int | None = now
    for demand, counter in zip(demands, counters, strict=True):
        if counter.usage.used(now) + demand.amount <= demand.limit:
            continue
        refused.append(demand)
        at = counter.usage.frees_at(demand.amount, demand.limit)
        wakes = None if at is None or wakes is None else max(wakes, at)
    return Exceeded(first_of(refused), None if wakes is None else seconds_until(wakes, now))


def _left(demand: Demand, used: int, counter: _Counter, now: int) -> Left:
    """How a limit stands after a reservation, ``used`` before it."""
    remaining = demand.limit - used - demand.amount
    return Left(demand.limit, remaining, seconds_until(counter.usage.whole_at(), now))
