"""From a model's name to the keys that serve it."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xairouter.domain.accounts import ProviderKey
from xairouter.domain.calls import Plan, Refusal
from xairouter.policy.patterns import matches
from xairouter.policy.routing import choose, compile_catalogue, listed_models


def key(name: str, **fields: Any) -> ProviderKey:
    values: dict[str, Any] = {
        "id": f"pk_{name}",
        "owner_id": "acc",
        "name": name,
        "provider": "custom",
        "endpoints": {"openai_chat": "https://x.example"},
        "auth": {"openai_chat": "bearer"},
        "level": 1,
        "weight": 1,
        "models": None,
        "discovered": None,
        "status": "active",
        "revision": 1,
        "sealed": b"",
        "last4": None,
        "fingerprint": "",
        "health": "ok",
        "health_why": None,
        "created_at_ms": 0,
        **fields,
    }
    return ProviderKey(**values)


def chosen(keys: list[ProviderKey], model: str, dialect: str = "openai_chat", draw: int = 1) -> Any:
    plan = choose(compile_catalogue(keys), dialect, model, draw=draw)
    if isinstance(plan, Refusal):
        return plan.code
    return [(route.key.name, route.model) for route in plan.routes]


def test_what_the_owner_lists_replaces_what_was_discovered():
    keys = [key("a", models=("m",), discovered=("n",))]
    assert chosen(keys, "m") == [("a", "m")]
    assert chosen(keys, "n") == "model_not_found"


def test_an_exact_name_wins_over_reading_a_provider():
    keys = [
        key("openrouter", provider="openrouter", discovered=("openai/gpt",)),
        key("o", provider="openai", discovered=("gpt",)),
    ]
    assert chosen(keys, "openai/gpt") == [("openrouter", "openai/gpt")]
    assert chosen(keys, "openrouter/openai/gpt") == [("openrouter", "openai/gpt")]
    assert chosen(keys[1:], "openai/gpt") == [("o", "gpt")]


def test_a_provider_s_prefix_wins_over_a_key_that_takes_anything():
    keys = [key("any", models=("*",)), key("o", provider="openai", discovered=("gpt",))]
    assert chosen(keys, "openai/gpt") == [("o", "gpt")]


def test_a_key_that_was_never_asked_serves_only_what_no_other_knows():
    keys = [key("new"), key("old", discovered=("m",))]
    assert chosen(keys, "m") == [("old", "m")]
    assert chosen(keys, "other") == [("new", "other")]


def test_only_the_lowest_level_that_serves_the_model_is_used():
    keys = [key("a", level=2, models=("m",)), key("b", level=5, models=("m", "n"))]
    assert chosen(keys, "m") == [("a", "m")]
    assert chosen(keys, "n") == [("b", "n")]


def test_disabled_keys_are_not_there_and_rejected_ones_come_last():
    keys = [
        key("a", models=("m",), status="disabled"),
        key("b", models=("m",), health="rejected"),
        key("c", models=("m",)),
    ]
    for draw in range(20):
        assert [name for name, _ in chosen(keys, "m", draw=draw)] == ["c", "b"]
    assert chosen(keys[:1], "m") == "no_provider_key"


def test_another_dialect_is_named():
    keys = [key("a", endpoints={"anthropic_messages": "https://x"}, models=("claude",))]
    refusal = choose(compile_catalogue(keys), "openai_chat", "claude", draw=1)
    assert isinstance(refusal, Refusal)
    assert "anthropic_messages" in refusal.message


def test_weights_are_kept_over_many_draws():
    keys = [key("one", weight=1, models=("m",)), key("three", weight=3, models=("m",))]
    won = Counter(chosen(keys, "m", draw=draw)[0][0] for draw in range(4000))
    assert won["three"] / won["one"] == pytest.approx(3, rel=0.15)


@given(st.integers(0, 2**64 - 1))
def test_every_serving_key_of_the_level_is_in_the_plan_once(draw: int):
    keys = [key(name, models=("m",)) for name in "abcd"]
    plan = choose(compile_catalogue(keys), "openai_chat", "m", draw=draw)
    assert isinstance(plan, Plan)
    assert sorted(route.key.name for route in plan.routes) == list("abcd")


def test_patterns_add_no_names_to_the_list():
    keys = [key("a", models=("m", "x-*")), key("b", discovered=("n", "m"))]
    listed = listed_models(compile_catalogue(keys))
    assert list(listed) == ["m", "n"]
    assert [k.name for k in listed["m"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("pattern", "name", "covers"),
    [
        ("gpt-4*", "gpt-4o", True),
        ("gpt-4*", "gpt-4", True),
        ("*", "", True),
        ("a*c", "abc", True),
        ("a*c", "abcd", False),
        ("gpt", "GPT", False),
        ("a.b", "axb", False),
        ("[a]", "a", False),
        ("*-mini", "gpt-4o-mini", True),
        ("a*b*c", "a1b2c", True),
        ("m", "m\n", False),
    ],
)
def test_patterns_cover_the_whole_name(pattern: str, name: str, covers: bool):
    assert matches(pattern, name) is covers


@given(st.text(alphabet="ab*", max_size=12), st.text(alphabet="ab", max_size=12))
def test_matching_is_the_plain_definition(pattern: str, name: str):
    def plain(p: str, n: str) -> bool:
        if not p:
            return not n
        if p[0] == "*":
            return plain(p[1:], n) or (bool(n) and plain(p, n[1:]))
        return bool(n) and p[0] == n[0] and plain(p[1:], n[1:])

    assert matches(pattern, name) is plain(pattern, name)


def test_a_hostile_pattern_costs_no_more_than_its_length():
    """A regular expression would try more ways than there are atoms."""
    assert not matches("*a" * 120 + "*b", "a" * 250)
