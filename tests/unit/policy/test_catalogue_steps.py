"""An owner's names of models, a hundred thousand of them maybe, are gone through in short steps."""

import sys
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import pytest

from tests.work_counting import Work
from xairouter.domain.accounts import ProviderKey
from xairouter.domain.steps import Steps, at_once
from xairouter.gateway.models import _while_there
from xairouter.manage import provider_key_use
from xairouter.policy import catalogue
from xairouter.policy.catalogue import (
    Named,
    catalogue_in_steps,
    compile_catalogue,
    listed_in_steps,
    listed_models,
    serving,
)

MOST_BYTECODES = 14_000
CHAT, RESPONSES = "openai_chat", "openai_responses"


def key(number: int, models: tuple[str, ...]) -> ProviderKey:
    known: dict[str, Any] = dict.fromkeys(field.name for field in fields(ProviderKey))
    known |= {"level": 1, "created_at_ms": 1, "provider": "openai", "status": "active"}
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
