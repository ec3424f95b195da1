"""What a body names is seen, in every field of the table, at any nesting and in any spelling."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.rows import for_each
from xairouter.dialects.named import (
    MOST_NAMED,
    Named,
    find_named,
    read_named,
)
from xairouter.dialects.named_fields import AMBIGUOUS, NAMED, OWN_DATA, TOP_DATA, UNLISTED
from xairouter.dialects.paths import find
from xairouter.dialects.plain import OWN, PLAIN, ROW, is_plain
from xairouter.dialects.shorten import LARGE, MOST_CONTAINERS
from xairouter.dialects.table import DIALECTS
from xairouter.domain.calls import Peek, Refusal

PATHS = {
    "openai_chat": "/v1/chat/completions",
    "openai_completions": "/v1/completions",
    "openai_embeddings": "/v1/embeddings",
    "openai_responses": "/v1/responses",
    "anthropic_messages": "/v1/messages",
    "gemini_generate": "/v1beta/models/m:generateContent",
}
FOREIGN = "thing_foreign1"


def peek(dialect: str, body: bytes) -> Peek | Refusal:
    match = find("POST", PATHS[dialect].encode())
    assert match is not None
    return DIALECTS[dialect].peek(match, body)


def whole(dialect: str, inside: str) -> bytes:
    """A body with a field, given as JSON text, in it."""
    start = "{" if dialect == "gemini_generate" else '{"model": "m", '
    return f'{start}"x-first": 1, {inside}}}'.encode()


def nestings(field: str) -> Iterator[str]:
    """The field at the top, in a tool, in a message's part, and deep in what nobody knows."""
    yield field
    yield f'"tools": [{{"type": "some_tool", {field}}}]'
    yield f'"tools": [{{"type": "t", "environment": {{"skills": [{{{field}}}]}}}}]'
    yield f'"messages": [{{"role": "user", "content": [{{"type": "text", {field}}}]}}]'
    yield f'"input": [{{"role": "user", "content": [{{"type": "input_file", {field}}}]}}]'
    yield f'"contents": [{{"parts": [{{"text": "x"}}, {{{field}}}]}}]'
    yield f'"extra_body": {{"google": [[{{"deep": {{{field}}}}}]]}}'


def looked_into(dialect: str, field: str) -> Iterator[str]:
    """The nestings of a field that are not the user's own data in this dialect."""
    for inside in nestings(field):
        if inside.partition(":")[0].strip('"') not in NAMED[dialect].own_data:
            yield inside


def spellings(name: str, value: str) -> Iterator[str]:
    yield f'"{name}": "{value}"'
    yield f'"{name}":\n\t"{value}"'
    yield f'"{name}": ["{value}"]'
    yield f'"\\u{ord(name[0]):04x}{name[1:]}": "{value}"'
    yield f'"{name[:-1]}\\u{ord(name[-1]):04X}": "\\u{ord(value[0]):04x}{value[1:]}"'


def own_fields(dialect: str) -> Iterator[tuple[str, str]]:
    table = NAMED[dialect]
    for kind, names in (("other_models", table.models), ("bound_ids", table.objects)):
        for name in sorted(names):
            yield kind, name


GOVERNED = {"model", "conversation", "previous_response_id"}
FIELDS = [(dialect, *pair) for dialect in NAMED for pair in own_fields(dialect)]


@for_each(("dialect", "kind", "name"), FIELDS)
def test_every_field_of_the_table_is_seen_at_any_nesting_in_any_spelling(
    dialect: str, kind: str, name: str
):
    for spelled in spellings(name, FOREIGN):
        for inside in looked_into(dialect, spelled):
            if inside is spelled and name in GOVERNED:
                continue
            seen = peek(dialect, whole(dialect, inside))
            assert isinstance(seen, Peek), (inside, seen)
            assert FOREIGN in getattr(seen, kind), inside


@for_each(("dialect", "kind", "name"), FIELDS)
def test_a_naming_field_that_two_parsers_could_read_differently_is_refused(
    dialect: str, kind: str, name: str
):
    for twice in (
        f'"{name}": "a", "{name}": "b"',
        f'"{name}": null, "\\u{ord(name[0]):04x}{name[1:]}": "b"',
        f'"{name.upper()}": "a"',
        f'"{name[0].upper()}{name[1:]}": "a"',
    ):
        seen = peek(dialect, whole(dialect, f'"tools": [{{"type": "t", {twice}}}]'))
        assert isinstance(seen, Refusal), twice
        assert seen.code == "invalid_request"


NAMING = {
    "openai_responses": {
        '"tools":[{"type":"file_search","vector_store_ids":["a","b"]}]': ["a", "b"],
        '"tools":[{"type":"code_interpreter","container":"a"}]': ["a"],
        '"tools":[{"type":"code_interpreter","container":{"type":"auto","file_ids":["a"]}}]': ["a"],
        '"tools":[{"type":"shell","environment":{"container_id":"a"}}]': ["a"],
        '"tools":[{"type":"image_generation","input_image_mask":{"file_id":"a"}}]': ["a"],
        '"input":[{"type":"item_reference","id":"a"}]': ["a"],
        '"input":[{"id":"a"}]': ["a"],
        '"input":[{"type":null,"id":"a"}]': ["a"],
        '"input":[{"type":"function_call_output","call_id":"c","output":[{"file_id":"a"}]}]': ["a"],
        '"prompt":{"id":"a","variables":{"v":{"type":"input_file","file_id":"b"}}}': ["a", "b"],
        '"conversation":{"id":"a"}': ["a"],
        '"previous_response_id":"a"': ["a"],
    },
    "openai_chat": {
        '"messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"a"}}]}]': ["a"],
        '"messages":[{"role":"assistant","audio":{"id":"a"}}]': ["a"],
        '"audio":{"voice":{"id":"a"}}': ["a"],
        '"preset":"a"': ["a"],
        '"extra_body":{"google":{"cached_content":"cachedContents/a"}}': ["cachedContents/a"],
    },
    "anthropic_messages": {
        '"container":"a"': ["a"],
        '"container":{"id":"a","skills":[{"type":"custom","skill_id":"b"}]}': ["a", "b"],
        '"container":{"skills":[{"type":"anthropic","skill_id":"pptx"}]}': [],
        '"messages":[{"role":"user","content":[{"type":"image","source":{"file_id":"a"}}]}]': ["a"],
        '"messages":[{"role":"user","content":[{"type":"container_upload","file_id":"a"}]}]': ["a"],
        '"thread":{"previous_message_id":"a"}': ["a"],
    },
    "gemini_generate": {
        '"cachedContent":"cachedContents/a"': ["cachedContents/a"],
        '"tools":[{"fileSearch":{"fileSearchStoreNames":["a"]}}]': ["a"],
        '"contents":[{"parts":[{"fileData":{"fileUri":"https://youtu.be/a"}}]}]': [],
        '"contents":[{"parts":[{"fileData":{"fileUri":"gs://a/b"}}]}]': ["gs://a/b"],
    },
}
for _uri in (
    "https://generativelanguage.googleapis.com/v1beta/files/a",
    "HTTPS://Generativelanguage.GOOGLEAPIS.com.:443/v1beta/files/a",
    "https://x@generativelanguage.googleapis.com/v1beta/files/a",
    "//generativelanguage.googleapis.com/v1beta/files/a",
    "files/a",
    "https://[x/files/a",
):
    NAMING["gemini_generate"][
        '"contents":[{"parts":[{"functionResponse":{"parts":[{"file_data":{"file_uri":'
        f'"{_uri}"}}}}]}}}}]}}]'
    ] = [_uri]


@for_each(
    ("dialect", "inside", "named"),
    [(dialect, inside, ids) for dialect, cases in NAMING.items() for inside, ids in cases.items()],
)
def test_objects_are_named_as_the_providers_document_it(
    dialect: str, inside: str, named: list[str]
):
    seen = peek(dialect, whole(dialect, inside))
    assert isinstance(seen, Peek), seen
    assert sorted(seen.bound_ids) == named
    assert seen.unlisted == ()


MODELS = [
    ("openai_chat", '"models":["a","b"]', ("a", "b")),
    ("openai_chat", '"moderation":{"model":"a"}', ("a",)),
    ("openai_chat", '"plugins":[{"id":"web","allowed_models":["a"]}]', ("a",)),
    ("openai_responses", '"tools":[{"type":"image_generation","model":"a"}]', ("a",)),
    ("anthropic_messages", '"fallbacks":[{"model":"a"}]', ("a",)),
    ("anthropic_messages", '"tools":[{"type":"advisor_20260301","model":"a"}]', ("a",)),
    ("gemini_generate", '"contents":[],"routingConfig":{"manualMode":{"modelName":"a"}}', ("a",)),
    ("gemini_generate", '"contents":[{"model":"models/m"}]', ()),
    ("openai_chat", '"web_search_options":{"model":"a"}', ("a",)),
    ("openai_chat", '"web_search_options":{"user_location":{"approximate":{"model":"a"}}}', ("a",)),
    ("openai_chat", '"engine":"a"', ("a",)),
    ("openai_chat", '"plugins":[{"id":"file-parser","pdf":{"engine":"a"}}]', ("a",)),
    ("openai_chat", '"deployment_id":"a"', ("a",)),
    ("openai_chat", '"route":"a"', ("a",)),
    ("openai_chat", '"provider":{"models":["a"]}', ("a",)),
    ("openai_chat", '"reranker":{"model":"a"}', ("a",)),
    ("openai_chat", '"compound_custom":{"models":{"answering_model":"a"}}', ("a",)),
    ("openai_chat", '"lora_path":"a"', ("a",)),
    ("openai_chat", '"parameters":{"model":"a"}', ("a",)),
    (
        "openai_chat",
        '"tools":[{"type":"function","function":{"type":"t","name":"n",'
        '"parameters":{"model":"a"}}}]',
        ("a",),
    ),
    ("openai_embeddings", '"input":[{"model":"a"}]', ("a",)),
    ("openai_completions", '"prompt":[["x", {"model":"a"}]]', ("a",)),
    ("gemini_generate", '"engine":"projects/p/engines/e"', ()),
]


# OpenRouter's tools, which it runs itself, keep their settings where a function has its schema.
TOOL = '{"type":"openrouter:image_generation","parameters":{"model":"a"}}'
for _dialect in NAMED:
    for _tools in (
        f"[{TOOL}]",
        TOOL,
        f'[{{"type":"function","name":"f","parameters":{{}}}},{TOOL}]',
        f'[{{"type":"namespace","tools":[{TOOL}]}}]',
    ):
        MODELS.append((_dialect, f'"tools":{_tools}', ("a",)))
    MODELS.append(
        (_dialect, '"tools":[{"type":"function","name":"f","parameters":{"model":"a"}}]', ())
    )


@for_each(("dialect", "inside", "named"), MODELS)
def test_other_models_are_seen(dialect: str, inside: str, named: tuple[str, ...]):
    seen = peek(dialect, whole(dialect, inside))
    assert isinstance(seen, Peek), seen
    assert seen.other_models == named


USERS = [
    ("anthropic_messages", '"messages":[{"role":"assistant","content":[{"type":"tool_use",'
     '"id":"t","name":"n","input":{"model":"T","file_id":"f","order_id":7}}]}]'),
    ("anthropic_messages", '"tools":[{"name":"n","new_field":1,"input_schema":{"properties":'
     '{"file_id":{"type":"string","default":"x"},"model":{"enum":["a"]}}}}]'),
    ("openai_chat", '"x":1,"tools":[{"type":"function","function":{"name":"n","parameters":'
     '{"properties":{"user_ids":{"type":"array"}}}}}],"metadata":{"customer_id":"7"}'),
    ("openai_chat", '"x":1,"messages":[{"role":"tool","tool_call_id":"c","content":'
     '"{\\"file_id\\": \\"f\\"}"}]'),
    ("gemini_generate", '"x":1,"contents":[{"parts":[{"functionCall":{"id":"c","name":"n","args":'
     '{"model":"a","ids":["b"]}}},{"functionResponse":{"name":"n","response":{"uri":"u"}}}]}]'),
    ("openai_responses", '"x":1,"input":[{"type":"message","id":"msg_1","role":"assistant",'
     '"content":[{"type":"output_text","text":"","annotations":[{"file_id":"f"}]}]}]'),
    *((dialect, f'"{field}":{{"$defs":{{"Model":{{"type":"object"}},"Container":{{"id":"x"}}}}}}')
      for dialect in ("openai_chat", "openai_completions", "openai_responses")
      for field in ("guided_json", "json_schema")),
    ("openai_chat", '"structured_outputs":{"json":{"$defs":{"Conversation":{"model":"a"}}}}'),
    ("openai_chat", '"x":{"definitions":{"Thread":{"type":"object"}}}'),
    ("openai_chat", '"stop_token_ids":[151643],"allowed_token_ids":[1,2]'),
    ("openai_chat", '"chat_id":"c","message_id":"m","litellm_session_id":"s"'),
    ("openai_chat", '"user_security_context":{"end_user_id":"u","end_user_tenant_id":"t"}'),
    ("openai_chat", '"plugins":[{"type":"file-parser","pdf":{"engine":"pdf-text"}},'
     '{"type":"web","engine":"exa"}]'),
    ("openai_completions", '"prompt_token_ids":[1]'),
    ("openai_responses", '"prompt":{"variables":{"customer_id":"1","model":"a","route":"b"}}'),
    ("openai_responses", '"tools":[{"type":"mcp","headers":{"x-project-id":"1","model":"a"}}]'),
    ("anthropic_messages", '"tools":[{"type":"mcp_toolset","mcp_server_name":"n","configs":'
     '{"get_user_by_id":{"enabled":true},"list_models":{"enabled":false}}}]'),
]  # fmt: skip


@for_each(("dialect", "inside"), USERS)
def test_the_user_s_own_data_names_nothing(dialect: str, inside: str):
    seen = peek(dialect, whole(dialect, inside))
    assert isinstance(seen, Peek), seen
    assert (seen.bound_ids, seen.other_models, seen.unlisted) == ((), (), ())


def test_what_a_map_of_the_user_s_names_holds_is_looked_into():
    inside = '"prompt":{"variables":{"doc":{"type":"input_file","file_id":"f1"}}}'
    seen = peek("openai_responses", whole("openai_responses", inside))
    assert isinstance(seen, Peek), seen
    assert "f1" in seen.bound_ids
    for dialect in ("openai_chat", "anthropic_messages", "gemini_generate"):
        inside = '"x":{"variables":{"model":"a"}}'
        seen = peek(dialect, whole(dialect, inside))
        assert isinstance(seen, Peek), seen
        assert seen.other_models == ("a",)
    for engine in ("exa2", "gpt-4"):
        seen = peek("openai_chat", whole("openai_chat", f'"x":[{{"engine":"{engine}"}}]'))
        assert isinstance(seen, Peek), seen
        assert seen.other_models == (engine,)


@for_each(
    "name",
    [
        "agent_id", "memory_store_ids", "voiceId", "reward_model", "rewardModels", "asset_uri",
        "model_group", "modelAlias", "ModelName2", "my-engine", "searchEngine", "engines",
        "DeploymentName", "azure_deployment", "deployedModel", "adapters", "loraScale", "routes",
        "model_router", "default_fallbacks", "fallbackTo", "MODEL_VERSION", "guardrailIdentifier",
        "profile_arn",
    ],
)  # fmt: skip
def test_a_field_that_looks_as_if_it_named_something_is_reported(name: str):
    for value in ('"a"', '["a"]', '{"id": "a"}', "7"):
        for inside in nestings(f'"{name}": {value}'):
            seen = peek("openai_chat", whole("openai_chat", inside))
            assert isinstance(seen, Peek), seen
            assert seen.unlisted == (name,), inside
    empty = peek("openai_chat", whole("openai_chat", f'"{name}": null'))
    assert isinstance(empty, Peek)
    assert empty.unlisted == ()


@pytest.mark.parametrize(
    "name",
    ["remodel", "modelling", "engineer", "enroute", "routed", "Florals", "fallbacked", "idea"],
)
def test_a_word_that_only_begins_or_ends_alike_says_nothing(name: str):
    for dialect in NAMED:
        assert NAMED[dialect].kind(name) is None


@pytest.mark.parametrize("name", ["fallbacks", "models", "route", "deployment"])
def test_models_that_are_hidden_in_names_lists_or_numbers_are_reported(name: str):
    for value in (
        '{"a":["b"]}',
        '[{"a":["b"]}]',
        '["c",{"a":1}]',
        '[["a"]]',
        '["a",[]]',
        "7",
        "[1.5]",
    ):
        seen = peek("openai_chat", whole("openai_chat", f'"{name}": {value}'))
        assert isinstance(seen, Peek), seen
        assert seen.unlisted == (name,), value


def _places(shape: Any, *above: str) -> Iterator[tuple[tuple[str, ...], str]]:
    for name, inner in shape.items():
        yield above, name
        if isinstance(inner, dict):
            yield from _places(inner, *above, name)


@pytest.mark.parametrize("dialect", sorted(PLAIN))
def test_no_field_that_names_something_is_taken_for_plain(dialect: str):
    table = NAMED[dialect]
    read_elsewhere = {
        ((), "model"),
        (("requests",), "model"),
        ((), "previous_response_id"),
        ((), "conversation"),
    }
    for above, name in _places(PLAIN[dialect]):
        if (above, name) not in read_elsewhere:
            assert table.kind(name) not in ("model", "object", UNLISTED, AMBIGUOUS), (above, name)
            assert name not in table.parents, (above, name)


def _leaves(shape: Any, *above: str) -> Iterator[tuple[tuple[str, ...], str, str]]:
    for name, inner in shape.items():
        if isinstance(inner, dict):
            yield from _leaves(inner, *above, name)
        else:
            yield above, name, inner


def _nested(above: tuple[str, ...], inside: str) -> bytes:
    for name in reversed(above):
        inside = f'"{name}":[{{{inside}}}]'
    return f"{{{inside}}}".encode()


@pytest.mark.parametrize("dialect", sorted(PLAIN))
def test_only_own_data_may_hold_objects_that_are_not_looked_into(dialect: str):
    for above, name, kind in _leaves(PLAIN[dialect]):
        for value in ('{"model":"a"}', '[{"model":"a"}]', '[["x"],[{"b":{"model":"a"}}]]'):
            body = _nested(above, f'"{name}":{value}')
            if kind == OWN:
                assert NAMED[dialect].kind(name) == OWN_DATA, (above, name)
                assert above or name in TOP_DATA, name
            else:
                assert not is_plain(dialect, body), body
    assert is_plain("openai_embeddings", b'{"model":"m","input":[[1,2],[3]],"user":"{"}')
    assert is_plain("openai_embeddings", b'{"model":"m","input":["{\\"model\\":1}"]}')
    assert ROW in PLAIN["openai_completions"].values()


@pytest.mark.parametrize("dialect", sorted(PLAIN))
def test_a_field_twice_in_any_object_is_refused(dialect: str):
    for above, name in _places(PLAIN[dialect]):
        for twice in (
            f'"{name}":null,"{name}":null',
            f'"{name}":"a","x":":","\\u{ord(name[0]):04x}{name[1:]}":"b\\u003a"',
            f'"{name}":"\\u003A","{name}":""',
        ):
            body = _nested(above, twice)
            assert not is_plain(dialect, body), body
            refused = read_named(dialect, body)
            assert isinstance(refused, Refusal), body
            assert refused.code == "invalid_request"


def test_what_is_written_twice_in_the_user_s_own_data_passes():
    inside = '"tools":[{"name":"n","input_schema":{"a":1,"a":2}}],"metadata":{"a":"b","a":"b"}'
    body = f'{{"model":"m","messages":[],{inside}}}'.encode()
    assert is_plain("anthropic_messages", body)
    assert read_named("anthropic_messages", body) == Named()


@pytest.mark.parametrize("dialect", sorted(PATHS))
def test_both_readers_agree_on_plain_bodies(dialect: str):
    for field in ('"temperature": 1', '"user": "u"', '"labels": {}', '"stop": null'):
        body = whole(dialect, field).replace(b'"x-first": 1, ', b"")
        if is_plain(dialect, body):
            assert read_named(dialect, body) == Named()


@pytest.mark.parametrize("size", [10, LARGE])
def test_an_image_beside_a_name_is_no_obstacle(size: int):
    data = "data:image/png;base64," + "QUJD" * size
    for image in (data, "QUJD" * size):
        body = json.dumps({"model": "m", "image": image, "file_id": "a"}).encode()
        found = find_named("openai_chat", body)
        assert isinstance(found, Named)
        assert found.objects == ["a"]


BOMBS = {
    "objects": b"{}," * (MOST_CONTAINERS + 1),
    "arrays": b"[]," * (MOST_CONTAINERS + 1),
    "numbers": b"0," * 200_000,
    "names": b'{"file_id":"a"},' * (MOST_NAMED + 1),
}


@pytest.mark.parametrize("kind", sorted(BOMBS))
def test_what_cannot_be_checked_within_bounds_is_refused(kind: str):
    body = b'{"model":"m","messages":[' + BOMBS[kind][:-1] + b'],"unknown":1}'
    found = find_named("openai_chat", body)
    assert isinstance(found, Refusal)
    assert found.code == "invalid_request"
