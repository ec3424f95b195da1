"""Fields of a request that ask for other rates than the standard ones."""

import pytest

from tests.rows import for_each
from xairouter.dialects.multipliers import multipliers_of
from xairouter.dialects.paths import OPERATIONS
from xairouter.domain.calls import Match, Multipliers, Peek, Refusal
from xairouter.policy.limits import ToReserve, load_of


@pytest.mark.parametrize(
    ("body", "word", "asked_in"),
    [
        (b'{"speed": "fast"}', "fast", "speed"),
        (b'{"speed": "f\\u0061st"}', "fast", "speed"),
        (b'{"inference_geo": "us"}', "us", "inference_geo"),
        (b'{"inference_geo": "us", "speed": "fast"}', "fast+us", "speed"),
        (b'{"service_tier": "priority", "speed": "fast"}', "fast+priority", "service_tier"),
        (b'{"service_tier": "default", "speed": "fast"}', "fast", "speed"),
        (b'{"service_tier": "flex", "serviceTier": "priority"}', "flex+priority", "service_tier"),
        (b'{"speed": "standard", "inference_geo": "global"}', None, None),
        (b'{"speed": null, "inference_geo": null}', None, None),
    ],
)
def test_what_asks_for_other_rates_is_read_as_one_word(
    body: bytes, word: str | None, asked_in: str | None
):
    read = multipliers_of(body)
    assert isinstance(read, Multipliers)
    assert (read.word, read.asked_in, read.unknown) == (word, asked_in, ())


@for_each("field", ["service_tier", "serviceTier", "speed", "inference_geo"])
@for_each("value", [b"1", b"true", b'["fast"]', b'{"a":1}', b'"%s"' % (b"x" * 64)])
def test_what_is_no_word_is_refused(field: str, value: bytes):
    read = multipliers_of(b'{"%s": %s}' % (field.encode(), value))
    assert isinstance(read, Refusal)
    assert read.param == field


@for_each(
    "body",
    [
        (b"", ()),
        (b'"plugins": []', ()),
        (b'"plugins": [{"id": "response-healing"}]', ()),
        (b'"plugins": [{"id": "response-healing"}, {"id": "web"}]', ("plugins",)),
        (b'"plugins": [{"type": "response-healing"}]', ("plugins",)),
        (b'"plugins": {"id": "response-healing"}', ("plugins",)),
        (b'"plugins": [%s{"id": "response-healing"}]' % (b" " * 2000), ("plugins",)),
    ],
)
def test_plugins_are_of_unknown_cost_but_for_the_free_ones(body: tuple[bytes, tuple[str, ...]]):
    read = multipliers_of(b"{%s}" % body[0])
    assert isinstance(read, Multipliers)
    assert read.unknown == body[1]


@for_each("given", [(b"38912", 38912), (b"0", 0), (b"null", 0), (b"999999999", 999_999_999)])
def test_what_a_model_thinks_beside_its_maximum_is_reserved(given: tuple[bytes, int]):
    read = multipliers_of(b'{"thinking_budget": %s}' % given[0])
    assert isinstance(read, Multipliers)
    assert read.thinking == given[1]
    chat = Match(OPERATIONS[0], "/v1/chat/completions")
    asked = ToReserve(chat, Peek("m", False, 1, choices=2), read, 10, True, (), 1000)
    load = load_of(asked, 1)
    assert (load.output, load.answers) == (1 + given[1], 2)


@for_each(
    ("given", "tokens"),
    [
        (b"null", 0),
        (b'{"type": "content", "content": "' + b"x" * 400 + b'"}', 109),
        (b'{"type": "content", "content": [{"type": "text", "text": "x"}]}', 16),
        (b'"' + b"x" * 38 + b'"', 10),
    ],
)
def test_a_prediction_may_be_billed_as_output(given: bytes, tokens: int):
    read = multipliers_of(b'{"prediction": %s}' % given)
    assert isinstance(read, Multipliers)
    assert read.thinking == tokens
    both = multipliers_of(b'{"thinking_budget": 7, "prediction": %s}' % given)
    assert isinstance(both, Multipliers)
    assert both.thinking == tokens + 7
