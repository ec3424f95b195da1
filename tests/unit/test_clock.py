"""Instants and ids: a time without a zone means UTC wherever the machine stands, and an id says when it
was made."""

import time
from datetime import datetime, timedelta, timezone

import pytest

from tests.rows import for_each
from xairouter import clock
from xairouter.clock import as_ms, format_id, fresh_id, made_at_ms, parse_instant


@pytest.fixture
def _elsewhere(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_elsewhere")
def test_without_a_zone_it_is_utc():
    assert as_ms(datetime(1970, 1, 2)) == 86_400_000  # noqa: DTZ001 -- no zone is the point
    assert as_ms(datetime(1970, 1, 2, tzinfo=timezone(timedelta(hours=1)))) == 82_800_000
    assert parse_instant("1970-01-02T00:00:00") == 86_400_000
    assert as_ms(None) is None


# On both sides of each border between the digits that an id's beginning is put together from.
BORDERS = [0, *((1 << bits) - 1 for bits in range(1, 48)), *(1 << bits for bits in range(48))]


@for_each("at_ms", BORDERS)
def test_a_fresh_id_says_when_it_was_made(monkeypatch: pytest.MonkeyPatch, at_ms: int):
    monkeypatch.setattr(clock, "now_ms", lambda: at_ms)
    made = fresh_id("call")
    assert made_at_ms(made) == at_ms
    # 48 bits of time and 80 of chance, in the layout of an id with known chance.
    assert len(made) == len("call_") + 26
    assert made[:15] == format_id("call", at_ms, 0)[:15]


def test_fresh_ids_differ_and_use_every_digit():
    # More than a block of random digits is asked for at once.
    made = [fresh_id("call")[-16:] for _ in range(2000)]
    assert len(set(made)) == len(made)
    for digits in zip(*made, strict=True):
        assert set(digits) == set("0123456789abcdefghjkmnpqrstvwxyz")
