"""Which ids of a response are registered beside its own: its stored items and its containers."""

import json
from typing import Any

import pytest

from tests.rows import for_each
from xairouter.dialects.condense import MOST_LISTED, SMALL
from xairouter.dialects.interface import LONGEST_ID, MOST_PARTS
from xairouter.dialects.meter import Meter
from xairouter.dialects.table import DIALECTS

ITEMS: list[Any] = [
    {"type": "reasoning", "id": "rs_1", "summary": []},
    {
        "type": "message",
        "id": "msg_1",
        "content": [{"type": "output_text", "text": "a", "id": "x"}],
    },
    {
        "type": "code_interpreter_call",
        "id": "ci_1",
        "container_id": "cntr_1",
        "outputs": [{"id": 1}],
    },
    {"type": "function_call", "id": "fc_1", "call_id": "call_1", "arguments": '{"id":"no"}'},
]
IDS = {"rs_1", "msg_1", "ci_1", "fc_1", "cntr_1"}
USAGE = {"input_tokens": 7, "output_tokens": 9}
FORMS = ["application/json", "text/event-stream"]


def response(items: object, **fields: object) -> dict[str, object]:
    return {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "output": items,
        "usage": USAGE,
        **fields,
    }


def event(kind: str, **fields: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def reply(form: str, made: dict[str, object]) -> bytes:
    if form == "application/json":
        return json.dumps(made).encode()
    last = f"response.{made['status']}"
    started = {**made, "status": "in_progress", "output": [], "usage": None}
    items = made["output"] if isinstance(made["output"], list) else []
    return (
        event("response.created", response=started)
        + b"".join(event("response.output_item.done", item=one) for one in items)
        + event("response.output_text.delta", delta="a")
        + event(last, response=made)
    )


def read(form: str, data: bytes, cut: int = 1 << 30) -> Meter:
    """A meter that has read a reply, ``cut`` bytes at a time."""
    meter = Meter(DIALECTS["openai_responses"], form, "")
    for at in range(0, len(data), cut):
        meter.feed(data[at : at + cut])
    meter.finish()
    return meter


@for_each("cut", [1, 7, 4096, 1 << 30])
@for_each("status", ["completed", "incomplete", "failed"])
@for_each("form", FORMS)
def test_stored_items_and_containers_are_noted(form: str, status: str, cut: int):
    meter = read(form, reply(form, response(ITEMS, status=status)), cut)
    assert set(meter.tally.parts) == IDS
    assert meter.tally.object_id == "resp_1"


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("cut", [1000, 1 << 30])
@pytest.mark.parametrize("form", FORMS)
def test_a_large_reply_is_read_for_its_items_too(form: str, cut: int, before: bool):
    large = {"type": "image_generation_call", "id": "ig_1", "result": "x" * (SMALL + 1)}
    items = [large, *ITEMS, [], 3, "}", large] if before else [*ITEMS, {}, large]
    meter = read(form, reply(form, response(items, store=True)), cut)
    # What stands between the objects is nothing that a provider sends, and does no harm.
    assert set(meter.tally.parts) == IDS | {"ig_1"}
    assert (meter.tally.count("output_tokens"), meter.tally.unreadable) == (9, 0)


@pytest.mark.parametrize("size", [1, SMALL + 1])
@pytest.mark.parametrize("form", FORMS)
def test_of_a_response_that_is_not_stored_the_containers_alone_are_noted(form: str, size: int):
    made = response(ITEMS, text="x" * size, store=False)
    assert read(form, reply(form, made)).tally.parts == ("cntr_1",)


@pytest.mark.parametrize("text", ["", "x" * (SMALL + 1)])
@pytest.mark.parametrize("form", FORMS)
def test_the_items_of_one_reply_are_bounded(form: str, text: str):
    items = [{"id": f"m{number}"} for number in range(3 * MOST_PARTS)]
    parts = read(form, reply(form, response(items, text=text))).tally.parts
    assert MOST_LISTED == MOST_PARTS
    assert parts == tuple(f"m{number}" for number in range(MOST_PARTS))


@pytest.mark.parametrize("text", ["", "x" * (SMALL + 1)])
@pytest.mark.parametrize("form", FORMS)
def test_the_ids_of_one_reply_are_bounded_together(form: str, text: str):
    ids = [f"{number:03}".ljust(LONGEST_ID, "x") for number in range(MOST_PARTS)]
    items = [{"id": one} for one in ids]
    parts = read(form, reply(form, response(items, text=text))).tally.parts
    assert parts == tuple(ids[:20])


ODD: list[Any] = [
    None,
    3,
    "",
    "a\0b",
    "ü",
    "\ud800",
    "x" * (LONGEST_ID + 1),
    ["msg"],
    {"id": "msg"},
]


@for_each("one", ODD)
@for_each("form", FORMS)
def test_what_cannot_be_an_id_is_left_out(form: str, one: object):
    assert read(form, reply(form, response([{"id": one}], id=one))).tally.parts == ()
    fine = "y" * LONGEST_ID
    assert read(form, reply(form, response([{"id": fine}]))).tally.parts == (fine,)
    meter = read(form, reply(form, response([{"id": fine}], id=fine)))
    assert meter.tally.object_id == fine


@for_each("output", [None, 3, "x", {}, [[]], [3], ["x"], [None]])
@for_each("form", FORMS)
def test_output_that_is_no_list_of_items_costs_the_usage_nothing(form: str, output: object):
    meter = read(form, reply(form, response(output)))
    assert meter.tally.parts == ()
    assert (meter.tally.count("output_tokens"), meter.tally.unreadable) == (9, 0)


@pytest.mark.parametrize("form", FORMS)
def test_they_are_reported_once_and_before_a_stream_s_end_has_passed(form: str):
    meter, seen = Meter(DIALECTS["openai_responses"], form, ""), []
    meter.tally.on_parts = lambda: seen.append(meter.tally.parts)
    meter.feed(reply(form, response(ITEMS)))
    if form == "text/event-stream":
        assert len(seen) == 1
    meter.finish()
    assert [set(one) for one in seen] == [IDS]


RAN = {
    "type": "bash_code_execution_tool_result",
    "tool_use_id": "srvtoolu_1",
    "content": {
        "type": "bash_code_execution_result",
        "stdout": "a",
        "content": [{"type": "bash_code_execution_output", "file_id": f"file_{n}"} for n in (1, 2)],
    },
}
CONTAINER = {"id": "container_1", "expires_at": "2026-01-01T00:00:00Z"}
MADE_BY_CODE = {"container_1", "file_1", "file_2"}
OF_CLAUDE = {"input_tokens": 3, "output_tokens": 4}


def anthropic(form: str, pad: str = "") -> bytes:
    text = {"type": "text", "text": f'x "file_id":"file_no" {pad}'}
    whole = {"id": "msg_1", "type": "message", "content": [text, RAN], "usage": OF_CLAUDE}
    if form == "application/json":
        return json.dumps({**whole, "container": CONTAINER}).encode()
    return (
        event("message_start", message={**whole, "content": [], "container": None})
        + event("content_block_start", index=0, content_block=text)
        + event("content_block_delta", index=0, delta={"type": "text_delta", "text": pad})
        + event("content_block_start", index=1, content_block=RAN)
        + event(
            "message_delta",
            delta={"stop_reason": "end_turn", "container": CONTAINER},
            usage=OF_CLAUDE,
        )
        + event("message_stop")
    )


def chat(form: str, pad: str = "") -> bytes:
    sound = {"id": "audio_1", "data": pad, "transcript": '{"audio":{"id":"audio_no"}}'}
    chunk = {"id": "c", "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    if form == "application/json":
        message = {"role": "assistant", "content": None, "audio": sound}
        return json.dumps({**chunk, "choices": [{"index": 0, "message": message}]}).encode()
    chunks: list[Any] = [
        {"choices": [{"index": 0, "delta": {"role": "assistant"}}]},
        {"choices": [{"index": 0, "delta": {"audio": {"id": "audio_1", "transcript": ""}}}]},
        {"choices": [{"index": 0, "delta": {"audio": {"data": pad}}}]},
        {**chunk, "choices": []},
    ]
    return b"".join(f"data: {json.dumps(one)}\n\n".encode() for one in chunks) + b"data: [DONE]\n\n"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [10, SMALL, 4 * SMALL])
@pytest.mark.parametrize("chunk", [17, 100_000])
def test_containers_files_and_sound_of_other_replies_are_registered(
    form: str, size: int, chunk: int
):
    of = {"anthropic_messages": (anthropic, MADE_BY_CODE), "openai_chat": (chat, {"audio_1"})}
    for dialect, (make, ids) in of.items():
        meter = Meter(DIALECTS[dialect], form, "")
        told: list[tuple[str, ...]] = []
        meter.tally.on_parts = lambda meter=meter, told=told: told.append(meter.tally.parts)
        data = make(form, "a" * size)
        for at in range(0, len(data), chunk):
            meter.feed(data[at : at + chunk])
        meter.finish()
        assert set(meter.tally.parts) == ids, dialect
        assert set(told[-1]) == ids
