"""From a model's name to the keys that serve it."""

from collections import Counter
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xairouter.domain.accounts import Account, ApiKey, OwnerSettings, ProviderKey
from xairouter.domain.calls import Refusal
from xairouter.policy.catalogue import compile_catalogue, listed_models
from xairouter.policy.interface import Caller, OwnerView
from xairouter.policy.owner_prices import OwnerPrices
from xairouter.policy.patterns import matches
from xairouter.policy.routing import choose, find_ways, usable_models
from xairouter.policy.rules import read_routing


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


def account(name: str, parent: str | None = None, **rules: Any) -> Account:
    """An account of the tree of “acc” with rules of its own."""
    text = msgspec.json.encode(rules).decode()
    return Account(name, "acc", parent, name, None, "active", True, 0, rules=text)


def caller(*chain: Account) -> Caller:
    found = chain or (account("acc"),)
    made = ApiKey("key", "acc", found[-1].id, "k", "call", "active", 0, None, None)
    return Caller.of(made, tuple(found), 1)


def view(keys: list[ProviderKey], **routing: Any) -> OwnerView:
    return OwnerView(
        "acc",
        1,
        OwnerSettings(),
        OwnerPrices(),
        {one.id: one for one in keys},
        compile_catalogue(keys),
        read_routing(routing),
    )


def chosen(
    keys: list[ProviderKey],
    model: str,
    dialect: str = "openai_chat",
    draw: int = 1,
    by: Caller | None = None,
    **routing: Any,
) -> Any:
    seen, who = view(keys, **routing), by or caller()
    plan = choose(find_ways(seen, who, dialect, model), dialect, draw=draw)
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
    seen, who = view(keys), caller()
    refusal = choose(find_ways(seen, who, "openai_chat", "claude"), "openai_chat", draw=1)
    assert isinstance(refusal, Refusal)
    assert "anthropic_messages" in refusal.message


def test_ways_that_are_known_hold_for_their_caller_and_their_view_alone():
    keys = [key("a", models=("m",))]
    seen, free, bound = (
        view(keys),
        caller(),
        caller(account("acc", model_map={"m": "other"})),
    )
    for _ in range(2):
        assert find_ways(seen, free, "openai_chat", "m").wanted.mapped.model == "m"
        assert find_ways(seen, bound, "openai_chat", "m").wanted.mapped.model == "other"
    assert replace(seen, revision=9).ways == {}


def test_weights_are_kept_over_many_draws():
    keys = [key("one", weight=1, models=("m",)), key("three", weight=3, models=("m",))]
    won = Counter(chosen(keys, "m", draw=draw)[0][0] for draw in range(4000))
    assert won["three"] / won["one"] == pytest.approx(3, rel=0.15)


@given(st.integers(0, 2**64 - 1))
def test_every_serving_key_of_the_level_is_in_the_plan_once(draw: int):
    keys = [key(name, models=("m",)) for name in "abcd"]
    assert sorted(name for name, _ in chosen(keys, "m", draw=draw)) == list("abcd")


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


def test_a_level_map_points_a_model_at_its_pool():
    keys = [key(f"l{n}", level=n, models=("gpt-4o", "gpt-4o-mini", "o3")) for n in (1, 2, 3)]
    routing = {"level_map": {"gpt-4*": 2, "gpt-4o-mini": 3}}
    assert chosen(keys, "gpt-4o", **routing) == [("l2", "gpt-4o")]
    assert chosen(keys, "gpt-4o-mini", **routing) == [("l3", "gpt-4o-mini")], "exact before longest"
    assert chosen(keys, "o3", **routing) == [("l1", "o3")]
    assert chosen(keys, "o3", level_map={"o3": 9}) == "model_not_found"


def test_switch_over_goes_on_from_level_to_level_and_round_no_loop():
    keys = [key(f"l{n}", level=n, models=("m",)) for n in (1, 2, 3, 4)]
    names = [name for name, _ in chosen(keys, "m", switch_over={"1": [3, 2], "3": [1], "2": [1]})]
    assert names == ["l1", "l3", "l2"]
    assert [n for n, _ in chosen(keys, "m", switch_over={})] == ["l1"]


def test_model_failover_comes_behind_and_only_where_the_rules_allow_it():
    keys = [key("a", models=("gpt-4o",)), key("b", models=("claude", "mini"))]
    routing = {"model_failover": {"gpt-4*": ["claude", "mini", "gpt-4o"], "claude": ["gpt-4o"]}}
    assert chosen(keys, "gpt-4o", **routing) == [("a", "gpt-4o"), ("b", "claude"), ("b", "mini")]
    narrow = caller(account("acc", allow_models=["gpt-*", "mini"]))
    assert chosen(keys, "gpt-4o", by=narrow, **routing) == [("a", "gpt-4o"), ("b", "mini")]
    assert chosen([keys[1]], "gpt-4o", **routing) == [("b", "claude"), ("b", "mini")]


def test_levels_outside_the_rules_are_skipped_or_refused():
    keys = [key(f"l{n}", level=n, models=("m",)) for n in (1, 2, 3)]
    only2 = caller(account("acc", allow_levels=[1, 2]), account("team", "acc", allow_levels=[2, 3]))
    assert chosen(keys, "m", by=only2) == [("l2", "m")]
    assert chosen(keys, "m", by=only2, level_map={"m": 1}) == "level_not_allowed"
    found = chosen(keys, "m", by=only2, level_map={"m": 1}, switch_over={"1": [3, 2]})
    assert found == [("l2", "m")]
    nowhere = caller(account("acc", allow_levels=[]))
    assert chosen(keys, "m", by=nowhere) == "level_not_allowed"


def test_the_nearest_account_s_map_wins_and_is_applied_once():
    keys = [key("a", models=("old", "mini", "large", "other"))]
    owner = account("acc", model_map={"old*": "large", "mini": "other"})
    team = account("team", "acc", model_map={"old": "mini"})
    assert chosen(keys, "old", by=caller(owner)) == [("a", "large")]
    assert chosen(keys, "old", by=caller(owner, team)) == [("a", "mini")]
    assert chosen(keys, "old-2", by=caller(owner, team)) == [("a", "large")]


def test_a_provider_s_front_is_stripped_before_rules_and_maps_look():
    keys = [key("o", provider="openai", discovered=("gpt", "mini")), key("z", models=("gpt",))]
    owner = account("acc", model_map={"gpt": "mini"})
    assert chosen(keys, "openai/gpt", by=caller(owner)) == [("o", "mini")]


def test_the_list_shows_exactly_what_may_be_used():
    keys = [
        key("a", models=("gpt-4o", "gpt-4o-mini")),
        key("b", level=2, models=("claude",)),
        key("c", models=("local-*",)),
    ]
    seen = view(keys)
    assert list(usable_models(seen, caller())) == ["claude", "gpt-4o", "gpt-4o-mini"]
    narrow = caller(account("acc", allow_models=["gpt-4o", "claude", "old", "local-x"]))
    assert list(usable_models(seen, narrow)) == ["claude", "gpt-4o"]
    low = caller(account("acc", allow_levels=[1]))
    assert list(usable_models(seen, low)) == ["gpt-4o", "gpt-4o-mini"]
    mapped = caller(
        account("acc", allow_models=["gpt-4o", "old", "mine", "local-x"]),
        account("t", "acc", model_map={"old": "gpt-4o", "claude": "gpt-4o", "mine": "local-x"}),
    )
    assert list(usable_models(seen, mapped)) == ["gpt-4o", "mine", "old"]


@given(
    st.lists(st.sampled_from(["m", "x-*", "*", "gpt", "x-1"]), max_size=3),
    st.lists(st.sampled_from(["m", "x-*", "*", "gpt", "x-1"]), max_size=3),
    st.sampled_from(["m", "x-1", "x-2", "gpt", "none"]),
)
def test_what_is_listed_can_be_called_and_what_is_refused_is_not_listed(one, two, asked):
    keys = [key("a", models=("m", "x-1", "x-2", "gpt"))]
    who = caller(account("acc", allow_models=one), account("t", "acc", allow_models=two))
    seen = view(keys)
    listed = set(usable_models(seen, who))
    allowed = all(any(matches(p, asked) for p in some) for some in (one, two))
    assert (asked in listed) == (allowed and asked != "none")
