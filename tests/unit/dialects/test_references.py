"""An input item without content stands for a stored one, and is found as such."""

import json
from typing import Any

import pytest

from tests.rows import for_each
from xairouter.dialects.named_fields import NAMED
from xairouter.dialects.paths import find
from xairouter.dialects.table import DIALECTS
from xairouter.domain.calls import Peek, Refusal

WHOLE: dict[str, dict[str, Any]] = {
    "message": {"content": [{"type": "output_text", "text": "a"}]},
    "reasoning": {"encrypted_content": "abc"},
    "compaction": {"encrypted_content": "abc"},
    "function_call": {"arguments": "{}"},
    "function_call_output": {"output": "a"},
    "custom_tool_call": {"input": "a"},
    "custom_tool_call_output": {"output": "a"},
    "web_search_call": {"action": {"type": "search", "query": "a"}},
    "file_search_call": {"queries": ["a"]},
    "computer_call": {"action": {"type": "click"}},
    "computer_call_output": {"output": {"type": "computer_screenshot", "image_url": "data:a"}},
    "local_shell_call": {"action": {"type": "exec"}},
    "shell_call": {"action": {"commands": ["ls"]}},
    "apply_patch_call": {"operation": {"type": "delete_file"}},
    "code_interpreter_call": {"code": "1"},
    "image_generation_call": {"result": "abc"},
    "mcp_list_tools": {"tools": [{"name": "a"}]},
    "mcp_approval_request": {"arguments": "{}"},
    "mcp_call": {"arguments": "{}"},
    "some_later_call": {"output": "a"},
}
BESIDE: list[dict[str, Any]] = [
    {},
    {"status": "completed"},
    {"role": "assistant", "status": "completed", "phase": "final_answer"},
    {"call_id": "c", "name": "n", "server_label": "s"},
    {"anything": "else"},
]


def peek(body: bytes) -> Peek | Refusal:
    match = find("POST", b"/v1/responses")
    assert match is not None
    return DIALECTS["openai_responses"].peek(match, body)


def referred(*items: Any, **more: Any) -> tuple[str, ...]:
    seen = peek(json.dumps({"model": "m", "input": list(items)} | more).encode())
    assert isinstance(seen, Peek), seen
    return seen.bound_ids


def may_be_none(item: dict[str, Any]) -> bool:
    """Whether the item is whole with an empty list."""
    if item.get("type", "message") == "message":
        return "role" in item
    return item["type"] == "mcp_list_tools"


@for_each("kind", [*WHOLE, None])
def test_an_item_with_an_id_and_no_content_is_a_reference(kind: str | None):
    content = WHOLE[kind or "message"]
    typed = {"type": kind} if kind else {}
    for beside in BESIDE:
        item = typed | {"id": "sibling_1"} | beside
        if kind == "web_search_call" and "status" in beside:
            continue  # What older clients repeat of a search.
        assert referred(item) == ("sibling_1",), item
        nothing: tuple[object, ...] = (None, {}) if may_be_none(item) else (None, [], {})
        for empty in nothing:
            emptied = item | dict.fromkeys(content, empty)
            if kind and kind.endswith("_call_output") and "call_id" in beside:
                assert referred(emptied) == (), emptied
            else:
                assert referred(emptied) == ("sibling_1",), emptied
        assert referred(item | content) == (), item
        assert referred({"role": "user", "content": "hi"}, item) == ("sibling_1",)
    seen = peek(json.dumps({"model": "m", "input": typed | {"id": "sibling_1"}}).encode())
    assert isinstance(seen, Peek)
    assert seen.bound_ids == ("sibling_1",)


def test_an_item_may_have_nothing_in_it():
    for whole in (
        {"type": "message", "role": "assistant", "content": []},
        {"role": "assistant", "content": []},
        {"type": "mcp_list_tools", "tools": []},
        {"type": "function_call_output", "call_id": "c", "output": []},
        {"type": "web_search_call", "status": "completed"},
    ):
        assert referred(whole | {"id": "sibling_1"}) == (), whole


def test_a_summary_is_no_content_of_a_reasoning_item():
    summary = [{"type": "summary_text", "text": "a"}]
    item = {"type": "reasoning", "id": "sibling_1", "summary": summary}
    assert referred(item) == ("sibling_1",)
    assert referred(item | {"content": [{"type": "reasoning_text", "text": "a"}]}) == ()


def test_a_call_without_arguments_or_output_is_whole():
    call = {"type": "function_call", "id": "f", "call_id": "c", "name": "n", "arguments": ""}
    output = {"type": "function_call_output", "id": "o", "call_id": "c", "output": ""}
    assert referred(call, output) == ()


def test_an_approval_refers_to_its_request_unless_the_body_holds_it():
    request = {"type": "mcp_approval_request", "id": "sibling_1", "arguments": "{}", "name": "n"}
    approval = {
        "type": "mcp_approval_response",
        "approval_request_id": "sibling_1",
        "approve": True,
    }
    assert referred(approval) == ("sibling_1",)
    assert referred(request, approval) == ()
    del request["arguments"]
    assert set(referred(request, approval)) == {"sibling_1"}


@pytest.mark.parametrize(
    "types",
    [
        '"type":"item_reference","type":"message"',
        '"type":"message","type":"item_reference"',
        '"type":"item\\u005freference","type":"message"',
        '"type":"\\u0069tem_reference","\\u0074ype":"message"',
    ],
)
def test_two_types_in_one_item_are_refused(types: str):
    content = '"content":[{"type":"output_text","text":"a"}]'
    for item in (f'{{{types},"id":"a"}}', f'{{{types},"id":"a",{content}}}'):
        seen = peek(f'{{"model":"m","input":[{item}]}}'.encode())
        assert isinstance(seen, Refusal), item
        assert (seen.code, seen.param) == ("invalid_request", "type")


@pytest.mark.parametrize("dialect", sorted(NAMED))
def test_two_types_in_any_object_are_refused(dialect: str):
    paths = {"anthropic_messages": "/v1/messages", "openai_chat": "/v1/chat/completions"}
    match = find("POST", paths.get(dialect, "/v1/responses").encode())
    assert match is not None
    for inside in (
        '{"type":"function","type":"openrouter:x","parameters":{"analysis_models":["a"]}}',
        '{"type":"anthropic","type":"custom","skill_id":"b"}',
    ):
        body = f'{{"model":"m","x-first":1,"tools":[{inside}]}}'.encode()
        assert isinstance(DIALECTS[match.operation.dialect].peek(match, body), Refusal)
