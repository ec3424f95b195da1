"""Windows of limits: the running sum says what adding everything up anew would."""

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xairouter.policy.windows import BUCKETS, WINDOWS, usage_of

UTC = ZoneInfo("UTC")
HOUR = 3_600_000


class Plain:
    """A sliding window as its definition says: every amount is kept, and looked at anew."""

    def __init__(self, bucket_ms: int) -> None:
        self._bucket_ms = bucket_ms
        self._amounts: list[tuple[int, int]] = []

    def add(self, at_ms: int, amount: int) -> None:
        self._amounts.append((at_ms // self._bucket_ms, amount))

    def used(self, now_ms: int) -> int:
        oldest = now_ms // self._bucket_ms - BUCKETS
        self._amounts = [(bucket, amount) for bucket, amount in self._amounts if bucket >= oldest]
        return sum(amount for _, amount in self._amounts)


@given(
    steps=st.lists(
        st.tuples(st.integers(-90_000, 90_000), st.integers(0, 70_000), st.integers(-5, 20)),
        max_size=60,
    )
)
def test_a_sliding_window_counts_what_its_definition_says(steps: list[tuple[int, int, int]]):
    """Time goes on, and at times back; calls began a while ago."""
    usage, plain, now = usage_of(WINDOWS["rpm"], UTC), Plain(1000), 10 * HOUR
    for ahead, ago, amount in steps:
        now += ahead
        usage.used(now)
        plain.used(now)
        usage.add(now - ago, amount)
        plain.add(now - ago, amount)
        assert usage.used(now) == plain.used(now)
        if usage.used(now):
            assert usage.whole_at() >= now - 1000


@pytest.mark.parametrize("name", ["rpm", "rph", "rpd", "day"])
def test_a_clock_that_goes_back_still_counts(name: str):
    usage = usage_of(WINDOWS[name], UTC)
    now = 50 * 24 * HOUR + 12 * HOUR
    for back in (0, 2 * HOUR):
        usage.used(now - back)
        usage.add(now - back, 1)
    assert usage.used(now - 2 * HOUR) == 2
