"""Ranges of time: days are the owner's, whatever the clocks do."""

from zoneinfo import ZoneInfo

import pytest

from xairouter.clock import parse_instant, rfc3339
from xairouter.console.ranges import HOUR_MS, read_range
from xairouter.errors import ManageError

PARIS = ZoneInfo("Europe/Paris")
NOW = parse_instant("2026-03-30T10:20:30Z")  # a day after the clocks went forward there


def test_today_begins_at_the_owner_s_midnight_and_goes_by_the_hour():
    span = read_range({"range": "today"}, PARIS, NOW, "7d")
    assert rfc3339(span.from_ms) == "2026-03-29T22:00:00.000Z"
    assert (span.step, span.until_ms, len(span.buckets())) == ("hour", None, 13)


def test_days_have_as_many_hours_as_they_have():
    span = read_range({"range": "7d"}, PARIS, NOW, "today")
    buckets = span.buckets()
    assert [rfc3339(at)[5:16] for at in buckets[-3:]] == [
        "03-27T23:00",
        "03-28T23:00",
        "03-29T22:00",
    ]
    assert buckets[-1] - buckets[-2] == 23 * HOUR_MS


def test_sums_by_the_hour_become_days_of_the_owner_and_empty_days_stay():
    span = read_range({"from": "2026-03-28", "to": "2026-03-31"}, PARIS, NOW, "today")
    hours = [
        {"hour": "2026-03-28T22:00:00.000Z", "calls": 1},
        {"hour": "2026-03-28T23:00:00.000Z", "calls": 2},
        {"hour": "2026-03-29T21:00:00.000Z", "calls": 4},
        {"hour": "2026-03-29T22:00:00.000Z", "calls": None},
    ]
    assert [row["calls"] for row in span.series(hours, ("calls",))] == [1, 6, 0, 0]


def test_a_range_of_two_days_goes_by_the_hour_and_holds_its_last_day():
    span = read_range({"from": "2026-03-01", "to": "2026-03-02"}, PARIS, NOW, "today")
    assert (span.step, len(span.buckets())) == ("hour", 48)
    assert span.name == "own"


@pytest.mark.parametrize("name", ["24h", "30d", "month", "12m", "nonsense"])
def test_every_name_is_a_range(name: str):
    span = read_range({"range": name}, PARIS, NOW, "today")
    assert span.from_ms < NOW
    assert 1 <= len(span.buckets()) <= 400


@pytest.mark.parametrize(
    "query",
    [
        {"from": "yesterday"},
        {"from": "2026-03-05", "to": "2026-03-01"},
        {"from": "1900-01-01"},
        {"from": "2026-03-05", "to": "<script>"},
        {"from": "9999-12-31T23:59:59Z"},
    ],
)
def test_what_is_no_range_is_refused_in_words(query: dict[str, str]):
    with pytest.raises(ManageError):
        read_range(query, PARIS, NOW, "today")
