"""``anthropic_messages``: POST /v1/messages and /v1/messages/count_tokens.

Usage comes in ``message_start`` and again, cumulative, in ``message_delta``; the last statement
wins field by field. Sources: docs.anthropic.com/en/api/messages, …/messages-streaming, …/errors.
"""

from typing import Any

import msgspec

from xairouter.dialects.interface import Dialect, Tally
from xairouter.dialects.openai import file_ids, model_field, prepare
from xairouter.dialects.peek import count_field, flag_field, read_object
from xairouter.domain.calls import Match, Peek, Refusal, Usage
from xairouter.errors import ErrorRow


class _Document(msgspec.Struct):
    id: Any = None
    type: Any = None
    model: Any = None
    usage: Any = None
    message: Any = None


_DOCUMENT = msgspec.json.Decoder(_Document)


def peek(match: Match, body: bytes) -> Peek | Refusal:
    """Model, streaming, declared output, uploaded files referred to."""
    read = read_object(body, ("model", "stream", "max_tokens"))
    if isinstance(read, Refusal):
        return read
    fields, insert_at = read
    model = model_field(fields)
    streams = flag_field(fields, "stream")
    declared = count_field(fields.get("max_tokens", (None,))[0], "max_tokens")
    for value in (model, streams, declared):
        if isinstance(value, Refusal):
            return value
    assert isinstance(model, tuple)
    return Peek(
        model=model[0],
        model_span=model[1],
        streams=bool(streams),
        max_output_tokens=declared if isinstance(declared, int) else None,
        bound_ids=file_ids(body),
        insert_at=insert_at,
    )


def absorb(tally: Tally, document: bytes) -> None:
    """Read a reply body or one stream event."""
    read = _DOCUMENT.decode(document)
    if isinstance(read.message, dict):
        inner = read.message
        tally.add_usage(inner.get("usage"))
        tally.note(object_id=inner.get("id"), model=inner.get("model"))
    tally.add_usage(read.usage)
    tally.note(object_id=read.id, model=read.model)
    if read.type == "error":
        tally.error = "upstream_error"


_USED = frozenset(
    {
        "input_tokens",
        "output_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "output_tokens_details.thinking_tokens",
        "service_tier",
    }
)


def total(tally: Tally) -> Usage:
    """input = uncached + cache reads + cache writes, as Anthropic counts them apart."""
    plain = tally.count("input_tokens")
    read = tally.count("cache_read_input_tokens")
    written = tally.count("cache_creation_input_tokens")
    tier = tally.raw.get("service_tier")
    return Usage(
        input_tokens=None if plain is None else plain + (read or 0) + (written or 0),
        cached_input_tokens=read,
        cache_write_tokens=written,
        output_tokens=tally.count("output_tokens"),
        reasoning_tokens=tally.count("output_tokens_details.thinking_tokens"),
        detail=tally.detail(_USED),
        model=tally.model,
        object_id=tally.object_id,
        service_tier=tier if isinstance(tier, str) else None,
    )


_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def refuse(row: ErrorRow, refusal: Refusal, call_id: str) -> bytes:
    """``{"type": "error", "error": {"type", "message"}, "request_id"}``."""
    error = {"type": _TYPES.get(row.status, "api_error"), "message": refusal.message}
    return msgspec.json.encode({"type": "error", "error": error, "request_id": call_id})


def refuse_midstream(row: ErrorRow, refusal: Refusal, call_id: str) -> bytes:
    """One ``error`` event."""
    return b"event: error\ndata: " + refuse(row, refusal, call_id) + b"\n\n"


ANTHROPIC_MESSAGES = Dialect(
    name="anthropic_messages",
    peek=peek,
    prepare=prepare,
    absorb=absorb,
    total=total,
    marks=(b'"usage"', b'"error"'),
    end_marks=(b"event: message_stop",),
    refuse=refuse,
    refuse_midstream=refuse_midstream,
    default_headers={"anthropic-version": "2023-06-01"},
)
