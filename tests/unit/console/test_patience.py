"""Guessing is slowed down by address, in bounded memory."""

from xairouter.console.patience import MOST_ADDRESSES, MOST_TRIES, Patience


def test_ten_wrong_tries_a_minute_and_then_a_wait():
    now = 0.0
    patience = Patience(lambda: now)
    for second in range(MOST_TRIES):
        now = float(second)
        assert patience.wait("1.2.3.4") == 0
        patience.failed("1.2.3.4")
    assert patience.wait("1.2.3.4") == 51
    assert patience.wait("5.6.7.8") == 0, "others are not kept waiting"
    now = 60.5
    assert patience.wait("1.2.3.4") == 0


def test_addresses_are_forgotten_before_they_are_too_many():
    patience = Patience(lambda: 0.0)
    for number in range(MOST_ADDRESSES + 50):
        patience.failed(str(number))
    assert len(patience._failed) == MOST_ADDRESSES
