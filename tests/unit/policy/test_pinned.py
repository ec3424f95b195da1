"""A provider key that keeps an object serves what refers to it only as far as the rules and its owner
let it."""

from tests.unit.policy.test_routing import account, caller, key, view
from xairouter.dialects.paths import find
from xairouter.domain.calls import Peek, Plan, Refusal, Route
from xairouter.policy.decide import plan_call
from xairouter.policy.interface import Binding, Situation

RESPONSES = {"openai_responses": "https://x.example"}
CHEAP = key("cheap", endpoints=RESPONSES, level=2, models=("small", "mini-*"))
OTHER = key("other", endpoints=RESPONSES, level=1, models=("small", "large"))
OPEN = key("open", endpoints=RESPONSES, level=2)


def planned(kept_by: str, model: str | None, **rules: object) -> Plan | Refusal:
    """The plan of a member's call that refers to an object kept by a key: made, or read again."""
    who = caller(account("acc"), account("team", "acc", **rules))
    path = (b"POST", b"/v1/responses") if model else (b"GET", b"/v1/responses/resp_1")
    match = find(path[0].decode(), path[1])
    assert match is not None
    known = {"resp_1": Binding("resp_1", "team", f"pk_{kept_by}", ("acc", "team"))}
    keys = [CHEAP, OTHER, OPEN]
    peek = Peek(model=model, bound_ids=("resp_1",))
    return plan_call(view(keys), who, match, peek, Situation(1, bindings=known))


def code(found: Plan | Refusal) -> str:
    assert isinstance(found, Refusal), found
    return found.code


def test_the_key_that_keeps_an_object_serves_it():
    assert planned("cheap", "small") == Plan((Route(CHEAP, "small", "openai_responses"),))
    assert planned("cheap", None) == Plan((Route(CHEAP, None, "openai_responses"),))
    assert planned("cheap", "small", allow_levels=[2]) == planned("cheap", "small")


def test_a_level_that_the_rules_forbid_serves_nothing_that_is_kept_there():
    for model in ("small", "large", None):
        assert code(planned("cheap", model, allow_levels=[1])) == "level_not_allowed", model


def test_the_owner_s_list_of_models_binds_and_the_provider_s_own_does_not():
    assert code(planned("cheap", "large")) == "model_not_found"
    assert planned("open", "large") == Plan((Route(OPEN, "large", "openai_responses"),))
