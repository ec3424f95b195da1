"""Prices as values: rates by unit, tiers, and when they hold.

A rate is nano-dollars per million units (so $2.50 per million tokens is 2 500 000 000).
"""

from collections.abc import Mapping
from dataclasses import dataclass

_DAY_MS = 86_400_000
FEES = frozenset({"requests", "storage_searches", "web_searches"})
"""Units that are no tokens."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate with the cliffs of tiered prices: the last tier whose start is below the call's
    input tokens applies to all of them."""

    base: int
    tiers: tuple[tuple[int, int], ...] = ()

    def at(self, input_tokens: int) -> int:
        chosen = self.base
        for start, rate in self.tiers:
            if input_tokens > start:
                chosen = rate
        return chosen


@dataclass(frozen=True, slots=True)
class Condition:
    """When a set of rates holds: from an instant on, or between two times of the UTC day."""

    from_ms: int | None = None
    day_from_ms: int | None = None
    day_until_ms: int | None = None

    def holds(self, now_ms: int) -> bool:
        if self.from_ms is not None and now_ms < self.from_ms:
            return False
        if self.day_from_ms is None or self.day_until_ms is None:
            return True
        of_day = now_ms % _DAY_MS
        if self.day_until_ms < self.day_from_ms:
            return of_day >= self.day_from_ms or of_day < self.day_until_ms
        return self.day_from_ms <= of_day < self.day_until_ms


@dataclass(frozen=True, slots=True)
class Rates:
    """Rates by unit, under a condition, optionally for one service tier or the like only.

    Units: input, cached_input, cache_write, cache_write_1h, output, input_audio, cached_audio,
    output_audio, the same of images and video, and ``FEES``. ``tier`` is the word of the rates (see
    ``accounting/words.py``).
    """

    rates: Mapping[str, Rate]
    condition: Condition | None = None
    tier: str | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """One model's price: standard rates (a later one that holds wins), and those of service tiers and the
    like, which leave fees as they are."""

    version: str
    standard: tuple[Rates, ...]
    overrides: tuple[Rates, ...] = ()
