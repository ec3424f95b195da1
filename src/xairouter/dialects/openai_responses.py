"""``openai_responses``: POST /v1/responses and the stored responses behind it.

A response that the provider stores is an object of the account that made it:
``previous_response_id`` and ``conversation`` in a body, and ids in paths, resolve to the provider
key that made them. So do the ids of its output items and of containers.
Source: platform.openai.com/docs/api-reference/responses.
"""

from itertools import chain
from typing import Any

import msgspec

from xairouter.dialects import openai
from xairouter.dialects.interface import Dialect, Tally, strings_of
from xairouter.dialects.look import Look
from xairouter.dialects.named import Named, find_named
from xairouter.dialects.output import read_declared
from xairouter.dialects.peek import flag_field, read_object, text_field
from xairouter.domain.calls import Match, Peek, Refusal
from xairouter.errors import ErrorCode, ErrorRow

_GOVERNED = (
    "model",
    "stream",
    "max_output_tokens",
    "previous_response_id",
    "conversation",
    "background",
)


def peek(match: Match, body: bytes, look: Look | None = None) -> Peek | Refusal:
    """Model, streaming, declared output, and the provider objects the body refers to."""
    if not match.operation.needs_model:
        return Peek(model=None, bound_ids=(match.variables["id"],))
    read = read_object(body, _GOVERNED, top=look and look.top)
    if isinstance(read, Refusal):
        return read
    fields, insert_at = read
    model = openai.model_field(fields)
    streams = flag_field(fields, "stream")
    background = flag_field(fields, "background")
    output = read_declared(fields, "max_output_tokens")
    previous = text_field(fields, "previous_response_id")
    named = look.named if look else find_named(match.operation.dialect, body)
    for value in (model, streams, background, output, previous, named):
        if isinstance(value, Refusal):
            return value
    conversation = fields.get("conversation", (None,))[0]
    if isinstance(conversation, dict):
        conversation = conversation.get("id")
    if conversation is not None and not isinstance(conversation, str):
        return Refusal(
            ErrorCode.INVALID_REQUEST,
            "The field `conversation` must be an id or an object.",
            "conversation",
        )
    kept = [value for value in (previous, conversation) if isinstance(value, str)]
    assert isinstance(model, tuple)
    assert isinstance(output, tuple)
    assert isinstance(named, Named)
    return Peek(
        model=model[0],
        model_span=model[1],
        streams=bool(streams),
        background=bool(background),
        declared=output[0],
        max_output_tokens=output[1],
        bound_ids=tuple(dict.fromkeys(kept + named.objects)),
        other_models=tuple(named.models),
        unlisted=tuple(named.unlisted),
        insert_at=insert_at,
    )


class _Item(msgspec.Struct):
    id: Any = None
    container_id: Any = None
    type: Any = None


class _Response(msgspec.Struct):
    output: list[_Item] | None = None
    store: Any = None


class _Document(_Response):
    response: _Response | None = None


_DOCUMENT = msgspec.json.Decoder(_Document)


def absorb(tally: Tally, document: bytes) -> None:
    """What all OpenAI replies say, and the ids of the output: items if the response is stored, and
    the containers in which its code ran."""
    openai.absorb(tally, document)
    if b'"output"' not in document:
        return
    try:
        read = _DOCUMENT.decode(document)
    except msgspec.ValidationError:
        return  # No response as it is documented.
    response = read.response or read
    output = response.output or ()
    if response.output is not None and tally.is_final:
        tally.shows_use = True
    if output:
        items = () if response.store is False else output
        tally.note_parts(chain((one.id for one in items), (one.container_id for one in output)))


def refuse_midstream(row: ErrorRow, refusal: Refusal, call_id: str) -> bytes:
    """An ``error`` event, as the Responses stream defines it."""
    event = {"type": "error", "code": row.code, "message": refusal.message, "param": None}
    return b"event: error\ndata: " + msgspec.json.encode(event) + b"\n\n"


OPENAI_RESPONSES = Dialect(
    name="openai_responses",
    peek=peek,
    prepare=openai.prepare,
    absorb=absorb,
    total=openai.total,
    marks=(b'"usage"', b'"error"'),
    end_marks=(
        b"event: response.completed",
        b"event: response.incomplete",
        b"event: response.failed",
    ),
    reply_fields=openai.REPLY_FIELDS | {"store"},
    reply_holders=openai.REPLY_HOLDERS,
    reply_lists={"output": frozenset(_Item.__struct_fields__)},
    refuse=openai.refuse,
    refuse_midstream=refuse_midstream,
    text=strings_of("delta", "text", "arguments"),
)
