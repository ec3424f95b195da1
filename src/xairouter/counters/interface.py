"""What counters are: one call's demands are reserved together or not at all, and settled once.

Every driver passes the same contract suite (tests/contract/test_counters.py).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from zoneinfo import ZoneInfo

import msgspec

from xairouter.accounting.counts import Counts
from xairouter.policy.limits import WHOLE, Demand, Key
from xairouter.policy.patterns import matches
from xairouter.policy.windows import WINDOWS

_ORDER = {name: place for place, name in enumerate(WINDOWS)}


@dataclass(frozen=True, slots=True)
class Past:
    """What records say of one counter: (when in milliseconds, how much)."""

    amounts: Sequence[tuple[int, int]]


History = Callable[
    [str, Sequence[Key], int, ZoneInfo, frozenset[str]], Awaitable[Mapping[Key, Past]]
]
"""(owner, counters, now, zone, calls to leave out) → what the records say of each."""


class Counted(msgspec.Struct, frozen=True):
    """A call as counters know it. ``path`` are the accounts that it counts against, ``model`` the
    name that patterns look at, ``at_ms`` when it began."""

    call_id: str
    owner_id: str
    path: tuple[str, ...]
    model: str | None
    at_ms: int
    zone: ZoneInfo

    def concerns(self, key: Key) -> bool:
        """Whether a counter counts this call."""
        account_id, pattern, _ = key
        if account_id not in self.path:
            return False
        return pattern == WHOLE or (self.model is not None and matches(pattern, self.model))


class Left(msgspec.Struct, frozen=True):
    """How a limit stands after a reservation, for a reply's headers."""

    limit: int
    remaining: int
    reset_seconds: int


def share_left(limit: int, remaining: int) -> float:
    """What remains of a limit, as its share; of equals the first is the tightest."""
    return remaining / limit if limit else 0


def tightest(limits: Sequence[Left]) -> Left | None:
    """The limit with the smallest share left, the first of equals; None where there is none."""
    if len(limits) == 1:
        return limits[0]
    return min(limits, key=lambda one: share_left(one.limit, one.remaining), default=None)


def first_of(demands: Iterable[Demand]) -> Demand:
    """Of demands that do not fit, the one that is named: by kind, then nearest the owner."""
    return min(demands, key=lambda one: _ORDER[one.name])


class Held(msgspec.Struct, frozen=True):
    """A reservation that was made. ``requests`` and ``tokens`` are the limits of each kind with the
    smallest share left, None where there is none."""

    call: Counted
    demands: tuple[Demand, ...]
    requests: Left | None = None
    tokens: Left | None = None


@dataclass(frozen=True, slots=True)
class Exceeded:
    """A reservation that was not made: the first demand that does not fit, and the whole seconds
    after which all of them would (None: never by waiting)."""

    demand: Demand
    retry_after: int | None


class Correction(msgspec.Struct, frozen=True):
    """A call's record was changed. ``keys`` are the counters of tokens and money that the rules name
    for it; ``before`` is None where what they counted of it is not known."""

    call: Counted
    keys: tuple[Key, ...]
    before: Counts | None
    after: Counts


class Standing(msgspec.Struct, frozen=True):
    """How a counter stands: ``settled`` is what calls count in it that have ended. ``mark`` is another
    one once its period or the record of a call in it has changed."""

    settled: int
    mark: str


@dataclass(frozen=True, slots=True)
class Crossed:
    """A budget whose soft threshold has been reached: ``notify_at`` of ``limit``, in the period of
    ``name`` that began at ``period_ms``."""

    owner_id: str
    account_id: str
    name: str
    limit: int
    notify_at: float
    period_ms: int


class Counters(Protocol):
    """Counts calls. ``settle`` never waits, and counts once for each reservation. ``lag_seconds`` after
    a call has ended, counters and records both have it, unless something is away."""

    lag_seconds: float

    async def reserve(self, call: Counted, demands: Sequence[Demand]) -> Held | Exceeded:
        """Reserve all demands or none; raises StorageError where what was used is not known."""

    def settle(self, held: Held, used: Counts) -> None:
        """Put what was used in the place of what was reserved."""

    def recover(self, owner_id: str, call_id: str, used: Counts) -> None:
        """A call whose process died is in the records now: count what it used where it had reserved
        something, once."""

    async def correct(self, correction: Correction) -> None:
        """Count a changed record as it is now, wherever its call counts; counters that may have
        counted it either way begin anew with the records. Never raises."""

    async def used(self, owner_id: str, demands: Sequence[Demand], zone: ZoneInfo) -> list[int]:
        """What is used of each limit now; nothing is reserved."""

    def crossed(self) -> list[Crossed]:
        """Budgets that reached their soft threshold and of which nobody has been told."""

    def told(self, crossed: Sequence[Crossed]) -> None:
        """Somebody has been told of these for good: they do not come again in their period."""

    async def claim(self, owner_id: str, seconds: float) -> bool:
        """Whether this instance is the one to compare an owner's counters, for so long."""

    async def standing(
        self, owner_id: str, keys: Sequence[Key], zone: ZoneInfo
    ) -> Mapping[Key, Standing]:
        """How those of some counters stand that are there; raises StorageError."""

    async def raise_to(self, owner_id: str, key: Key, zone: ZoneInfo, least: Standing) -> int:
        """Raise what has ended in a counter to no less than this, if its mark is the same; by how much
        it was raised. Raises StorageError."""

    async def run(self, stop: asyncio.Event) -> None:
        """What goes on in the background, until told to stop."""

    async def close(self) -> None:
        """Let everything go; what was settled is counted first."""

    def forget(self, owner_id: str) -> None:
        """What an owner's accounts have used is to be read anew: its tree or calendar changed."""
