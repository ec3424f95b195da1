"""A rule's bound on output stands in the field that the provider honours, once, whatever the
request said there before."""

import json
from itertools import product
from typing import Any

import pytest

from tests.rows import for_each
from xairouter.accounting.reservation import expected_output
from xairouter.dialects.output import OWN_NAMES
from xairouter.dialects.paths import find
from xairouter.dialects.table import DIALECTS
from xairouter.domain.accounts import KeyHealth, ProviderKey, ProviderKeyStatus
from xairouter.domain.calls import Peek, Refusal, Route
from xairouter.providers.interface import OUTPUT_FIELDS
from xairouter.providers.table import PROVIDERS, keep_maximum, provider_row

MOST = 77
CHAT = ("max_tokens", "max_completion_tokens")
GEMINI = ("maxOutputTokens", "max_output_tokens")
FIELDS = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": CHAT,
    "/v1/responses": ("max_output_tokens",),
    "/v1/messages": ("max_tokens",),
}
ABSENT = object()
GIVEN = (ABSENT, None, 0, 5, 5.0, MOST)


def sent(path: str, body: bytes, honoured: str) -> bytes:
    match = find("POST", path.encode())
    assert match is not None
    dialect = DIALECTS[match.operation.dialect]
    peek = dialect.peek(match, body)
    assert isinstance(peek, Peek), peek
    _, out, _ = dialect.prepare(
        match, peek, body, model="m", ask_usage=False, bound=(honoured, MOST)
    )
    return out


def pairs_of(body: bytes) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = json.loads(body, object_pairs_hook=list)
    return found


CASES = [
    (path, honoured, dict(zip(names, given, strict=True)))
    for path, names in FIELDS.items()
    for honoured in names
    for given in product(GIVEN, repeat=len(names))
]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("name", sorted(OWN_NAMES))
def test_a_server_s_own_name_of_the_maximum_counts_and_cannot_be_without_a_number(
    path: str, name: str
):
    """llama.cpp lets ``n_predict`` win over ``max_tokens``."""
    match = find("POST", path.encode())
    assert match is not None
    peek = DIALECTS[match.operation.dialect].peek
    for own, most in ((9999, 9999), (3, 5)):
        seen = peek(match, json.dumps({"model": "m", "max_tokens": 5, name: own}).encode())
        assert isinstance(seen, Peek), seen
        assert seen.max_output_tokens == most
    for none in (None, 0, -1, "9", [9]):
        body = json.dumps({"model": "m", "max_tokens": 5, name: none}).encode()
        refused = peek(match, body)
        assert isinstance(refused, Refusal), none
        assert refused.param == name
    twice = peek(match, f'{{"model":"m","{name}":1,"{name}":9}}'.encode())
    assert isinstance(twice, Refusal)
    out = pairs_of(sent(path, json.dumps({"model": "m", name: 5}).encode(), "max_tokens"))
    assert out == [("model", "m"), ("max_tokens", 5)]


@for_each(("path", "honoured", "given"), CASES)
def test_exactly_one_field_bounds_the_output_and_it_is_the_one_that_is_honoured(
    path: str, honoured: str, given: dict[str, Any]
):
    stated = {name: value for name, value in given.items() if value is not ABSENT}
    body = json.dumps({"model": "m", **stated, "last": "max_tokens"}, indent=1).encode()
    out = pairs_of(sent(path, body, honoured))
    names = [name for name, _ in out]
    assert names.count(honoured) == 1
    asked = [value for value in stated.values() if value]
    expected = stated.get(honoured) or (min(asked) if asked else MOST)
    if path == "/v1/messages" and stated.get(honoured) == 0:
        expected = 1
    assert dict(out)[honoured] == expected
    # Another field stays only where the client itself gave both.
    others = {name for name in given if name != honoured and name in names}
    assert others <= (set(stated) if honoured in stated else set())


@for_each("name", GEMINI)
@for_each("config", ["generationConfig", "generation_config"])
@for_each("given", [None, 0, 5, MOST])
def test_gemini_s_bound_is_replaced_where_it_stands(name: str, config: str, given: int | None):
    body = json.dumps({"contents": [], config: {"topK": 1, name: given, "seed": 2}}).encode()
    out = json.loads(sent("/v1beta/models/m:generateContent", body, GEMINI[0]))
    assert out == {"contents": [], config: {"topK": 1, name: given or MOST, "seed": 2}}


INSIDE = [
    '{"maxOutputTokens": 5, "maxOutputTokens": 9000}',
    '{"maxOutputTokens": 5, "max\\u004futputTokens": 9000}',
    '{"maxOutputTokens": 5, "max_output_tokens": 9000}',
    '{"maxOutputTokens": 5, "maxoutputtokens": 9000}',
    '{"MaxOutputTokens": 9000}',
    '{"candidateCount": 1, "candidateCount": 8}',
    '{"candidateCount": 1, "candidate_count": 8}',
    '{"temperature": 1, "temperature": 2}',
    "[]",
    '"x"',
]


@pytest.mark.parametrize("config", INSIDE)
def test_what_two_parsers_could_read_differently_inside_a_configuration_is_refused(config: str):
    match = find("POST", b"/v1beta/models/m:generateContent")
    assert match is not None
    body = f'{{"contents": [], "generationConfig": {config}}}'.encode()
    refused = DIALECTS["gemini_generate"].peek(match, body)
    assert isinstance(refused, Refusal)
    assert refused.code == "invalid_request"


def test_a_name_in_escapes_moves_as_well():
    body = b'{"model":"m","max_\\u0074okens" : 9 , "x":1}'
    out = sent("/v1/chat/completions", body, "max_completion_tokens")
    assert out == b'{"model":"m","max_completion_tokens":9 , "x":1}'


def test_the_fields_of_the_provider_table_are_fields_that_are_read():
    assert set(OUTPUT_FIELDS) == set(DIALECTS) - {"openai_embeddings"}
    for row in PROVIDERS.values():
        for dialect, names in row.output_fields.items():
            assert set(names) <= {*CHAT, *OWN_NAMES}
            assert set(OUTPUT_FIELDS[dialect]) <= set(names)
            assert len(names) == len(set(names)) > 1


@for_each("provider", ["custom", *PROVIDERS])
@for_each("path", FIELDS)
@for_each("name", sorted({*CHAT, *OWN_NAMES, "max_output_tokens"}))
@for_each("beside", [{}, dict.fromkeys(CHAT), dict.fromkeys(CHAT, 0)])
def test_only_a_maximum_that_the_provider_knows_bounds_what_is_reserved(
    provider: str, path: str, name: str, beside: dict[str, Any]
):
    match = find("POST", path.encode())
    assert match is not None
    dialect = match.operation.dialect
    peek = DIALECTS[dialect].peek(match, json.dumps({"model": "m", **beside, name: 7}).encode())
    assert isinstance(peek, Peek), peek
    routes = (_route(provider, dialect),)
    is_known = name in provider_row(provider).bounded_by(dialect)
    assert keep_maximum(routes, peek.declared) is is_known
    is_known = is_known and name in provider_row("deepseek").bounded_by(dialect)
    assert keep_maximum((*routes, _route("deepseek", dialect)), peek.declared) is is_known


def _route(provider: str, dialect: str) -> Route:
    key = ProviderKey(
        *("pk", "o", "k", provider, {}, {}, 1, 1, None, None, ProviderKeyStatus.ACTIVE, 1, b""),
        *(None, "", KeyHealth.OK, None, 0),
    )
    return Route(key, "m", dialect)


@for_each(
    ("declared", "bound", "is_kept", "expected"),
    [
        (5, None, True, 5),
        (5, None, False, 1000),
        (5000, None, False, 5000),
        (None, None, False, 1000),
        (None, 50, True, 50),
        # The rules' bound is put into a field that is kept, with the least number that was asked for.
        (5, 50, False, 5),
        (None, 5000, False, 5000),
    ],
)
def test_a_maximum_that_is_not_kept_reserves_what_is_reserved_for_none(
    declared: int | None, bound: int | None, is_kept: bool, expected: int
):
    assert expected_output(declared, bound, 1000, is_kept) == expected
