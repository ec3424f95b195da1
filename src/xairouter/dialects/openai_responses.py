"""``openai_responses``: POST /v1/responses and the stored responses behind it.

A response that the provider stores is an object of the account that made it:
``previous_response_id`` and ``conversation`` in a body, and ids in paths, resolve to the provider
key that made them. Source: platform.openai.com/docs/api-reference/responses.
"""

import msgspec

from xairouter.dialects import openai
from xairouter.dialects.interface import Dialect
from xairouter.dialects.peek import count_field, flag_field, read_object, text_field
from xairouter.domain.calls import Match, Peek, Refusal
from xairouter.errors import ErrorRow

_GOVERNED = ("model", "stream", "max_output_tokens", "previous_response_id", "conversation")


def peek(match: Match, body: bytes) -> Peek | Refusal:
    """Model, streaming, declared output, and the provider objects the body refers to."""
    if not match.operation.needs_model:
        return Peek(model=None, bound_ids=(match.variables["id"],))
    read = read_object(body, _GOVERNED)
    if isinstance(read, Refusal):
        return read
    fields, insert_at = read
    model = openai.model_field(fields)
    streams = flag_field(fields, "stream")
    declared = count_field(fields.get("max_output_tokens", (None,))[0], "max_output_tokens")
    previous = text_field(fields, "previous_response_id")
    for value in (model, streams, declared, previous):
        if isinstance(value, Refusal):
            return value
    conversation = fields.get("conversation", (None,))[0]
    if isinstance(conversation, dict):
        conversation = conversation.get("id")
    if conversation is not None and not isinstance(conversation, str):
        return Refusal(
            "invalid_request",
            "The field `conversation` must be an id or an object.",
            "conversation",
        )
    named = tuple(value for value in (previous, conversation) if isinstance(value, str))
    assert isinstance(model, tuple)
    return Peek(
        model=model[0],
        model_span=model[1],
        streams=bool(streams),
        max_output_tokens=declared if isinstance(declared, int) else None,
        bound_ids=named + openai.file_ids(body),
        insert_at=insert_at,
    )


def refuse_midstream(row: ErrorRow, refusal: Refusal, call_id: str) -> bytes:
    """An ``error`` event, as the Responses stream defines it."""
    event = {"type": "error", "code": row.code, "message": refusal.message, "param": None}
    return b"event: error\ndata: " + msgspec.json.encode(event) + b"\n\n"


OPENAI_RESPONSES = Dialect(
    name="openai_responses",
    peek=peek,
    prepare=openai.prepare,
    absorb=openai.absorb,
    total=openai.total,
    marks=(b'"usage"', b'"error"'),
    end_marks=(
        b"event: response.completed",
        b"event: response.incomplete",
        b"event: response.failed",
    ),
    refuse=openai.refuse,
    refuse_midstream=refuse_midstream,
    output_field="max_output_tokens",
)
