"""One counter in this process's memory, and how it stands beside calls under way."""

import asyncio
from collections.abc import Iterable, Mapping
from zoneinfo import ZoneInfo

from xairouter.counters.interface import Held, Standing
from xairouter.policy.limits import Key
from xairouter.policy.windows import Window, usage_of


class MemoryCounter:
    """A counter. Until it ``is_ready`` its past is being read, and ``filled`` is waited for;
    ``failed`` says why that could not be."""

    __slots__ = (
        *("corrected", "ended", "failed", "filled", "is_ready", "number", "running", "unit"),
        *("usage", "zone"),
    )

    def __init__(self, window: Window, zone: ZoneInfo, number: int) -> None:
        self.number, self.corrected = number, 0
        self.usage = usage_of(window, zone)
        self.unit = window.unit
        self.zone = zone
        self.is_ready = False
        self.filled = asyncio.Event()
        self.failed: str | None = None
        self.ended: set[str] = set()
        self.running: dict[str, int] = {}

    @property
    def mark(self) -> str:
        """Another one for each counter, period and correction."""
        return f"{self.number}/{self.usage.start_ms}/{self.corrected}"

    def is_of(self, zone: ZoneInfo) -> bool:
        """Whether it counts, by this calendar."""
        return self.is_ready and self.zone == zone

    def be_ready(self) -> None:
        """Let those go on who wait."""
        self.is_ready = True
        self.filled.set()


def standing_of(
    counters: Mapping[Key, MemoryCounter], running: Iterable[Held], now_ms: int
) -> dict[Key, Standing]:
    """What has ended in counters: without what calls under way have reserved there."""
    settled = {key: counter.usage.used(now_ms) for key, counter in counters.items()}
    for held in running:
        for demand in held.demands:
            there = counters.get(demand.key)
            if there is not None and there.usage.counts(held.call.at_ms):
                settled[demand.key] -= demand.amount
    return {key: Standing(settled[key], counter.mark) for key, counter in counters.items()}
