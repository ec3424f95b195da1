"""Windows of limits and budgets, and what is used of them; arithmetic on values and given times.

A sliding window is 60 buckets long (of a second for a minute, of a minute for an hour), and a
bucket counts until it has wholly left: it never admits more than its limit within its length, and
frees at most one bucket late. Days and months are those of the owner's calendar.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from math import ceil
from zoneinfo import ZoneInfo

BUCKETS = 60


class Unit(StrEnum):
    """What a limit counts."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    RUNNING = "running"
    MONEY = "money"


class Period(StrEnum):
    """Over which time a limit counts."""

    SLIDING = "sliding"
    DAY = "day"
    MONTH = "month"
    EVER = "ever"
    NOW = "now"


REQUESTS, TOKENS, RUNNING, MONEY = Unit
SLIDING, DAY, MONTH, EVER, NOW = Period


@dataclass(frozen=True, slots=True)
class Window:
    """One kind of limit: what is counted, over which time; ``bucket_ms`` of a sliding one."""

    name: str
    unit: Unit
    kind: Period
    bucket_ms: int = 0


WINDOWS: Mapping[str, Window] = {
    window.name: window
    for window in (
        Window("concurrency", RUNNING, NOW),
        Window("rpm", REQUESTS, SLIDING, 1000),
        Window("rph", REQUESTS, SLIDING, 60_000),
        Window("rpd", REQUESTS, DAY),
        Window("tpm", TOKENS, SLIDING, 1000),
        Window("tph", TOKENS, SLIDING, 60_000),
        Window("tpd", TOKENS, DAY),
        Window("day", MONEY, DAY),
        Window("month", MONEY, MONTH),
        Window("total", MONEY, EVER),
    )
}
"""By name, in the order in which a refusal names the first that is used up."""
LONG = frozenset(name for name, window in WINDOWS.items() if window.kind in (DAY, MONTH, EVER))
"""Windows in which a mistake would last: a day, a month, all time."""


def period_of(kind: Period, at_ms: int, zone: ZoneInfo) -> tuple[int, int | None]:
    """(start, end) in milliseconds of the calendar day or month in which an instant lies; the end
    is the next one's start. ``ever`` starts at 0 and has no end."""
    if kind == EVER:
        return 0, None
    local = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone)
    day = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if kind == DAY:
        return _ms(day), _ms(day + timedelta(days=1))
    first = day.replace(day=1)
    return _ms(first), _ms((first + timedelta(days=32)).replace(day=1))


def _ms(local: datetime) -> int:
    return int(local.timestamp() * 1000)


class Usage:
    """What is used of one window. ``used`` says what counts at an instant; everything else is as of
    the instant that was last asked for. ``at_ms`` is when a call began, which names its bucket."""

    __slots__ = ("_now", "_total", "window")

    def __init__(self, window: Window) -> None:
        self.window = window
        self._now = 0
        self._total = 0

    def used(self, now_ms: int) -> int:
        """What counts now."""
        self._now = now_ms
        return self._total

    def add(self, at_ms: int, amount: int) -> None:
        """Count more, or less, of a call that began at ``at_ms``; what has left is left alone."""
        self._total += amount

    @property
    def start_ms(self) -> int:
        """When the period began that was last asked for; 0 where there is none."""
        return 0

    def counts(self, at_ms: int) -> bool:
        """Whether ``add`` counts a call that began at ``at_ms``."""
        return True

    def frees_at(self, amount: int, limit: int) -> int | None:
        """The first instant at which ``amount`` more would fit under the limit, None if never."""
        over = self._total + amount - limit
        if over <= 0:
            return self._now
        return None if amount > limit else self._leaves_at(over)

    def whole_at(self) -> int:
        """The instant at which nothing that counts now counts any more."""
        return self._now

    def _leaves_at(self, over: int) -> int | None:
        """The instant at which so much of what is used has left."""
        return None


class _Running(Usage):
    """Calls at one time: any of them may end in a moment."""

    __slots__ = ()

    def _leaves_at(self, over: int) -> int | None:
        return self._now + 1000


class _Sliding(Usage):
    """The last 60 buckets, with their running sum."""

    __slots__ = ("_amounts", "_bucket_ms", "_newest", "_oldest")

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self._bucket_ms = window.bucket_ms
        self._amounts: dict[int, int] = {}
        self._newest = self._oldest = 0

    def used(self, now_ms: int) -> int:
        self._now = now_ms
        oldest = now_ms // self._bucket_ms - BUCKETS
        if oldest != self._oldest:  # A clock that goes back is followed, too.
            self._oldest = oldest
            for bucket in [known for known in self._amounts if known < oldest]:
                self._total -= self._amounts.pop(bucket)
        return self._total

    def add(self, at_ms: int, amount: int) -> None:
        bucket = at_ms // self._bucket_ms
        if not amount or bucket < self._oldest:
            return
        self._total += amount
        left = self._amounts.get(bucket, 0) + amount
        if left:
            self._amounts[bucket] = left
            if bucket > self._newest:
                self._newest = bucket
        else:
            self._amounts.pop(bucket, None)
            if bucket == self._newest:
                self._newest = max(self._amounts, default=0)

    def whole_at(self) -> int:
        return self._end_of(self._newest) if self._amounts else self._now

    def _leaves_at(self, over: int) -> int | None:
        for bucket in sorted(self._amounts):
            over -= self._amounts[bucket]
            if over <= 0:
                return self._end_of(bucket)
        return None

    def _end_of(self, bucket: int) -> int:
        return (bucket + BUCKETS + 1) * self._bucket_ms


class _Calendar(Usage):
    """The day or the month that lasts now."""

    __slots__ = ("_end", "_start", "_zone")

    def __init__(self, window: Window, zone: ZoneInfo) -> None:
        super().__init__(window)
        self._zone = zone
        self._start = self._end = 0

    def used(self, now_ms: int) -> int:
        if not self._start <= now_ms < self._end:
            start, end = period_of(self.window.kind, now_ms, self._zone)
            if start != self._start:
                self._total = 0
            self._start, self._end = start, end or 0
        return self._total

    def add(self, at_ms: int, amount: int) -> None:
        if self._start <= at_ms < self._end:
            self._total += amount

    @property
    def start_ms(self) -> int:
        return self._start

    def counts(self, at_ms: int) -> bool:
        return self._start <= at_ms < self._end

    def whole_at(self) -> int:
        return self._end

    def _leaves_at(self, over: int) -> int | None:
        return self._end


def usage_of(window: Window, zone: ZoneInfo) -> Usage:
    """Nothing used yet of a window, in an owner's calendar."""
    if window.kind == SLIDING:
        return _Sliding(window)
    if window.kind in (DAY, MONTH):
        return _Calendar(window, zone)
    return _Running(window) if window.kind == NOW else Usage(window)


def seconds_until(at_ms: int, now_ms: int) -> int:
    """Whole seconds, at least one."""
    return max(1, ceil((at_ms - now_ms) / 1000))
