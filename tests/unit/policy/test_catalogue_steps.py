"""An owner's names of models, a hundred thousand of them maybe, are gone through in short steps."""

import sys
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.policy.test_routing import account, caller, view
from tests.work_counting import Work
from xairouter.domain.accounts import ProviderKey
from xairouter.domain.calls import Refusal
from xairouter.domain.steps import Steps, at_once
from xairouter.gateway.models import _while_there
from xairouter.manage import provider_key_use
from xairouter.policy import catalogue, routing
from xairouter.policy.catalogue import (
    Named,
    catalogue_in_steps,
    compile_catalogue,
    listed_in_steps,
    listed_models,
    serving,
)
from xairouter.policy.patterns import matches
from xairouter.policy.routing import choose, find_ways, ways_in_steps

MOST_BYTECODES = 14_000
CHAT, RESPONSES = "openai_chat", "openai_responses"


def key(number: int, models: tuple[str, ...]) -> ProviderKey:
    known: dict[str, Any] = dict.fromkeys(field.name for field in fields(ProviderKey))
    known |= {"level": 1, "weight": 1, "created_at_ms": 1, "provider": "openai", "status": "active"}
    known |= {"id": f"pk_{number}", "name": f"k{number}", "models": models}
    return ProviderKey(**known | {"endpoints": {CHAT: "", RESPONSES: ""}})


def keys(count: int) -> list[ProviderKey]:
    return [key(n, (*(f"m-{n}-{m}" for m in range(100)), f"*{n}*")) for n in range(count)]


def longest(steps: Steps[Any]) -> int:
    work, most, more = Work(), 0, True
    while more:
        work.steps = 0
        sys.settrace(work.trace)
        try:
            more = next(steps, 0) is None
        finally:
            sys.settrace(None)
        most = max(most, work.steps)
    return most


def test_no_step_is_longer_for_more_names(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(catalogue, "_NAMES_AT_ONCE", 100)
    monkeypatch.setattr(provider_key_use, "_LOOKS_AT_ONCE", 100)
    for count in (10, 40):
        some = keys(count)
        assert longest(catalogue_in_steps(some)) < MOST_BYTECODES
        assert longest(listed_in_steps(compile_catalogue(some))) < MOST_BYTECODES
        assert longest(provider_key_use._lost(some, some[0])) < MOST_BYTECODES
        assert len(listed_models(compile_catalogue(some))) == 100 * count


def test_behind_a_provider_s_name_a_key_serves_what_it_lists_and_what_its_patterns_cover():
    listing, covering, silent = key(1, ("a", "b")), key(2, ("b*",)), key(3, ())
    made = compile_catalogue([listing, covering, silent])
    assert serving(made, CHAT, Named("b", made.keys)) == (listing, covering)
    assert serving(made, CHAT, Named("bc", made.keys)) == (covering,)
    assert serving(made, CHAT, Named("a", (covering, silent))) == ()
    assert serving(made, CHAT, Named("a", made.keys)) == (listing,)


def _compared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The patterns that a name is compared with."""
    seen: list[str] = []

    def counted(pattern: str, name: str) -> bool:
        seen.append(pattern)
        return matches(pattern, name)

    monkeypatch.setattr(catalogue, "matches", counted)
    return seen


HOSTILE = {
    "found nowhere": "nothing",
    "behind a provider": "openai/nothing",
    "mapped": "mapped",
    "found": "m-0-1",
}


@pytest.mark.parametrize("count", [100, 300])
@pytest.mark.parametrize("model", HOSTILE.values(), ids=HOSTILE)
def test_the_way_to_a_model_is_found_in_short_steps(
    monkeypatch: pytest.MonkeyPatch, count: int, model: str
):
    """Whatever patterns there are, and models to go on to."""
    monkeypatch.setattr(catalogue, "_LOOKS_AT_ONCE", 200)
    some = [key(n, tuple(f"*{n}*x{one}*" for one in range(50))) for n in range(count)]
    seen = view(some, model_failover={"*": [f"other-{n}" for n in range(20)]})
    who = caller(account("acc", model_map={"mapped": "target"}))
    assert seen.catalogue.is_wide
    asked, longest_step, more = _compared(monkeypatch), 0, True
    steps = ways_in_steps(seen, who, CHAT, model)
    while more:
        asked.clear()
        more = next(steps, 0) is None
        longest_step = max(longest_step, len(asked))
    assert longest_step <= 200 + 50
    # Nothing is left for the step that makes the plan.
    asked.clear()
    find_ways(seen, who, CHAT, model)
    assert not asked


def test_patterns_that_many_keys_have_in_common_are_asked_once(monkeypatch: pytest.MonkeyPatch):
    common = tuple(f"*x{one}-*" for one in range(50))
    made = compile_catalogue([key(n, common) for n in range(1000)])
    asked = _compared(monkeypatch)
    assert len(serving(made, CHAT, Named("a-x49-b"))) == 1000
    assert len(asked) == 50


def test_of_a_thousand_keys_no_more_are_shared_out_than_a_plan_has_room_for(
    monkeypatch: pytest.MonkeyPatch,
):
    seen = view(
        [key(n, ("a", "b", "c")) for n in range(200)],
        model_failover={"a": ["b", "c", "b", "c"] * 5},
    )
    ways = find_ways(seen, caller(), CHAT, "a")
    assert not isinstance(ways.groups, Refusal)
    assert [group.model for group in ways.groups] == ["a", "b", "c"]
    shared: list[int] = []
    of = routing.share

    def counted(keys: Any, draw: int) -> Any:
        shared.append(len(keys))
        return of(keys, draw)

    monkeypatch.setattr(routing, "share", counted)
    plan = choose(ways, CHAT, draw=1)
    assert not isinstance(plan, Refusal)
    assert len(plan.routes) == routing.MOST_ROUTES
    assert shared == [200]


def test_a_list_is_not_made_on_for_a_client_that_has_left():
    link = SimpleNamespace(is_gone=False)
    done: list[int] = []

    def steps() -> Steps[bytes]:
        for number in range(9):
            done.append(number)
            yield
        return b"all"

    some: Any = SimpleNamespace(link=link)
    assert at_once(_while_there(some, steps())) == b"all"
    listed = _while_there(some, steps())
    next(listed)
    link.is_gone = True
    assert at_once(listed) is None
    assert len(done) == 9 + 1
