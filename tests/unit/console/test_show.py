"""How figures are written: exact under the pointer, an em dash where nothing is known."""

import re
from zoneinfo import ZoneInfo

import pytest

from xairouter.clock import now_ms
from xairouter.console.show import NOTHING, Show
from xairouter.console.words import languages

SHOW = Show(languages()["en"], ZoneInfo("Europe/Paris"))


def text(markup: str) -> str:
    return re.sub(r"<[^>]+>", "", markup)


@pytest.mark.parametrize(
    ("usd", "shown"),
    [
        (0.0, "$0.00"),
        (1234.5, "$1,234.50"),
        (0.25, "$0.25"),
        (0.000123456, "$0.0001235"),
        (0.000000001, "$0.000000001"),
    ],
)
def test_money_has_the_precision_that_matters(usd: float, shown: str):
    assert text(SHOW.money(usd)) == shown
    assert f'value="{usd:.9f}"' in SHOW.money(usd)


def test_money_is_shown_in_the_owner_s_currency_and_stays_in_dollars_under_the_pointer():
    euros = Show(languages()["en"], ZoneInfo("UTC"), "EUR", 0.5)
    assert text(euros.money(3.0)) == "€1.50"
    assert 'title="3 USD"' in euros.money(3.0)
    assert 'value="1.500000000"' in euros.money(3.0), "charts draw what is shown"
    assert (euros.unit, SHOW.unit) == ("€", "$")
    assert text(Show(languages()["en"], ZoneInfo("UTC"), "CHF", 1.0).money(2.0)) == "2.00 CHF"


def test_nothing_known_is_an_em_dash():
    assert SHOW.money(None) == SHOW.tokens(None) == SHOW.count(None) == NOTHING
    assert SHOW.duration(None) == SHOW.ago(None) == SHOW.clock(None) == NOTHING
    assert SHOW.share(None, 5) == SHOW.share(1, 0) == NOTHING


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (999, "999"), (12_400, "12.4 k"), (3_000_000, "3 M"), (2 * 10**12, "2 T")],
)
def test_tokens_are_short_and_exact_under_the_pointer(value: int, shown: str):
    assert text(SHOW.tokens(value)) == shown
    assert f'title="{value:,}"' in SHOW.tokens(value)


def test_counts_are_whole_up_to_five_digits():
    assert text(SHOW.count(99_999)) == "99,999"
    assert text(SHOW.count(1_234_567)) == "1.23 M"


@pytest.mark.parametrize(
    ("past_ms", "shown"),
    [
        (5_000, "just now"),
        (180_000, "3 min ago"),
        (7_200_000, "2 h ago"),
        (-1000, "in a moment"),
        (-3_600_000 * 5 - 60_000, "in 5 h"),
    ],
)
def test_instants_are_told_by_their_distance(past_ms: int, shown: str):
    found = SHOW.ago(now_ms() - past_ms)
    assert text(found) == shown
    assert "CET" in found or "CEST" in found, "the instant in the owner's zone under the pointer"


def test_an_instant_far_off_is_a_date_in_the_owner_s_zone():
    assert text(SHOW.ago("2025-01-31T23:30:00Z")) == "1 Feb 2025"
    assert text(SHOW.clock("2025-06-30T22:15:09Z")) == "1 Jul 00:15:09"


def test_durations_and_shares():
    assert text(SHOW.duration(950)) == "950 ms"
    assert text(SHOW.duration(61_500)) == "61.5 s"
    assert text(SHOW.share(1, 3)) == "33 %"
    assert text(SHOW.share(0, 3)) == "0 %"
    assert text(SHOW.share(1, 300)) == "0.3 %"
