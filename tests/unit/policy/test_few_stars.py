"""What it costs to ask which patterns match: few stars in each, and few matches for one body's names."""

import json

import pytest
from pydantic import ValidationError

from tests.unit.policy.test_routing import account, caller
from tests.work_counting import Work, counted
from xairouter.domain.calls import Peek, Refusal
from xairouter.errors import ManageError
from xairouter.manage.provider_key_fields import model_names
from xairouter.manage.routing import RoutingBody
from xairouter.manage.rules import RulesBody
from xairouter.policy import access
from xairouter.policy.access import names_are_allowed

FEW, MANY = "a*b*c*d*e", "a*b*c*d*e*f"


def test_a_pattern_that_is_written_has_few_stars():
    for form, body in (
        (RulesBody, {"allow_models": [FEW]}),
        (RulesBody, {"model_map": {FEW: "m"}}),
        (RulesBody, {"model_limits": {FEW: {}}}),
        (RoutingBody, {"level_map": {FEW: 1}}),
        (RoutingBody, {"model_failover": {FEW: ["m"]}}),
    ):
        form.model_validate(body)
        with pytest.raises(ValidationError, match="stars"):
            form.model_validate(json.loads(json.dumps(body).replace(FEW, MANY)))
    assert model_names([FEW]) == (FEW,)
    with pytest.raises(ManageError, match="stars"):
        model_names([MANY])


def test_the_names_of_one_body_are_asked_about_with_a_bounded_number_of_matches():
    """What was found out is remembered: the same call gets further, and passes in the end."""
    allowed = [*(f"{number}*x" for number in range(999)), "name-*"]
    who = caller(account("acc"), account("team", "acc", allow_models=allowed))
    peek = Peek(model="name-0", other_models=tuple(f"name-{number}" for number in range(50)))
    steps, _ = counted(Work(), lambda: names_are_allowed(who, peek))
    assert steps < 100 * access.MOST_MATCHES
    answers = [names_are_allowed(who, peek) for _ in range(6)]
    assert isinstance(answers[0], Refusal)
    assert answers[-1] is None
