"""What a reply may claim about its usage, and what of it is believed."""

import msgspec

from xairouter.dialects.interface import MOST_TOKENS, Tally


def test_numbers_and_names_beyond_reason_are_not_believed():
    tally = Tally()
    tally.add_usage(
        {
            "prompt_tokens": MOST_TOKENS + 1,
            "completion_tokens": 10**30,
            "total_tokens": -1,
            "n" * 10_000: 5,
            "details": {"audio": 10**25, "text": 7},
        }
    )
    assert tally.count("prompt_tokens") is None
    assert tally.count("completion_tokens") is None
    assert tally.count("total_tokens") is None
    detail = tally.detail(frozenset())
    assert detail["details.text"] == 7
    assert max(len(name) for name in detail) < 200
    msgspec.msgpack.encode(dict(detail))


def test_the_largest_count_that_is_believed_is_counted():
    tally = Tally()
    tally.add_usage({"prompt_tokens": MOST_TOKENS, "completion_tokens": 3.0})
    assert tally.count("prompt_tokens") == MOST_TOKENS
    assert tally.count("completion_tokens") == 3
