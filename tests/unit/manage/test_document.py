"""However many members a management body has, a bounded number of them is looked at, and of its
problems a few are named."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

import xairouter.api.application  # noqa: F401 - every body is defined
from tests.unit.policy.test_listing_steps import longest_step
from xairouter.api.reading import read_apart
from xairouter.dialects.paths import find
from xairouter.domain.calls import Refusal
from xairouter.errors import ManageError
from xairouter.manage.fields import MOST_PROBLEMS, Document, problems_of, validated
from xairouter.manage.request_body import Read, read_in_steps

MANY = 20_000
MOST_FAULTS = 500
WRONG: Any = 1.5
MAPS: dict[str, Any] = {
    "right names": {f"m{number}": WRONG for number in range(MANY)},
    "numbers": {str(number): WRONG for number in range(1, MANY)},
    "within": {"1": {f"m{number}": WRONG for number in range(MANY)}},
    "lists within": {str(number): [WRONG] * 20 for number in range(1, MANY // 20)},
    "a list": [WRONG] * MANY,
    "a list as long as may be": [WRONG] * 200,
}


def every(kind: type[Document] = Document) -> Iterator[type[Document]]:
    for one in kind.__subclasses__():
        if one.__module__.startswith("xairouter."):
            yield one
            yield from every(one)


def faults(model: type[Document], given: Any) -> int:
    with pytest.raises(ValidationError) as found:
        model.model_validate(given)
    told = problems_of(found.value)
    assert 1 <= len(told.fields) <= MOST_PROBLEMS
    assert len(told.detail) < 10_000
    return found.value.error_count()


@pytest.mark.parametrize("model", [*every()], ids=lambda one: one.__name__)
def test_a_validator_meets_few_faults_whatever_a_body_holds(model: type[Document]):
    assert faults(model, MAPS["right names"]) <= 1
    for name in model.model_fields:
        for given in MAPS.values():
            try:
                model.model_validate({name: given})
            except ValidationError:
                assert faults(model, {name: given}) <= MOST_FAULTS


def test_of_many_problems_the_first_are_named_and_all_are_counted():
    with pytest.raises(ManageError, match=r"and more, 6\d in all") as refused:
        validated(next(every()), {f"x{number}": 1 for number in range(60)})
    assert len(refused.value.fields) == MOST_PROBLEMS


def test_a_member_is_kept_apart_unread():
    own = b'{ "a" : [1, 2.50] }'
    assert read_apart(b'{"path":"/x","body": ' + own + b' ,"ip":"1"}', "body") == (
        {"path": "/x", "ip": "1"},
        own,
    )
    assert read_apart(b'{"body":null}', "body") == ({}, None)
    for wrong in (b"[]", b'{"body":[]}', b'{"body":"x"}', b"{", b"\xff", b"[" * 100_000):
        with pytest.raises(ManageError):
            read_apart(wrong, "body")
    with pytest.raises(ManageError, match="too large beside"):
        read_apart(json.dumps({"x": "y" * 70_000}).encode(), "body")


BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "empty messages": ("/v1/chat/completions", {"messages": [{}] * 19_900}),
    "small messages": ("/v1/chat/completions", {"messages": [{"a": 1}] * 8_000}),
    "empty items": ("/v1/responses", {"input": [{}] * 15_000}),
    "items": ("/v1/responses", {"input": [{"summary": [{}]}] * 8_000}),
    "content": ("/v1/messages", {"messages": [{"role": "user", "content": [{}] * 15_000}]}),
    "text": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a, " * 200_000}]}),
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_to_be_explained_is_read_in_the_short_steps_of_a_call(kind: str):
    path, fields = BODIES[kind]
    match = find("POST", path.encode())
    assert match is not None
    body = json.dumps({"model": "m", "max_tokens": 1, **fields}, separators=(",", ":")).encode()
    longest, read = longest_step(read_in_steps(match, body))
    assert isinstance(read, Read | Refusal)
    assert longest <= 1_300_000, "the first step of a call; ten times as much at once"
