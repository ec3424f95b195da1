"""A reply that was served at other rates than the standard ones costs what those say, or nobody knows
what: never the standard ones."""

from typing import Any

import pytest

from tests.rig import price_list
from tests.rows import for_each
from xairouter.accounting.cost import cost_of
from xairouter.accounting.counts import Reserved, final_counts, open_counts
from xairouter.accounting.words import AT_BASE, NO_DEARER, joined
from xairouter.domain.calls import Usage
from xairouter.domain.prices import Condition, Price, Rate, Rates

DOLLAR = 10**9
BASE = {"input": Rate(DOLLAR), "cached_input": Rate(DOLLAR // 10), "output": Rate(2 * DOLLAR)}
TWICE = {"input": Rate(2 * DOLLAR), "output": Rate(4 * DOLLAR)}
PRICE = Price(
    "t",
    (Rates({**BASE, "web_searches": Rate(10**13)}),),
    (
        Rates(TWICE, tier="priority"),
        Rates({"input": Rate(3 * DOLLAR)}, Condition(from_ms=100), "late"),
    ),
)


def _usage(tier: str | None = None, **detail: Any) -> Usage:
    return Usage(input_tokens=1000, output_tokens=1000, service_tier=tier, detail=detail)


@for_each("word", sorted(AT_BASE | {w.upper() for w in AT_BASE}))
def test_words_of_the_standard_cost_the_standard(word: str):
    for usage in (_usage(word), _usage(speed=word), _usage(inference_geo=word)):
        assert cost_of(PRICE, usage, 0).nano == 3_000_000


@pytest.mark.parametrize("word", sorted(NO_DEARER))
def test_words_of_cheaper_rates_cost_no_more_than_the_standard(word: str):
    assert cost_of(PRICE, _usage(word), 0).nano == 3_000_000


@pytest.mark.parametrize("word", ["priority", "PRIORITY", "SERVICE_TIER_PRIORITY"])
def test_a_word_that_the_price_knows_costs_its_own_rates(word: str):
    assert cost_of(PRICE, _usage(word), 0).nano == 6_000_000
    assert cost_of(PRICE, _usage(trafficType="ON_DEMAND_PRIORITY"), 0).nano == 6_000_000


@for_each(
    "usage",
    [
        _usage("turbo"),
        _usage("scale"),
        _usage("performance"),
        _usage("late"),
        _usage(speed="fast"),
        _usage(inference_geo="us"),
        _usage("priority", speed="fast"),
        _usage("standard", inference_geo="eu"),
        _usage(trafficType="PROVISIONED_THROUGHPUT"),
        _usage(code_interpreter_calls=1),
        _usage(image_generation_calls=1),
        _usage(file_search_calls=2),
        _usage(**{"completion_tokens_details.audio_tokens": 5}),
        _usage(**{"completion_tokens_details.image_tokens": 5}),
        _usage(**{"candidatesTokensDetails.IMAGE": 5}),
        _usage(**{"candidatesTokensDetails.AUDIO": 5}),
        _usage(**{"candidatesTokensDetails.VIDEO": 5}),
    ],
)
def test_what_has_no_rate_costs_nobody_knows_what(usage: Usage):
    cost = cost_of(PRICE, usage, 0)
    assert cost.nano is None
    assert cost.rates == {}
    assert 2_900_000 < cost.at_least <= 3_000_000


def test_a_rate_that_begins_later_is_not_known_before():
    assert cost_of(PRICE, _usage("late"), 99).nano is None
    assert cost_of(PRICE, Usage(input_tokens=1000, service_tier="late"), 100).nano == 3_000_000


def test_a_dearer_tier_never_borrows_a_standard_rate_of_tokens():
    cached = Usage(
        input_tokens=1000, cached_input_tokens=1000, output_tokens=0, service_tier="priority"
    )
    assert cost_of(PRICE, cached, 0).nano == 2_000_000, "the tier's own input, not the standard's"
    searched = _usage("priority", web_search_calls=2)
    assert cost_of(PRICE, searched, 0).nano == 6_000_000 + 2 * 10**7


@pytest.mark.parametrize(
    "name", ["server_tool_use.web_search_requests", "web_search_calls", "num_search_queries"]
)
def test_searches_without_a_rate_are_a_fee_that_nobody_knows(name: str):
    assert cost_of(PRICE, _usage(**{name: 3}), 0).nano == 3_000_000 + 3 * 10**7
    bare = Price("t", (Rates(BASE),))
    assert cost_of(bare, _usage(**{name: 3}), 0).nano is None
    by_request = Price("t", (Rates({**BASE, "requests": Rate(10**12)}),))
    assert cost_of(by_request, _usage(**{name: 3}), 0).nano == 3_000_000 + 10**6


@for_each(
    ("provider", "model", "usage", "micros"),
    [
        ("anthropic", "claude-opus-5", _usage("standard"), 30_000),
        ("anthropic", "claude-opus-5", _usage("standard", speed="fast"), 60_000),
        ("anthropic", "claude-opus-5", _usage("standard", inference_geo="us"), 33_000),
        ("anthropic", "claude-opus-5", _usage(speed="fast", inference_geo="us"), 66_000),
        ("anthropic", "claude-opus-5", _usage(inference_geo="not_available"), 30_000),
        ("anthropic", "claude-opus-5", _usage("priority"), None),
        ("anthropic", "claude-haiku-4-5", _usage(speed="fast"), None),
        ("openai", "gpt-4o", _usage("default"), 12_500),
        ("openai", "gpt-4o", _usage("scale"), None),
        ("openai", "gpt-3.5-turbo", _usage("priority"), None),
        ("openai", "gpt-4o", _usage(file_search_calls=2), 17_500),
        ("google", "gemini-2.5-flash-image", _usage(), 2_800),
        (
            "google",
            "gemini-2.5-flash-image",
            _usage(**{"candidatesTokensDetails.IMAGE": 1000}),
            30_300,
        ),
        ("google", "gemini-2.5-flash-tts", _usage(**{"candidatesTokensDetails.AUDIO": 9}), 10_500),
        ("google", "gemini-2.5-flash", _usage(**{"candidatesTokensDetails.AUDIO": 9}), None),
    ],
)
def test_the_price_list_s_own_words(provider: str, model: str, usage: Usage, micros: int | None):
    price = price_list().find(provider, model)
    assert price is not None
    now = 1_795_000_000_000
    assert cost_of(price, usage, now).nano == (None if micros is None else micros * 1000)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o-search-preview"),
        ("openai", "gpt-5-search-api"),
        ("openai", "gpt-4o-audio-preview"),
        ("openai", "whisper-1"),
        ("perplexity", "sonar-deep-research"),
    ],
)
def test_a_listed_price_that_leaves_out_what_is_billed_is_none(provider: str, model: str):
    assert price_list().find(provider, model) is None


def test_an_unknown_cost_counts_as_reserved_and_no_less_than_is_certain():
    usage = Usage(input_tokens=1, output_tokens=1, service_tier="turbo", cost_nano=700)
    cost = cost_of(PRICE, usage, 0)
    assert cost.at_least == 3000
    assert final_counts(usage, cost, Reserved(9, 5000)) == (2, 5000)
    assert final_counts(usage, cost, Reserved(9, 10)) == (2, 3000)
    assert open_counts(usage, cost, Reserved(9, 10)) == (9, 3000)
    stated = Usage(input_tokens=1, output_tokens=1, service_tier="turbo", cost_nano=9000)
    assert final_counts(stated, cost, Reserved(9, 10)) == (2, 9000)


def test_words_join_in_one_order():
    assert joined(["us", "Fast", None, 3, "standard"]) == "fast+us"
    assert joined([]) is None
