"""What a provider keeps beside a reply (sound, containers, files) is its maker's to name again, and
nobody's beside it."""

from typing import Any

import pytest

from tests.rig import Rig
from tests.unit.dialects.test_parts import FORMS, RAN, anthropic, chat
from xairouter.standin.faults import Reply

pytestmark = pytest.mark.shared_rig
CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
HELLO = {"role": "user", "content": "hello"}
SAID = {"model": "m", "max_tokens": 9, "messages": [HELLO]}
AGAIN: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "sound": [
        (CHAT, {**SAID, "messages": [HELLO, {"role": "assistant", "audio": {"id": "audio_1"}}]})
    ],
    "code": [
        (MESSAGES, {**SAID, "container": "container_1"}),
        (MESSAGES, {**SAID, "messages": [HELLO, {"role": "assistant", "content": [RAN]}]}),
    ],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", AGAIN)
async def test_what_a_reply_keeps_is_its_maker_s_to_name_again(rig: Rig, kind: str, form: str):
    await rig.add_provider_key()
    red, blue = [(await rig.add_account(name))["api_key"] for name in ("red", "blue")]
    path, body = (
        (CHAT, chat(form, "a" * 100_000)) if kind == "sound" else (MESSAGES, anthropic(form))
    )
    rig.standin.scripted = Reply(200, (("content-type", form),), body)
    made = await rig.ask("POST", path, {**SAID, "stream": form != FORMS[0]}, key=red)
    assert made.status == 200
    rig.standin.scripted = None
    for stored in (False, True):
        if stored:
            await rig.house.drain.drain()
            rig.house.directory._bindings.clear()
        for where, again in AGAIN[kind]:
            mine = await rig.ask("POST", where, again, key=red)
            assert mine.status == 200, (stored, mine.body)
            assert (await rig.ask("POST", where, again)).status == 200, "the owner's, too"
            refused = await rig.ask("POST", where, again, key=blue)
            assert (refused.status, refused.code) == (404, "object_not_found")


WHOLE: dict[str, dict[str, Any]] = {
    "no result": {"type": "function_call_output", "id": "fco_1", "call_id": "c", "output": []},
    "no text": {"type": "message", "id": "msg_other", "role": "assistant", "content": []},
    "no tools": {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "s", "tools": []},
    "no action": {"type": "web_search_call", "id": "ws_1", "status": "completed"},
}
KEPT: dict[str, dict[str, Any]] = {
    "message": {"type": "message", "id": "msg_other"},
    "message without a role": {"type": "message", "id": "msg_other", "content": []},
    "reasoning": {"type": "reasoning", "id": "rs_other", "summary": [], "content": []},
    "output": {"type": "function_call_output", "id": "fco_1", "output": []},
    "tools": {"type": "mcp_list_tools", "id": "mcpl_1"},
    "search": {"type": "web_search_call", "id": "ws_1"},
}


async def test_an_item_with_empty_content_is_no_reference(rig: Rig):
    await rig.add_provider_key()
    key = (await rig.add_account("red"))["api_key"]
    for items, expected in ((WHOLE, 200), (KEPT, 404)):
        for name, item in items.items():
            answer = await rig.ask(
                "POST", RESPONSES, {"model": "m", "input": [HELLO, item]}, key=key
            )
            assert answer.status == expected, (name, answer.body)
