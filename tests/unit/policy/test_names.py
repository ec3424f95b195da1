"""Rules hold for everything that a body names, whoever asks and whatever the field."""

import json
from typing import Any

import pytest

from tests.rows import for_each
from tests.unit.dialects.test_named import FIELDS, PATHS, looked_into, whole
from tests.unit.policy.test_routing import account, caller, key, view
from xairouter.dialects.paths import find
from xairouter.dialects.table import DIALECTS
from xairouter.domain.calls import Peek, Plan, Refusal
from xairouter.policy.decide import plan_call
from xairouter.policy.interface import Binding, Caller, Situation

KEYS = [key(name, endpoints=dict.fromkeys(PATHS, "https://x.example")) for name in ("a", "b")]
OWNER = caller()
TEAM, OTHER = (caller(account("acc"), account(name, "acc")) for name in ("team", "other"))
BELOW = caller(account("acc"), account("team", "acc"), account("person", "team"))
BINDINGS = {
    "thing_team": Binding("thing_team", "team", "pk_b", ("acc", "team")),
    "thing_other": Binding("thing_other", "other", "pk_b", ("acc", "other")),
    "thing_person": Binding("thing_person", "person", "pk_b", ("acc", "team", "person")),
}
"""Objects of another owner are not among an owner's bindings: they are as unknown as invented ones."""


def decide(dialect: str, who: Caller, body: bytes) -> Plan | Refusal:
    match = find("POST", PATHS[dialect].encode())
    assert match is not None
    peek = DIALECTS[dialect].peek(match, body)
    if isinstance(peek, Refusal):
        return peek
    assert isinstance(peek, Peek)
    known = {one: BINDINGS.get(one) for one in peek.bound_ids}
    return plan_call(view(KEYS), who, match, peek, Situation(1, bindings=known))


REACH = [
    (OWNER, {"thing_team", "thing_other", "thing_person", "thing_unknown"}),
    (TEAM, {"thing_team", "thing_person"}),
    (OTHER, {"thing_other"}),
    (BELOW, {"thing_person"}),
]
OBJECTS = sorted({(dialect, name) for dialect, kind, name in FIELDS if kind == "bound_ids"})


@for_each(("dialect", "name"), OBJECTS)
@for_each("object_id", ["thing_team", "thing_other", "thing_person", "thing_unknown"])
def test_an_object_is_reached_by_the_subtree_that_made_it_and_goes_to_its_key(
    dialect: str, name: str, object_id: str
):
    for inside in looked_into(dialect, f'"{name}": "{object_id}"'):
        for who, reach in REACH:
            plan = decide(dialect, who, whole(dialect, inside))
            if object_id not in reach:
                assert isinstance(plan, Refusal), (inside, who.account.name)
                assert plan.code == "object_not_found"
            else:
                assert isinstance(plan, Plan), (inside, plan)
                if object_id in BINDINGS:
                    assert [route.key.name for route in plan.routes] == ["b"]


MODELS = sorted({(dialect, name) for dialect, kind, name in FIELDS if kind == "other_models"})


@for_each(("dialect", "name"), MODELS)
def test_every_model_that_a_body_names_must_be_allowed(dialect: str, name: str):
    bound = caller(account("acc"), account("team", "acc", allow_models=["m", "gpt-small*"]))
    for inside in looked_into(dialect, f'"{name}": ["gpt-small-1", "%s"]'):
        if inside.startswith('"model"'):
            continue
        for model, passes in (("gpt-small-2", True), ("gpt-large", False)):
            body = whole(dialect, inside % model)
            assert isinstance(decide(dialect, TEAM, body), Plan)
            plan = decide(dialect, bound, body)
            assert isinstance(plan, Plan) is passes, inside
            if isinstance(plan, Refusal):
                assert plan.code == "model_not_allowed"
                assert "gpt-large" in plan.message


@pytest.mark.parametrize("dialect", sorted(PATHS))
def test_a_field_that_names_nobody_knows_what_is_refused_where_rules_hold(dialect: str):
    ruled = caller(account("acc", allow_models=["m"]))
    for inside in looked_into(dialect, '"workspace_model_id": "x"'):
        for who in (TEAM, BELOW, ruled):
            plan = decide(dialect, who, whole(dialect, inside))
            assert isinstance(plan, Refusal), inside
            assert (plan.code, plan.param) == ("object_not_allowed", "workspace_model_id")
        assert isinstance(decide(dialect, OWNER, whole(dialect, inside)), Plan)


BODIES: dict[str, dict[str, Any]] = {
    "openai_chat": {"messages": [{"role": "user", "content": "hi"}], "user": "u", "seed": 1},
    "openai_responses": {"input": [{"role": "user", "content": "hi"}], "store": False},
    "anthropic_messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5},
}


@pytest.mark.parametrize("dialect", sorted(BODIES))
def test_an_ordinary_body_passes_for_everybody(dialect: str):
    body = json.dumps({"model": "m", **BODIES[dialect]}).encode()
    for who, _ in REACH:
        assert isinstance(decide(dialect, who, body), Plan)
