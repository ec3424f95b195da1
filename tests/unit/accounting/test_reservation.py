"""Everything that multiplies a request's cost multiplies what is reserved for it; what is not known is
named."""

import json
from typing import Any

import pytest

from tests.rows import for_each
from xairouter.accounting.cost import cost_of
from xairouter.accounting.reservation import Load, dearest, estimate, reserved_cost
from xairouter.dialects.multipliers import MOST_PROMPTS, UNKNOWN, multipliers_of
from xairouter.dialects.paths import find
from xairouter.dialects.tools import MOST_LEVELS, MOST_TOOLS, SEARCHES
from xairouter.domain.calls import Multipliers, Peek, Refusal, Route, Usage
from xairouter.domain.prices import Price, Rate, Rates
from xairouter.policy.limits import ToReserve, load_of, unknown_multiplier

BASE = {"input": Rate(10**9), "output": Rate(2 * 10**9), "web_searches": Rate(10**13)}
PRICE = Price(
    "t",
    (Rates(BASE),),
    (Rates({"input": Rate(3 * 10**9), "output": Rate(6 * 10**9)}, tier="priority"),),
)


def _read(**fields: Any) -> Multipliers:
    found = multipliers_of(json.dumps({"model": "m", **fields}).encode())
    assert isinstance(found, Multipliers), found
    return found


def _inside(tool: dict[str, Any]) -> dict[str, Any]:
    return {"tools": [{"type": "namespace", "name": "n", "tools": [tool]}]}


def _built_in(name: str) -> dict[str, Any]:
    return {"type": "builtin_function", "function": {"name": name}}


@pytest.mark.parametrize(
    ("prompt", "count"),
    [
        ("one", 1),
        (["one"], 1),
        (["x"] * 1000, 1000),
        (['with "quotes", commas, [brackets]', "and\\"], 2),
        ([1, 2, 3], 1),
        ([[1, 2], [3]], 2),
        ([[1]] * 50, 50),
        ([], 1),
        (None, 1),
        ([1, "a"], 2),
        (["a", 1, None, "b"], 4),
    ],
)
def test_each_prompt_of_a_list_is_answered(prompt: Any, count: int):
    assert _read(prompt=prompt).prompts == count


def test_more_prompts_than_anybody_serves_are_refused():
    body = json.dumps({"prompt": ["x"] * (MOST_PROMPTS + 1)}).encode()
    assert isinstance(multipliers_of(body), Refusal)


@pytest.mark.parametrize("factor", [1, 2, 1000])
def test_answers_multiply_the_output_of_limits_and_budgets(factor: int):
    one = estimate(Load(100, 50), [PRICE], reserve=8192, now_ms=0)
    many = estimate(Load(100, 50, factor), [PRICE], reserve=8192, now_ms=0)
    assert many.tokens - 100 == factor * (one.tokens - 100)
    assert one.nano is not None
    assert many.nano is not None
    assert many.nano - 100_000 == factor * (one.nano - 100_000)


@pytest.mark.parametrize("field", ["service_tier", "serviceTier"])
def test_a_tier_reserves_its_own_rates_and_never_less_than_the_base(field: str):
    for spelling in ("priority", "PRIORITY", "SERVICE_TIER_PRIORITY"):
        word = _read(**{field: spelling}).word
        assert reserved_cost(PRICE, Load(10, 10, word=word), 0) == 90_000
    assert reserved_cost(PRICE, Load(10, 10, word="flex"), 0) == 30_000
    assert reserved_cost(PRICE, Load(10, 10, word="turbo"), 0) is None
    more = _read(**{field: "turbo"})
    refusal = unknown_multiplier(more, Load(1, 1, word=more.word), [PRICE], 0)
    assert refusal is not None
    assert "turbo" in refusal.message
    assert refusal.param == field


@pytest.mark.parametrize(
    ("fields", "searches"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}]}, 3),
        ({"tools": [{"type": "web_search"}]}, SEARCHES),
        ({"input": "x", "tools": [{"type": "web_search"}], "max_tool_calls": 2}, 2),
        # A bound that the provider ignores bounds nothing.
        ({"tools": [{"type": "web_search"}], "max_tool_calls": 0}, SEARCHES),
        ({"tools": [{"type": "web_search", "max_uses": 0}]}, SEARCHES),
        ({"tools": [{"type": "web_search_preview_2025_03_11", "max_uses": 0}]}, SEARCHES),
        ({"tools": [{"type": None, "googleSearch": {}}]}, SEARCHES),
        ({"tools": [{"name": "x", "googleSearch": {}}]}, SEARCHES),
        ({"tools": [{"type": "function", "name": "x", "google_search": {}}]}, SEARCHES),
        ({"tools": [{"googleSearch": {}}]}, SEARCHES),
        ({"tools": [_built_in("$web_search")]}, SEARCHES),
        (_inside(_built_in("$web_search")), SEARCHES),
        ({"tools": [_built_in("$web_search")], "max_tool_calls": 2}, SEARCHES),
        ({"web_search_options": {}}, 1),
        ({"search_parameters": {"mode": "on"}}, SEARCHES),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, 0),
        ({"tools": [{"type": "function", "function": {"name": "f"}, "retrieval": None}]}, 0),
        ({"tools": [{"type": "function", "name": "f", "environment": "production"}]}, 0),
        ({"tools": [{"type": "computer_use_preview", "environment": "browser"}]}, 0),
        ({"tools": [{"name": "f", "input_schema": {}}]}, 0),
        ({"tools": [{"functionDeclarations": [{}], "codeExecution": {}}]}, 0),
        (_inside({"type": "web_search"}), SEARCHES),
        (_inside(_inside({"type": "web_search_20260101", "max_uses": 4})["tools"][0]), 4),
        (_inside({"type": "function", "name": "f"}), 0),
    ],
)
def test_searches_are_reserved(fields: dict[str, Any], searches: int):
    found = _read(**fields)
    assert (found.searches, found.unknown) == (searches, ())
    assert reserved_cost(PRICE, Load(0, 0, searches=searches), 0) == searches * 10**7


def test_a_bound_on_calls_of_tools_is_a_whole_number():
    """In another spelling a provider might read more than was reserved."""
    for said in (b"1e5", b"100.0", b"-1", b"1234567890", b'"7"', b"true"):
        refused = multipliers_of(b'{"max_tool_calls": %b}' % said)
        assert isinstance(refused, Refusal), said
        assert refused.param == "max_tool_calls"
        thinks = multipliers_of(b'{"thinking_budget": %b}' % said)
        assert isinstance(thinks, Multipliers), said
        assert thinks.unknown == ("thinking_budget",)
    for said in (b"0", b"999999999", b"null"):
        assert not isinstance(multipliers_of(b'{"max_tool_calls": %b}' % said), Refusal), said


def test_what_costs_nothing_but_tokens_is_not_refused():
    free = [{"code_execution": {}, "functionDeclarations": []}, {"codeExecution": {}}]
    assert _read(tools=free).unknown == ()
    for paid in ({"type": "code_execution"}, {"type": "code_execution_20250825"}):
        assert _read(tools=[paid]).unknown == (paid["type"],)


@for_each("name", UNKNOWN)
def test_fields_that_multiply_in_unknown_ways_are_named(name: str):
    assert _read(**{name: 4}).unknown == (name,)
    for nothing in (None, False):
        assert _read(**{name: nothing}).unknown == ()
    # One answer is none more, where the field is a number; where it is none, it may mean yes.
    one = () if name.startswith(("num_", "beam_", "candidate")) else (name,)
    for said in (1, 1.0):
        assert _read(**{name: said}).unknown == one
    refusal = unknown_multiplier(_read(**{name: 4}), Load(1, 1), [PRICE], 0)
    assert refusal is not None
    assert refusal.param == name


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "image_generation"},
        {"type": "file_search"},
        {"type": "code_interpreter"},
        {"googleMaps": {}},
        {"type": "what_comes_next"},
        {"type": "shell", "environment": {"type": "container_auto"}},
        {"type": "shell", "environment": {"type": "container_auto", "domains": ["local"]}},
        {"type": "shell", "environment": {"local": {"type": "local"}}},
        {"type": "shell", "environment": None},
        {"type": "builtin_function", "function": {"name": "$what_comes_next"}},
        {"type": "builtin_function", "function": {"name": "web_search"}},
        {"type": "builtin_function"},
    ],
)
def test_paid_tools_of_unknown_price_are_named(tool: dict[str, Any]):
    for holder in ({"tools": [tool]}, _inside(tool)):
        [name] = _read(**holder).unknown
        assert name in tool or name.startswith(tool["type"])


@pytest.mark.parametrize(
    "tools",
    [
        b'[{"type":"web_search","max_uses":1000,"max_uses":1}]',
        b'[{"type":"web_search", "type":"function"}]',
        b'[{"type":"function","\\u0074ype":"web_search"}]',
        b'[{"type":"namespace","tools":[],"tools":[{"type":"web_search"}]}]',
        b'[{"type":"namespace","tools":[{"type":"web_search","max_uses":9,"max_uses":0}]}]',
        b'[{"type":"function","Type":"web_search"}]',
        b'[["web_search"]]',
        b'[{"type":"builtin_function","function":{"name":"f","name":"$web_search"}}]',
        b'[{"type":"builtin_function","function":{"Name":"$web_search"}}]',
        b'[{"type":"builtin_function","function":["$web_search"]}]',
        b'[{"type":"shell","environment":{"type":"container_auto","type":"local"}}]',
        b'[{"type":"shell","environment":{"Type":"container_auto","type":"local"}}]',
        b'[{"type":"shell","environment":"local"}]',
        b'{"type":"web_search"}',
        b"[" + b",".join([b'{"type":"function"}'] * (MOST_TOOLS + 1)) + b"]",
        b'[{"tools":' * (MOST_LEVELS + 1) + b"[]" + b"}]" * (MOST_LEVELS + 1),
    ],
)
def test_tools_that_can_be_read_in_two_ways_are_refused(tools: bytes):
    found = multipliers_of(b'{"model":"m","tools":' + tools + b"}")
    assert isinstance(found, Refusal)
    assert found.param == "tools"


def test_a_search_without_a_price_is_refused():
    bare = Price("t", (Rates({"input": Rate(1), "output": Rate(1)}),))
    assert dearest([bare], Load(1, 1, searches=1), 0) is None
    assert unknown_multiplier(Multipliers(), Load(1, 1, searches=1), [bare], 0) is not None
    by_request = Price("t", (Rates({"input": Rate(1), "output": Rate(1), "requests": Rate(1)}),))
    assert unknown_multiplier(Multipliers(), Load(1, 1, searches=1), [by_request], 0) is None


def _asked(match: Any, more: Multipliers, given: int, *models: str) -> ToReserve:
    key: Any = None  # No route is asked for its key here.
    routes = tuple(Route(key, model, "openai_chat") for model in models)
    return ToReserve(match, Peek("m"), more, given, True, routes, 8192)


CHAT, COMPLETIONS = (find("POST", path) for path in (b"/v1/chat/completions", b"/v1/completions"))


@pytest.mark.parametrize(
    ("model", "searches"),
    [
        ("gpt-4o-search-preview", 1),
        ("gpt-4o-mini-search-preview-2025-03-11", 1),
        ("openai/gpt-5-search-api", 1),
        ("perplexity/sonar", SEARCHES),
        ("sonar-deep-research", SEARCHES),
        ("o3-deep-research", SEARCHES),
        ("openai/gpt-4o:online", SEARCHES),
        ("groq/compound-mini", SEARCHES),
        ("compound-beta", SEARCHES),
        ("my-compound", 0),
        ("gpt-4o", 0),
        ("solar-pro", 0),
    ],
)
def test_models_that_search_by_themselves_reserve_searches(model: str, searches: int):
    assert CHAT is not None
    load = load_of(_asked(CHAT, Multipliers(), 1, "gpt-4o", model), 1)
    assert load.searches == searches


@pytest.mark.parametrize(
    ("fields", "kinds", "unknown"),
    [
        ({"modalities": ["text"]}, (), ()),
        ({"modalities": ["text", "audio"]}, ("audio",), ()),
        ({"modalities": ["image", "text"]}, ("image",), ()),
        ({"modalities": "audio"}, (), ("modalities",)),
        ({"modalities": ["smell"]}, (), ("modalities",)),
        ({"generationConfig": {"responseModalities": ["TEXT", "IMAGE"]}}, ("image",), ()),
        ({"generation_config": {"response_modalities": ["Audio"]}}, ("audio",), ()),
        ({"generationConfig": {"responseModalities": ["VIDEO"]}}, ("video",), ()),
        ({"generationConfig": {"temperature": 1}}, (), ()),
        ({"generationConfig": None}, (), ()),
    ],
)
def test_output_that_is_no_text_is_reserved_at_its_own_rate(
    fields: dict[str, Any], kinds: tuple[str, ...], unknown: tuple[str, ...]
):
    more = _read(**fields)
    assert (more.kinds, more.unknown) == (kinds, unknown)
    load = Load(10, 10, kinds=kinds)
    refusal = unknown_multiplier(Multipliers(kinds=kinds), load, [PRICE], 0)
    assert (refusal is None) == (not kinds)
    dear = {f"output_{kind}": Rate(50 * 10**9) for kind in kinds}
    known = Price("t", (Rates(BASE | dear),))
    assert unknown_multiplier(Multipliers(kinds=kinds), load, [known], 0) is None
    assert reserved_cost(known, load, 0) == (510_000 if kinds else 30_000)


@pytest.mark.parametrize("prompt", [[[1], "a"], ["a", [1]], [[1], 2], [1, [2]], [[[1], [2]], [3]]])
def test_a_mixture_of_lists_and_other_prompts_is_refused(prompt: Any):
    assert isinstance(multipliers_of(json.dumps({"prompt": prompt}).encode()), Refusal)


@for_each("field", ["prompt", "input"])
@for_each("tokens", [[1] * 10_000, [[1] * 10_000], [[1] * 100] * 100])
@for_each("separators", [(",", ":"), (", ", ": "), (" ,\n", ":")])
def test_each_number_of_a_prompt_is_a_token(field: str, tokens: Any, separators: tuple[str, str]):
    body = json.dumps({field: tokens}, separators=separators).encode()
    more = multipliers_of(body)
    assert isinstance(more, Multipliers)
    assert COMPLETIONS is not None
    load = load_of(_asked(COMPLETIONS, more, len(body) // 4), 1)
    assert 10_000 <= load.given <= 10_100 + len(body) // 4


def test_input_items_are_no_prompts():
    assert _read(input=[{"role": "user", "content": "1, 2, 3"}] * 3) == Multipliers()


def test_a_prompt_that_the_provider_keeps_is_unknown():
    assert _read(prompt={"id": "pmpt_1"}).unknown == ("prompt",)


def test_what_was_reserved_is_never_less_than_what_it_can_cost():
    for tier in (None, "flex", "priority"):
        for used in range(4):
            detail = {"web_search_calls": used}
            usage = Usage(input_tokens=70, output_tokens=30, service_tier=tier, detail=detail)
            cost = cost_of(PRICE, usage, 0).nano
            reserved = reserved_cost(PRICE, Load(70, 10, 3, tier, searches=3), 0)
            assert cost is not None
            assert reserved is not None
            assert cost <= reserved
