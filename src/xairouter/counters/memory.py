"""Counters in this process's memory. All methods belong to the event loop's thread.

A counter begins when it is first asked for, with what the records say. While those are read, calls
may end: what ends meanwhile is counted here and left out there, so nothing counts twice or never.

One look at a wrong clock drops what has left its window by that clock. So where the wall clock has
jumped, all counters begin anew with the records.
"""

import asyncio
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from zoneinfo import ZoneInfo

from xairouter.accounting.counts import Counts
from xairouter.clock import now_ms
from xairouter.counters.counter import MemoryCounter, standing_of
from xairouter.counters.crossings import Crossings
from xairouter.counters.interface import (
    Correction,
    Counted,
    Crossed,
    Exceeded,
    Held,
    History,
    Left,
    Past,
    Standing,
    first_of,
    share_left,
)
from xairouter.errors import StorageError
from xairouter.policy.limits import Demand, Key
from xairouter.policy.windows import (
    MONEY,
    REQUESTS,
    RUNNING,
    TOKENS,
    WINDOWS,
    period_of,
    seconds_until,
)
from xairouter.turns import in_slices

MOST_FOUND = 100_000
JUMP_MS = 5000
"""A smaller step of the wall clock is a correction."""
_SHOWN = frozenset({REQUESTS, TOKENS})
"""What replies say the tightest limit of."""
_key, _amount = attrgetter("key"), attrgetter("amount")


_Remaining = tuple[float, int, Demand, MemoryCounter]
"""How a limit stands after a reservation: the share of it that remains, and how much that is."""
_OfAccounts = dict[str, dict[Key, MemoryCounter]]
"""By account and key: settling a call looks at its own path alone."""


class MemoryCounters:
    """Counters of one process."""

    state = "memory"
    lag_seconds = 2.0

    def __init__(
        self,
        history: History,
        clock: Callable[[], int] = now_ms,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._history = history
        self._wall_clock = clock
        self._monotonic = monotonic
        self._offset = clock() - monotonic() * 1000
        self._has_jumped = False
        self._counters: dict[str, _OfAccounts] = {}
        self._changes = 0
        """So often a counter began or went: what was found before is found again while it stands."""
        self._running: dict[str, tuple[Held, Sequence[MemoryCounter], int]] = {}
        """By call: its counters and ``_changes`` as it stood when it was admitted."""
        self._found: dict[Key, tuple[list[Key], ZoneInfo, list[MemoryCounter]]] = {}
        """By the last of their keys: the counters that a call found, since the last change."""
        self._found_at = 0
        self._crossings = Crossings()
        self._filling: set[asyncio.Task[None]] = set()

    async def reserve(self, call: Counted, demands: Sequence[Demand]) -> Held | Exceeded:
        while (counters := self._at_hand(call, demands)) is None:
            await self._ready(call.owner_id, demands, call.zone)
        now = self._clock()
        if self._has_jumped:
            self._begin_anew()
            return await self.reserve(call, demands)
        tightest: dict[str, _Remaining] = {}
        for demand, counter in zip(demands, counters, strict=True):
            limit, unit = demand.limit, counter.unit
            remaining = limit - counter.usage.used(now) - demand.amount
            if remaining < 0:
                return _exceeded(demands, counters, now)
            if unit in _SHOWN:
                share = share_left(limit, remaining)
                if unit not in tightest or share < tightest[unit][0]:
                    tightest[unit] = (share, remaining, demand, counter)
        at_ms, call_id = call.at_ms, call.call_id
        for demand, counter in zip(demands, counters, strict=True):
            amount = demand.amount
            counter.usage.add(at_ms, amount)
            if counter.unit == RUNNING:
                counter.running[call_id] = amount
        requests, tokens = tightest.get(REQUESTS), tightest.get(TOKENS)
        held = Held(call, tuple(demands), _left(requests, now), _left(tokens, now))
        self._running[call_id] = (held, counters, self._changes)
        return held

    def adopt(self, held: Held) -> None:
        """A call that was admitted elsewhere and is under way: counters that begin count it."""
        self._running[held.call.call_id] = (held, (), -1)

    def settle(self, held: Held, used: Counts) -> None:
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
            concerned: Iterable[tuple[MemoryCounter, int]] = zip(
                counters, map(_amount, held.demands), strict=True
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

    def _concerned(self, held: Held) -> Iterator[tuple[MemoryCounter, int]]:
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
        self._crossings.note(
            Crossed(call.owner_id, demand.account_id, demand.name, demand.limit, share, start)
        )

    def crossed(self) -> list[Crossed]:
        return self._crossings.waiting()

    def told(self, crossed: Sequence[Crossed]) -> None:
        self._crossings.tell(crossed)

    def recover(self, owner_id: str, call_id: str, used: Counts) -> None:
        """What a dead process held in its memory went with it; counters begin with the records."""

    async def correct(self, correction: Correction) -> None:
        call, before, after = correction.call, correction.before, correction.after
        of_owner = self._counters.get(call.owner_id, {})
        if before is None:
            self._changes += 1
            for account_id in call.path:
                of_owner.pop(account_id, None)
            return
        amounts = {
            TOKENS: (before.tokens, after.tokens),
            MONEY: (before.nano, after.nano),
        }
        for account_id in call.path:
            for key, counter in of_owner.get(account_id, {}).items():
                if counter.unit not in amounts or not call.concerns(key):
                    continue
                known, now = amounts[counter.unit]
                if not counter.is_ready and call.call_id not in counter.ended:
                    # The records that are being read may say the one or the other.
                    counter.ended.add(call.call_id)
                    known = 0
                counter.usage.add(call.at_ms, now - known)
                counter.corrected += 1

    async def used(self, owner_id: str, demands: Sequence[Demand], zone: ZoneInfo) -> list[int]:
        counters = await self._ready(owner_id, demands, zone)
        now = self._clock()
        if self._has_jumped:
            self._begin_anew()
            return await self.used(owner_id, demands, zone)
        return [counter.usage.used(now) for counter in counters]

    async def claim(self, owner_id: str, seconds: float) -> bool:
        """Nobody else compares what this process counts."""
        return True

    async def standing(
        self, owner_id: str, keys: Sequence[Key], zone: ZoneInfo
    ) -> dict[Key, Standing]:
        now = self._clock()
        if self._has_jumped:
            return {}
        of_owner = self._counters.get(owner_id, {})
        there = ((key, of_owner.get(key[0], {}).get(key)) for key in keys)
        found = {key: one for key, one in there if one is not None and one.is_of(zone)}
        running = [held for held, _, _ in self._running.values() if held.call.owner_id == owner_id]
        return standing_of(found, running, now)

    async def raise_to(self, owner_id: str, key: Key, zone: ZoneInfo, least: Standing) -> int:
        now = (await self.standing(owner_id, [key], zone)).get(key)
        if now is None or now.mark != least.mark or now.settled >= least.settled:
            return 0
        more = least.settled - now.settled
        self._counters[owner_id][key[0]][key].usage.add(self._clock(), more)
        return more

    async def run(self, stop: asyncio.Event) -> None:
        """Memory needs no work in the background."""

    async def close(self) -> None:
        """Memory goes with the process, and what still reads the past."""
        for task in list(self._filling):
            task.cancel()
        await asyncio.gather(*self._filling, return_exceptions=True)

    def forget(self, owner_id: str) -> None:
        self._changes += 1
        self._counters.pop(owner_id, None)

    def _clock(self) -> int:
        """The wall clock; notes whether it has jumped since the last reading."""
        now = self._wall_clock()
        offset = now - self._monotonic() * 1000
        if not -JUMP_MS <= offset - self._offset <= JUMP_MS:
            self._has_jumped = True
        self._offset = offset
        return now

    def _begin_anew(self) -> None:
        self._has_jumped = False
        self._changes += 1
        self._counters.clear()

    def _at_hand(self, call: Counted, demands: Sequence[Demand]) -> list[MemoryCounter] | None:
        """The counters of all demands, if each is there and ready."""
        keys = list(map(_key, demands))
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

    async def _ready(
        self, owner_id: str, demands: Sequence[Demand], zone: ZoneInfo
    ) -> list[MemoryCounter]:
        """The counters of demands, with their past; those that are not there begin together."""
        while True:
            of_owner = self._counters.setdefault(owner_id, {})
            missing = [
                demand.key
                for demand in demands
                if (there := of_owner.get(demand.account_id, {}).get(demand.key)) is None
                or there.zone != zone
            ]
            if missing:
                self._begin(owner_id, missing, zone)
            found = [of_owner[demand.account_id][demand.key] for demand in demands]
            waited = False
            for counter in found:
                if not counter.is_ready:
                    waited = True
                    await counter.filled.wait()
                if counter.failed is not None:
                    raise StorageError(counter.failed)
            if not waited:
                return found

    def _begin(self, owner_id: str, keys: Sequence[Key], zone: ZoneInfo) -> None:
        """Put counters there; their past is read for all of them at once, whoever still waits."""
        self._changes += 1
        of_owner, now = self._counters[owner_id], self._clock()
        made = {key: MemoryCounter(WINDOWS[key[2]], zone, self._changes) for key in keys}
        running = [held for held, _, _ in self._running.values() if held.call.owner_id == owner_id]
        for key, counter in made.items():
            of_owner.setdefault(key[0], {})[key] = counter
            counter.usage.used(now)
        # Calls under way keep what they reserved here, if they did; each counts as running.
        for held in running:
            for demand in held.demands:
                there = made.get(demand.key)
                if there is not None and there.unit != RUNNING:
                    there.usage.add(held.call.at_ms, demand.amount)
        for key, counter in made.items():
            if counter.unit == RUNNING:
                _count_running(key, counter, running)
                counter.be_ready()
        waiting = {key: counter for key, counter in made.items() if not counter.is_ready}
        if waiting:
            task = asyncio.get_running_loop().create_task(self._fill(owner_id, waiting, zone, now))
            self._filling.add(task)
            task.add_done_callback(self._filling.discard)

    async def _fill(
        self, owner_id: str, waiting: dict[Key, MemoryCounter], zone: ZoneInfo, now: int
    ) -> None:
        """Read the past of counters. What could not be read is begun anew by whoever asks next."""
        failed = "What was used could not be read."
        try:
            while waiting:
                known = frozenset().union(*(counter.ended for counter in waiting.values()))
                pasts = await self._history(owner_id, list(waiting), now, zone, known)
                await in_slices(self._take(waiting, pasts, known), owner_id)
        except StorageError as error:
            failed = error.public
        finally:
            of_owner = self._counters.get(owner_id, {})
            self._changes += bool(waiting)
            for key, counter in waiting.items():
                if of_owner.get(key[0], {}).get(key) is counter:
                    del of_owner[key[0]][key]
                counter.failed = failed
                counter.be_ready()

    def _take(
        self, waiting: dict[Key, MemoryCounter], pasts: Mapping[Key, Past], known: frozenset[str]
    ) -> Generator[None, None, None]:
        """Count what the records say; a counter at a time, and none for which a call ended while
        they were read: it may be in them already."""
        for key, counter in list(waiting.items()):
            if counter.ended <= known:
                counter.usage.used(self._clock())
                for at_ms, amount in pasts[key].amounts:
                    counter.usage.add(at_ms, amount)
                counter.be_ready()
                del waiting[key]
            yield


def _count_running(key: Key, counter: MemoryCounter, running: Iterable[Held]) -> None:
    """Each call under way has what it reserved of a counter of calls at one time, or one place."""
    for held in running:
        if held.call.concerns(key):
            places = next((one.amount for one in held.demands if one.key == key), 1)
            counter.usage.add(held.call.at_ms, places)
            counter.running[held.call.call_id] = places


def _exceeded(demands: Sequence[Demand], counters: Sequence[MemoryCounter], now: int) -> Exceeded:
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


def _left(tightest: _Remaining | None, now: int) -> Left | None:
    """The tightest limit of a unit as it stands after a reservation that has been counted."""
    if tightest is None:
        return None
    _, remaining, demand, counter = tightest
    return Left(demand.limit, remaining, seconds_until(counter.usage.whole_at(), now))
