"""Instants: what a word without a zone means does not depend on where the machine stands."""

import time
from datetime import datetime, timedelta, timezone

import pytest

from xairouter.clock import as_ms, parse_instant


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
