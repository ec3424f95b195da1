"""Our integer prices against the price list's own calculator."""

from datetime import UTC, datetime

import pytest
from genai_prices.data import providers
from genai_prices.types import Usage as ListedUsage
from hypothesis import given
from hypothesis import strategies as st

from tests.rig import price_list
from xairouter.accounting.cost import cost_of
from xairouter.domain.calls import Usage
from xairouter.domain.prices import Condition, Price, Rate, Rates
from xairouter.policy.owner_prices import nano, read_prices

NOW = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
PLAIN = {
    "input_mtok",
    "output_mtok",
    "cache_read_mtok",
    "cache_write_mtok",
    "cache_write_1h_mtok",
    "web_searches_kcount",
    "storage_searches_kcount",
}


def _plain_models():
    for provider in providers:
        for model in provider.models if provider.id in price_list()._entries else ():
            prices = vars(model.get_prices(NOW))
            named = {name for name, value in prices.items() if value is not None}
            # The list leaves out what a call of some costs beside tokens: they have no price here.
            if {"input_mtok", "output_mtok"} <= named <= PLAIN and _entry(provider, model).price:
                yield provider, model


def _entry(provider, model):
    entries = price_list()._entries[provider.id]
    return next(entry for entry in entries if entry.matches == model.match)


MODELS = list(_plain_models())
tokens = st.integers(0, 2_000_000)


@given(st.sampled_from(MODELS), tokens, tokens, tokens, tokens)
def test_costs_agree_with_the_list_s_own_calculator(chosen, plain, read, written, output):
    provider, model = chosen
    entry = _entry(provider, model)
    usage = Usage(
        input_tokens=plain + read + written,
        cached_input_tokens=read,
        cache_write_tokens=written,
        output_tokens=output,
    )
    listed = model.calc_price(
        ListedUsage(
            input_tokens=plain + read + written,
            cache_read_tokens=read,
            cache_write_tokens=written,
            output_tokens=output,
        ),
        provider,
        genai_request_timestamp=NOW,
    )
    ours = cost_of(entry.price, usage, NOW_MS).nano
    assert ours is not None
    assert abs(ours - listed.total_price * 10**9) <= 1


def test_a_search_costs_the_same_with_every_model_of_a_provider_that_says_so():
    """The list has the fee in some rows only; coding agents offer the tool to every model."""
    for provider, model in (
        ("openai", "gpt-5.3-codex"), ("openai", "gpt-5.1-codex-mini"), ("openai", "o3-mini"),
        ("azure", "gpt-5.3-codex"), ("anthropic", "claude-haiku-4-5"),
    ):  # fmt: skip
        price = price_list().find(provider, model)
        assert price is not None
        assert [rates.rates["web_searches"] for rates in price.standard] == [Rate(10**13)]
    for provider, model in (("groq", "llama-3.3-70b-versatile"), ("openrouter", "openai/gpt-5")):
        price = price_list().find(provider, model)
        assert price is not None
        assert "web_searches" not in price.standard[0].rates
    assert price_list().find("openai", "gpt-4o-search-preview") is None


def test_there_are_many_models_to_compare():
    assert len(MODELS) > 500


def test_nothing_reported_costs_unknown_and_never_zero():
    price = price_list().find("openai", "gpt-4o")
    assert price is not None
    assert cost_of(price, Usage(), NOW_MS).nano is None
    assert price_list().find("openai", "no-such-model") is None
    assert price_list().find(None, "gpt-4o") is None


def test_a_used_part_without_a_rate_makes_the_cost_unknown():
    price = Price("t", (Rates({"input": Rate(10**9)}),))
    assert cost_of(price, Usage(input_tokens=5), NOW_MS).nano == 5000
    assert cost_of(price, Usage(input_tokens=5, output_tokens=1), NOW_MS).nano is None


def test_a_service_tier_has_its_own_price():
    price = price_list().find("openai", "gpt-4o")
    assert price is not None
    standard = cost_of(price, Usage(input_tokens=1_000_000, output_tokens=0), NOW_MS).nano
    tiered = Usage(input_tokens=1_000_000, output_tokens=0, service_tier="priority")
    priority = cost_of(price, tiered, NOW_MS).nano
    assert (standard, priority) == (2_500_000_000, 4_250_000_000)


def test_a_tier_s_cliff_applies_to_all_tokens():
    rate = Rate(100, ((200, 300),))
    assert [rate.at(n) for n in (0, 200, 201)] == [100, 100, 300]


@pytest.mark.parametrize(
    ("condition", "moment", "holds"),
    [
        (Condition(from_ms=5), 4, False),
        (Condition(from_ms=5), 5, True),
        (Condition(day_from_ms=10, day_until_ms=20), 86_400_000 + 15, True),
        (Condition(day_from_ms=10, day_until_ms=20), 20, False),
        (Condition(day_from_ms=80_000_000, day_until_ms=10), 5, True),
        (Condition(day_from_ms=80_000_000, day_until_ms=10), 50, False),
    ],
)
def test_conditions(condition: Condition, moment: int, holds: bool):
    assert condition.holds(moment) is holds


def test_own_prices_prefer_the_exact_name_then_the_longest_pattern():
    own = read_prices({"*": {"input": 1}, "gpt-*": {"input": 2}, "gpt-4o": {"input": 3}})
    found = [own.find(name) for name in ("x", "gpt-5", "gpt-4o")]
    assert [price.standard[0].rates["input"].base // 10**9 for price in found if price] == [1, 2, 3]


@pytest.mark.parametrize("bad", [-1, True, "x", None, float("nan"), float("inf"), 10**9, [1]])
def test_senseless_prices_are_refused(bad: object):
    with pytest.raises(ValueError, match="price"):
        nano(bad)
