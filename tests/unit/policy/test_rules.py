"""Containment of patterns and networks, effective rules, and what is wider than a parent."""

import ipaddress
import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.policy.test_routing import account, caller
from xairouter.policy.access import mapped_model, who_forbids
from xairouter.policy.networks import Networks, parse_network
from xairouter.policy.patterns import PatternSet, best_match, is_within, matches
from xairouter.policy.rules import (
    compile_text,
    effective,
    is_path_within,
    read_rules,
    wider_than,
    write_rules,
)

PATTERNS = st.text(alphabet="ab*", max_size=6)
WORDS = ["".join(w) for n in range(7) for w in itertools.product("abc", repeat=n)]
"""Every word over three letters, one of which no pattern names: it stands for all others."""


@pytest.mark.parametrize(
    ("pattern", "others", "within"),
    [
        ("claude-3*", ["claude-*"], True),
        ("claude-*", ["claude-3*"], False),
        ("gpt-4o", ["gpt-4o", "x"], True),
        ("*", ["*"], True),
        ("a*", ["*a*"], True),
        ("*", ["a*", "b*"], False),
        ("gpt-4o*", ["gpt-4o", "gpt-4o-*"], False),
        ("a*b", ["a*", "x"], True),
        ("**", ["*"], True),
        ("ab*", ["a*c", "a*b"], False),
        ("x*y", ["x*", "*z"], True),
        ("", ["*"], True),
        ("a", [], False),
    ],
)
def test_containment_of_patterns(pattern: str, others: list[str], within: bool):
    assert is_within(pattern, others) is within


@settings(max_examples=300, deadline=None)
@given(PATTERNS, st.lists(PATTERNS, max_size=3))
def test_containment_is_what_brute_force_says(pattern: str, others: list[str]):
    by_force = all(
        any(matches(other, word) for other in others) for word in WORDS if matches(pattern, word)
    )
    if is_within(pattern, others):
        assert by_force
    else:
        # Words of up to six letters tell patterns of up to six letters apart, but for what only
        # longer words show: then no answer of brute force contradicts.
        longer = [
            p.replace("*", fill) for p in [pattern] for fill in ("c" * 8, "ab" * 5, "ba" * 5, "")
        ]
        assert not by_force or any(
            matches(pattern, word) and not any(matches(o, word) for o in others) for word in longer
        )


@given(PATTERNS, PATTERNS)
def test_containment_of_one_in_one_is_exact(pattern: str, other: str):
    by_force = all(matches(other, word) for word in WORDS if matches(pattern, word))
    # Over an alphabet with a letter that neither names, short words decide.
    assert is_within(pattern, [other]) is by_force


def test_what_is_too_hard_to_decide_counts_as_wider():
    hard = ["*" + "a*" * 12 + letter + "*" for letter in "bcdefg"]
    assert not is_within("*a*a*a*a*a*a*a*a*a*a*z*", hard)


@given(st.lists(PATTERNS, max_size=4), st.text(alphabet="abc", max_size=5))
def test_a_set_of_patterns_covers_what_one_of_them_matches(patterns: list[str], name: str):
    made = PatternSet(patterns)
    for _ in range(2):
        assert made.covers(name) is any(matches(one, name) for one in patterns)


@pytest.mark.parametrize(
    ("network", "others", "within"),
    [
        ("10.1.0.0/16", ["10.0.0.0/8"], True),
        ("10.0.0.0/8", ["10.1.0.0/16"], False),
        ("10.0.0.0/8", ["10.0.0.0/9", "10.128.0.0/9"], True),
        ("10.0.0.0/7", ["10.0.0.0/8"], False),
        ("2001:db8::/48", ["2001:db8::/32"], True),
        ("::ffff:10.0.0.1", ["10.0.0.0/8"], True),
        ("10.0.0.1", ["::/0"], False),
        ("0.0.0.0/0", ["0.0.0.0/1", "128.0.0.0/1"], True),
        ("10.0.0.7", [], False),
    ],
)
def test_containment_of_networks(network: str, others: list[str], within: bool):
    assert Networks(others).covers(network) is within


SMALL = st.builds(
    lambda host, bits: f"10.0.0.{host}/{bits}", st.integers(0, 31), st.integers(27, 32)
)


@given(SMALL, st.lists(SMALL, max_size=5))
def test_networks_cover_what_brute_force_says(network: str, others: list[str]):
    made = Networks(others)
    hosts = [str(one) for one in parse_network(network)]
    inside = {str(one) for other in others for one in parse_network(other)}
    assert made.covers(network) is all(host in inside for host in hosts)
    for host in hosts:
        assert made.has(host) is (host in inside)
        assert made.has(f"::ffff:{host}") is (host in inside)


@given(st.lists(st.integers(0, 2**128 - 1), max_size=5), st.integers(0, 2**128 - 1))
def test_any_ipv6_address_is_told_from_any_other(members: list[int], asked: int):
    made = Networks(str(ipaddress.IPv6Address(one)) for one in members)
    address = ipaddress.IPv6Address(asked)
    assert made.has(str(address)) is (
        asked in members or _mapped(address) in map(_mapped_int, members)
    )


def _mapped(address: ipaddress.IPv6Address) -> Any:
    return address.ipv4_mapped or object()


def _mapped_int(value: int) -> Any:
    return ipaddress.IPv6Address(value).ipv4_mapped


@pytest.mark.parametrize(
    ("path", "prefix", "within"),
    [
        ("/v1/chat/completions", "/v1/chat/completions", True),
        ("/v1/chat/completions", "/v1/chat", True),
        ("/v1/chat/completions", "/v1/chat/", True),
        ("/v1/chat/completions", "/v1/ch", False),
        ("/v1/chatter", "/v1/chat", False),
        ("/v1beta/models/gemini-2.5-flash:generateContent", "/v1beta/models", True),
        ("/v1beta/models/gemini:generateContent", "/v1beta/models/gemini", True),
        ("/v1beta/models/gemini-2:generateContent", "/v1beta/models/gemini", False),
        ("/v1", "/", True),
    ],
)
def test_paths_are_held_by_whole_segments(path: str, prefix: str, within: bool):
    assert is_path_within(path, prefix) is within


def compiled(*chain: Any) -> Any:
    return [(one, compile_text(one.rules)) for one in chain]


DOCUMENT = {
    "allow_ips": ["10.0.0.0/8", "2001:db8::/32"],
    "allow_models": ["gpt-4o*", "claude-*"],
    "allow_paths": ["/v1/chat/completions", "/v1/messages"],
    "allow_levels": [1, 2],
    "limits": {"rpm": 60, "rpd": 5000, "tpm": 200000, "concurrency": 20},
    "model_limits": {"claude-opus-*": {"rpm": 10, "tpd": 500000}},
    "budget": {"day_usd": 5.0, "month_usd": 100.0, "notify_at": 0.8},
    "model_map": {"gpt-3.5*": "gpt-4o-mini"},
    "max_output_tokens": 16000,
}


def test_a_document_reads_as_it_was_written():
    assert write_rules(read_rules(DOCUMENT)) == DOCUMENT
    assert write_rules(read_rules({"limits": None, "allow_ips": None})) == {}


def test_a_rule_that_fits_is_not_wider():
    owner = account("acc", **DOCUMENT)
    fits = read_rules(
        {
            "allow_ips": ["10.2.0.0/16"],
            "allow_models": ["gpt-4o-mini", "claude-haiku-*"],
            "allow_paths": ["/v1/messages/count_tokens"],
            "allow_levels": [2],
            "limits": {"rpm": 60, "rph": 999},
            "model_limits": {"claude-opus-*": {"rpm": 10}, "gpt-*": {"rpm": 60}},
            "budget": {"day_usd": 5},
            "max_output_tokens": 1,
        }
    )
    assert wider_than(fits, compiled(owner)) == []


@pytest.mark.parametrize(
    ("document", "rule"),
    [
        ({"allow_ips": ["0.0.0.0/0"]}, "allow_ips"),
        ({"allow_models": ["gpt-*"]}, "allow_models"),
        ({"allow_paths": ["/v1"]}, "allow_paths"),
        ({"allow_levels": [1, 3]}, "allow_levels"),
        ({"limits": {"rpm": 61}}, "limits.rpm"),
        ({"model_limits": {"claude-opus-*": {"rpm": 11}}}, "model_limits.claude-opus-*.rpm"),
        ({"model_limits": {"x": {"rpm": 61}}}, "model_limits.x.rpm"),
        ({"budget": {"day_usd": 5.000000001}}, "budget.day_usd"),
        ({"max_output_tokens": 16001}, "max_output_tokens"),
    ],
)
def test_a_rule_that_is_wider_is_named_with_its_ancestor(document: dict, rule: str):
    owner, team = account("acc", **DOCUMENT), account("team", "acc")
    [found] = wider_than(read_rules(document), compiled(owner, team))
    assert (found.rule, found.account.id) == (rule, "acc")


def test_effective_rules_and_their_sources():
    owner = account("acc", **DOCUMENT)
    team = account("team", "acc", allow_models=["claude-*", "gpt-4o-mini"], limits={"rpm": 10})
    whole, sources = effective(compiled(owner, team))
    shown = write_rules(whole)
    assert set(shown["allow_models"]) == {"claude-*", "gpt-4o-mini"}
    assert shown["limits"]["rpm"] == 10
    assert shown["limits"]["rpd"] == 5000
    assert {(one.rule, one.account.id) for one in sources} >= {
        ("limits.rpm", "team"),
        ("limits.rpd", "acc"),
        ("allow_models", "acc"),
        ("allow_models", "team"),
    }


def test_a_parent_that_tightens_afterwards_binds_what_is_below():
    wide, narrow = account("acc"), account("acc", allow_models=["gpt-4o*"])
    team = account("team", "acc", allow_models=["gpt-*", "claude-*"])
    assert who_forbids(caller(wide, team), "claude-x") is None
    assert who_forbids(caller(narrow, team), "claude-x").id == "acc"  # type: ignore[union-attr]
    whole, _ = effective(compiled(narrow, team))
    assert whole.allow_models == ("gpt-4o*",)


LISTS = st.none() | st.lists(st.sampled_from(["a", "b", "a*", "*", "ab*", "*b"]), max_size=3)


@given(st.lists(LISTS, min_size=1, max_size=4), st.text(alphabet="abc", max_size=4))
def test_the_effective_list_is_within_every_ancestor_s(lists: list[Any], name: str):
    chain = [
        account(
            f"a{n}", f"a{n - 1}" if n else None, **({} if one is None else {"allow_models": one})
        )
        for n, one in enumerate(lists)
    ]
    whole, _ = effective(compiled(*chain))
    allowed = who_forbids(caller(*chain), name) is None
    if whole.allow_models is not None and any(matches(p, name) for p in whole.allow_models):
        assert allowed
    for one in lists:
        if one is not None and whole.allow_models is not None:
            assert all(is_within(pattern, one) for pattern in whole.allow_models)


@given(st.lists(st.integers(0, 20) | st.none(), min_size=1, max_size=5), st.integers(0, 25))
def test_a_number_is_wider_exactly_if_it_is_above_an_ancestor_s(above: list[Any], own: int):
    chain = [
        account(f"a{n}", None, **({} if one is None else {"limits": {"rpm": one}}))
        for n, one in enumerate(above)
    ]
    is_wider = bool(wider_than(read_rules({"limits": {"rpm": own}}), compiled(*chain)))
    assert is_wider is any(one is not None and own > one for one in above)


def test_the_best_match_is_exact_before_longest():
    table = {"gpt-4*": 1, "gpt-4o*": 2, "gpt-4o-mini": 3, "*": 4}
    assert [best_match(table, name) for name in ("gpt-4o-mini", "gpt-4o", "gpt-4", "x")] == [
        3,
        2,
        1,
        4,
    ]
    assert best_match({}, "x") is None


def test_a_map_is_applied_once():
    made = caller(account("acc", model_map={"a": "b", "b": "c"}))
    assert mapped_model(made.path, "a") == "b"


def test_equal_documents_share_what_is_compiled():
    text = msgspec.json.encode(DOCUMENT).decode()
    assert compile_text(text) is compile_text(text)
