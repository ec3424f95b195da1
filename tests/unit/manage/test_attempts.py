"""Repetition at speed is held off by name, in bounded memory."""

import pytest

from xairouter.errors import ManageError
from xairouter.manage.attempts import (
    MOST_NAMES,
    SHARED_COUNTERS,
    Attempts,
    name_of_secret,
)
from xairouter.policy.networks import name_of_address


def test_so_many_in_a_minute_and_then_a_wait():
    now = 0.0
    attempts = Attempts(10, lambda: now)
    for second in range(10):
        now = float(second)
        assert attempts.wait("1.2.3.4") == 0
        attempts.count("1.2.3.4")
    assert attempts.wait("1.2.3.4") == 51
    assert attempts.wait("5.6.7.8") == 0, "others are not kept waiting"
    assert attempts.wait("5.6.7.8", "1.2.3.4") == 51, "one of the names is enough"
    with pytest.raises(ManageError) as refused:
        attempts.refuse_waiting("5.6.7.8", "1.2.3.4")
    assert (refused.value.code, refused.value.retry_after) == ("rate_limited", 51)
    now = 60.5
    assert attempts.wait("1.2.3.4") == 0
    attempts.count("1.2.3.4")
    assert attempts.wait("1.2.3.4") == 1, "the window slides"


def test_many_names_push_no_counter_out():
    now = 0.0
    attempts = Attempts(2, lambda: now)
    attempts.count("first")
    attempts.count("first")
    for number in range(MOST_NAMES + 5 * SHARED_COUNTERS):
        attempts.count(str(number))
    assert len(attempts._counted) <= MOST_NAMES + SHARED_COUNTERS, "bounded"
    assert attempts.wait("first") > 0, "still counted, however many came after it"
    for _ in range(2):
        attempts.count("late")
    assert attempts.wait("late") > 0, "counted with others where there is no room"
    now = 60.5
    attempts.count("next")
    assert len(attempts._counted) == 1, "what is a minute old makes room"


def test_an_attempt_taken_back_was_none():
    attempts = Attempts(2, lambda: 0.0)
    attempts.count("a", "b")
    for _ in range(5):
        attempts.take_back(attempts.start("a"))
    attempts.count("a")
    assert (attempts.wait("a") > 0, attempts.wait("b")) == (True, 0)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("a name", "another", False),
    ],
)
def test_a_host_s_ipv6_addresses_are_one_name(one: str, other: str, same: bool):
    assert (name_of_address(one) == name_of_address(other)) is same


def test_a_secret_s_name_shows_nothing_of_it():
    secret = "sk-Xvs\ud800" + "a" * 45
    assert name_of_secret(secret) == name_of_secret(secret) != name_of_secret(secret + "b")
    assert len(name_of_secret(secret)) == 32
