"""Lists of models are made in short steps, whatever keys, rules and prices an owner has."""

import json
from collections.abc import Generator
from dataclasses import replace
from typing import Any

from tests.unit.policy.test_routing import account, caller, key, view
from tests.work_counting import Work, counting
from xairouter.manage.catalogue import _encoded, _items
from xairouter.policy.owner_prices import read_prices
from xairouter.policy.routing import usable_in_steps, usable_models
from xairouter.providers.prices import PriceList

MOST_BYTECODES = 400_000
"""Of one step: some milliseconds."""
NAMES = tuple(f"a{n}-b" for n in range(120))
HARD = [f"*a{n}*c*" for n in range(200)]


def longest_step(steps: Generator[None, None, Any]) -> tuple[int, Any]:
    work, longest = Work(), 0
    while True:
        with counting(work):
            try:
                next(steps)
            except StopIteration as end:
                return max(longest, work.steps), end.value
        longest = max(longest, work.steps)


def test_names_that_many_patterns_of_a_rule_are_asked_about_are_listed_in_short_steps():
    seen = view([key("a", models=NAMES)])
    who = caller(account("acc", allow_models=[*HARD, "*-b"]))
    longest, found = longest_step(usable_in_steps(seen, who))
    assert len(found) == len(NAMES)
    assert longest <= MOST_BYTECODES


def test_names_that_many_keys_serve_are_listed_in_short_steps():
    seen = view([key(f"k{n}", models=NAMES[:40]) for n in range(400)])
    longest, found = longest_step(usable_in_steps(seen, caller()))
    assert len(found) == 40
    assert longest <= MOST_BYTECODES
    longest, _ = longest_step(_items(seen, PriceList({}, ""), found, None))
    assert longest <= MOST_BYTECODES


def test_names_that_many_patterns_of_prices_are_asked_about_are_priced_in_short_steps():
    prices = read_prices({one: {"input": 1} for one in [*HARD, "*-b"]})
    seen = replace(view([key("a", models=NAMES)]), prices=prices)
    usable = usable_models(seen, caller())
    longest, items = longest_step(_items(seen, PriceList({}, ""), usable, None))
    assert [one["price"] for one in items] == [{"input": 1.0}] * len(NAMES)
    assert longest <= MOST_BYTECODES
    longest, body = longest_step(_encoded(items * 20))
    assert json.loads(body)["items"] == json.loads(json.dumps(items * 20))
    assert longest <= MOST_BYTECODES
    _, few = longest_step(_items(seen, PriceList({}, ""), usable, 3))
    assert len(few) == 3


def test_own_prices_without_a_star_are_looked_up_and_not_compared():
    """The exact name before the longest pattern, as the document says."""
    prices = read_prices({f"m{n}": {"input": n} for n in range(2000)})
    work = Work()
    with counting(work):
        assert prices.find("none") is None
    assert work.steps < 100
    mixed = read_prices({"m*": {"input": 1}, "m1*": {"input": 2}, "m1": {"input": 3}})
    found = [mixed.find(name) for name in ("m1", "m12", "m2", "x")]
    rates = [None if one is None else one.standard[0].rates["input"].base for one in found]
    assert rates == [3 * 10**9, 2 * 10**9, 10**9, None]
