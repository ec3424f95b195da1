"""What counters are: one call's demands are reserved together or not at all, and settled once.

Every driver passes the same contract suite (tests/contract/test_counters.py).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol
from zoneinfo import ZoneInfo

import msgspec

from xairouter.policy.limits import WHOLE, Demand, Key
from xairouter.policy.patterns import matches
from xairouter.policy.windows import WINDOWS, Window

_ORDER = {name: place for place, name in enumerate(WINDOWS)}


@dataclass(frozen=True, slots=True)
class Past:
    """What records say of one counter: (when in milliseconds, how much)."""

    amounts: Sequence[tuple[int, int]]


History = Callable[[str, Key, Window, int, ZoneInfo, frozenset[str]], Awaitable[Past]]
"""(owner, counter, window, now, zone, calls to leave out) → what the records say."""


class Tally(msgspec.Struct, frozen=True):
    """What one call counts for: a request or none, tokens, nano-dollars."""

    requests: int = 0
    tokens: int = 0
    nano: int = 0


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


def tightest(limits: Sequence[Left]) -> Left | None:
    """The limit with the smallest share left, the first of equals; None where there is none."""
    if len(limits) == 1:
        return limits[0]
    return min(limits, key=lambda one: one.remaining / one.limit if one.limit else 0, default=None)


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


@dataclass(frozen=True, slots=True)
class Crossed:
    """A budget whose soft threshold has been reached: ``period_ms`` is when its period began."""

    owner_id: str
    demand: Demand
    period_ms: int


class Counters(Protocol):
    """Counts calls. ``settle`` never waits, and counts once for each reservation."""

    async def reserve(self, call: Counted, demands: Sequence[Demand]) -> Held | Exceeded:
        """Reserve all demands or none; raises StorageError where what was used is not known."""

    def settle(self, held: Held, used: Tally) -> None:
        """Put what was used in the place of what was reserved."""

    def recover(self, owner_id: str, call_id: str, used: Tally) -> None:
        """A call whose process died is in the records now: count what it used where it had reserved
        something, once."""

    async def used(self, owner_id: str, demands: Sequence[Demand], zone: ZoneInfo) -> list[int]:
        """What is used of each limit now; nothing is reserved."""

    def take_crossed(self) -> list[Crossed]:
        """Budgets that reached their soft threshold since this was last asked; some may come
        again."""

    async def run(self, stop: asyncio.Event) -> None:
        """What goes on in the background, until told to stop."""

    async def close(self) -> None:
        """Let everything go; what was settled is counted first."""

    def forget(self, owner_id: str) -> None:
        """What an owner's accounts have used is to be read anew: its tree or calendar changed."""
