"""One limit's use while recorded calls are played through in time."""

import heapq
from collections import deque
from zoneinfo import ZoneInfo

from xairouter.policy.limits import Demand
from xairouter.policy.windows import BUCKETS, EVER, NOW, SLIDING, WINDOWS, period_of


class Meter:
    """One limit's use, moved on in time only."""

    __slots__ = ("_bucket_ms", "_ends", "_kept", "_kind", "_period_end", "_zone", "total", "unit")

    def __init__(self, demand: Demand, zone: ZoneInfo) -> None:
        window = WINDOWS[demand.name]
        self.unit = window.unit
        self._kind = window.kind
        self._bucket_ms = window.bucket_ms
        self._zone = zone
        self._kept: deque[list[int]] = deque()
        self._ends: list[int] = []
        self._period_end = 0
        self.total = 0

    def at(self, now_ms: int) -> int:
        """What counts at an instant."""
        if self._kind == SLIDING:
            oldest = now_ms // self._bucket_ms - BUCKETS
            kept = self._kept
            while kept and kept[0][0] < oldest:
                self.total -= kept.popleft()[1]
        elif self._kind == NOW:
            while self._ends and self._ends[0] <= now_ms:
                heapq.heappop(self._ends)
            self.total = len(self._ends)
        elif self._kind != EVER and now_ms >= self._period_end:
            self._period_end = period_of(self._kind, now_ms, self._zone)[1] or 0
            self.total = 0
        return self.total

    def add(self, at_ms: int, amount: int, ends_ms: int) -> None:
        if self._kind == NOW:
            heapq.heappush(self._ends, ends_ms)
            return
        self.total += amount
        if self._kind == SLIDING:
            bucket = at_ms // self._bucket_ms
            if self._kept and self._kept[-1][0] == bucket:
                self._kept[-1][1] += amount
            else:
                self._kept.append([bucket, amount])
