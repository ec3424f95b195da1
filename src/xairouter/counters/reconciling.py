"""Counters are compared with the records from time to time: what is missing in a counter is added, and
every difference is a metric.

Calls begin and end meanwhile, so that a counter and the records are never read at one moment. What has
ended in a counter is read before the records and after them, some seconds apart; a difference is what
the records say beyond both. It counts if it is seen a second time, a minute later, and then the smaller
of the two. A counter that stands too high is left as it is: records may still be on their way from
another instance, and a limit must not admit more for that.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from zoneinfo import ZoneInfo

from xairouter.clock import now_ms, pause
from xairouter.counters.interface import Counters, Past, Standing
from xairouter.errors import StorageError
from xairouter.observe import Metrics, log
from xairouter.policy.limits import Key
from xairouter.policy.windows import MONEY, WINDOWS

MOST_OWNERS = 200
"""Owners of one round; the next one goes on with others."""
_MOST_TOLD = 10_000


@dataclass(frozen=True, slots=True)
class Times:
    """In seconds: from a round to the next, until a difference is looked at again."""

    every: float = 300.0
    again: float = 60.0


class Records(Protocol):
    """What the records say of counters; raises StorageError."""

    async def __call__(
        self,
        owner_id: str,
        keys: Sequence[Key],
        now_ms: int,
        zone: ZoneInfo,
        without: frozenset[str],
    ) -> Mapping[Key, Past]: ...

    async def is_short(self, owner_id: str, now_ms: int, zone: ZoneInfo) -> bool:
        """Whether so few calls were made today that they may be read one by one."""


class Ruled(Protocol):
    """Which counters there should be."""

    def owners(self) -> Sequence[str]:
        """Those who have called here."""

    async def keys_of(self, owner_id: str) -> tuple[Sequence[Key], ZoneInfo]:
        """The counters of days, months and all time that the rules of an owner's callers name, and
        its calendar; raises StorageError."""


_Place = tuple[str, Key]


@dataclass(frozen=True, slots=True)
class _Difference:
    """How much more the records say than a counter; less than 0 where the counter says more."""

    amount: int
    zone: ZoneInfo
    now: Standing


class Reconciler:
    """Compares in rounds; of each owner's counters one instance."""

    def __init__(
        self,
        counters: Counters,
        records: Records,
        ruled: Ruled,
        metrics: Metrics,
        *,
        times: Times | None = None,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self._counters = counters
        self._records = records
        self._ruled = ruled
        self._metrics = metrics
        self._times = times or Times()
        self._clock = clock
        self._last = ""
        self._above: OrderedDict[_Place, int] = OrderedDict()

    async def run(self, stop: asyncio.Event) -> None:
        """Compare every five minutes, until told to stop."""
        while await pause(stop, self._times.every):
            try:
                await self.compare(stop)
            except Exception as error:  # noqa: BLE001 -- a background loop outlives every failure
                log.warning("counters_not_compared", reason=str(error))

    async def compare(self, stop: asyncio.Event) -> None:
        """One round: raise counters that stand below the records, and tell what differs."""
        claimed = [owner for owner in self._next_owners() if await self._claims(owner)]
        first = await self._differences(claimed, stop)
        if not first or not await pause(stop, self._times.again):
            return
        second = await self._differences(list(dict.fromkeys(owner for owner, _ in first)), stop)
        for place, one in second.items():
            before = first.get(place)
            if before is not None and before.amount > 0 and one.amount > 0:
                await self._raise(place, one, min(before.amount, one.amount))
            elif before is not None and before.amount < 0 and one.amount < 0:
                self._tell_above(place, min(-before.amount, -one.amount))

    def _next_owners(self) -> list[str]:
        """Those whose turn it is, behind those of the last round."""
        known = sorted(self._ruled.owners())
        some = ([one for one in known if one > self._last] + known)[: min(len(known), MOST_OWNERS)]
        self._last = some[-1] if some else ""
        return some

    async def _claims(self, owner_id: str) -> bool:
        try:
            return await self._counters.claim(owner_id, self._times.every * 0.9)
        except StorageError:
            return False

    async def _differences(
        self, owners: Sequence[str], stop: asyncio.Event
    ) -> dict[_Place, _Difference]:
        """What differs now of the counters of some owners."""
        before = {owner: found for owner in owners if (found := await self._standing(owner))}
        if not before or not await pause(stop, self._counters.lag_seconds):
            return {}
        said = {owner: await self._said(owner, *found) for owner, found in before.items()}
        if not await pause(stop, self._counters.lag_seconds):
            return {}
        differences: dict[_Place, _Difference] = {}
        for owner, (standing, zone) in before.items():
            now, _ = await self._standing(owner) or ({}, zone)
            for key, recorded in said[owner].items():
                one, two = standing[key], now.get(key)
                if two is None or two.mark != one.mark:
                    continue
                self._metrics.counters_compared.inc()
                low, high = sorted((one.settled, two.settled))
                amount = recorded - min(max(recorded, low), high)
                if amount:
                    differences[owner, key] = _Difference(amount, zone, two)
        return differences

    async def _standing(self, owner_id: str) -> tuple[Mapping[Key, Standing], ZoneInfo] | None:
        try:
            keys, zone = await self._ruled.keys_of(owner_id)
            return (await self._counters.standing(owner_id, keys, zone), zone) if keys else None
        except StorageError:
            return None

    async def _said(
        self, owner_id: str, standing: Mapping[Key, Standing], zone: ZoneInfo
    ) -> dict[Key, int]:
        """What the records say of counters: money by its sums, anything else only of a short day."""
        now = self._clock()
        money = [key for key in standing if WINDOWS[key[2]].unit == MONEY]
        others = [key for key in standing if WINDOWS[key[2]].unit != MONEY]
        found: dict[Key, int] = {}
        try:
            if others and not await self._records.is_short(owner_id, now, zone):
                others = []
            for keys in filter(None, (money, others)):
                pasts = await self._records(owner_id, keys, now, zone, frozenset())
                for key, past in pasts.items():
                    found[key] = sum(amount for _, amount in past.amounts)
        except StorageError:
            pass  # Looked at again in the next round.
        return found

    async def _raise(self, place: _Place, one: _Difference, amount: int) -> None:
        owner_id, key = place
        least = Standing(one.now.settled + amount, one.now.mark)
        try:
            raised = await self._counters.raise_to(owner_id, key, one.zone, least)
        except StorageError:
            return
        if raised:
            self._tell(place, "below", raised)

    def _tell_above(self, place: _Place, amount: int) -> None:
        """It stays until the period is over: what was told before is not told again."""
        told = self._above.pop(place, 0)
        self._above[place] = amount
        if len(self._above) > _MOST_TOLD:
            self._above.popitem(last=False)
        if amount > told:
            self._tell(place, "above", amount - told)

    def _tell(self, place: _Place, side: str, amount: int) -> None:
        owner_id, (account_id, _, name) = place
        self._metrics.counters_differ(WINDOWS[name].unit, side, amount)
        log.warning(
            "counters_differ",
            owner=owner_id,
            account=account_id,
            window=name,
            side=side,
            amount=amount,
        )
