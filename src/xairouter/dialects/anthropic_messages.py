"""``anthropic_messages``: POST /v1/messages and /v1/messages/count_tokens.

Usage comes in ``message_start`` and again, cumulative, in ``message_delta``; the last statement
wins field by field. Where it holds ``iterations`` (a compaction, an advisor, another model in the
place of the first), the top leaves some of them out, and their sum is billed. Sources:
docs.anthropic.com/en/api/messages, …/messages-streaming, …/errors, …/build-with-claude/compaction.
"""

import re
from typing import Any

import msgspec

from xairouter.dialects.interface import MOST_PARTS, MOST_TOKENS, Dialect, Tally, strings_of
from xairouter.dialects.look import Look
from xairouter.dialects.named import Named, find_named
from xairouter.dialects.openai import model_field, prepare
from xairouter.dialects.output import read_declared
from xairouter.dialects.peek import flag_field, read_object
from xairouter.domain.calls import Match, Peek, Refusal, Usage
from xairouter.errors import ErrorRow


class _Document(msgspec.Struct):
    id: Any = None
    type: Any = None
    model: Any = None
    usage: Any = None
    message: Any = None
    container: Any = None
    delta: msgspec.Raw = msgspec.Raw()
    content: msgspec.Raw = msgspec.Raw()
    content_block: msgspec.Raw = msgspec.Raw()


_DOCUMENT = msgspec.json.Decoder(_Document)
_STOP = re.compile(rb'"stop_reason"\s*+:\s*+"')
_HOLDERS = frozenset({"message"})


def peek(match: Match, body: bytes, look: Look | None = None) -> Peek | Refusal:
    """Model, streaming, declared output, uploaded files referred to."""
    read = read_object(body, ("model", "stream", "max_tokens"), top=look and look.top)
    if isinstance(read, Refusal):
        return read
    fields, insert_at = read
    model = model_field(fields)
    streams = flag_field(fields, "stream")
    output = read_declared(fields, "max_tokens")
    named = look.named if look else find_named(match.operation.dialect, body)
    for value in (model, streams, output, named):
        if isinstance(value, Refusal):
            return value
    assert isinstance(model, tuple)
    assert isinstance(output, tuple)
    assert isinstance(named, Named)
    return Peek(
        model=model[0],
        model_span=model[1],
        streams=bool(streams),
        declared=output[0],
        max_output_tokens=output[1],
        bound_ids=tuple(named.objects),
        other_models=tuple(named.models),
        unlisted=tuple(named.unlisted),
        insert_at=insert_at,
    )


def absorb(tally: Tally, document: bytes) -> None:
    """Read a reply body or one stream event. Final is the usage of a whole message, or of the
    ``message_delta`` that says why the message ended; some servers send others on the way."""
    read = _DOCUMENT.decode(document)
    if b'"container"' in document or b'"file_id"' in document:
        _note_parts(tally, read)
    if isinstance(read.message, dict):
        inner = read.message
        tally.note(object_id=inner.get("id"), model=inner.get("model"))
        tally.add_usage(inner.get("usage"))
    tally.note(object_id=read.id, model=read.model)
    _add_usage(tally, read.usage)
    if read.usage and (read.type == "message" or _ends(read)):
        # Which has no word of searches where there were none.
        tally.shows_use = True
        tally.is_final = True
    if read.type == "error":
        tally.has_failed = True


def _ends(read: _Document) -> bool:
    """Whether an event is the one that ends a message."""
    return read.type == "message_delta" and _STOP.search(read.delta) is not None


def _note_parts(tally: Tally, read: _Document) -> None:
    """The container in which the provider's code ran, and the files that it made."""
    delta = msgspec.json.decode(read.delta) if bytes(read.delta) else None
    holders = [read.message, delta, {"container": read.container}]
    containers = [one.get("container") for one in holders if isinstance(one, dict)]
    ids = [one.get("id") if isinstance(one, dict) else one for one in containers]
    left: list[Any] = [
        msgspec.json.decode(raw)
        for raw in (read.content, read.content_block)
        if b'"file_id"' in bytes(raw)
    ]
    while left and len(ids) < MOST_PARTS:
        one = left.pop()
        if isinstance(one, dict):
            ids.append(one.get("file_id"))
            left += one.values()
        elif isinstance(one, list):
            left += one
    tally.note_more_parts(ids)


_SUMMED = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cache_creation.ephemeral_1h_input_tokens",
    "cache_creation.ephemeral_5m_input_tokens",
    "output_tokens_details.thinking_tokens",
)
_OWN = ("message", "compaction")
"""Iterations at the rates of the request's own model, unless they name another one."""
MOST_ITERATIONS = 1000
"""So many are looked at; what a provider lists behind them counts as the unknown."""


_GIVEN = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def _add_usage(tally: Tally, usage: Any) -> None:
    """A statement behind a message's beginning replaces the input of that unless it says less."""
    before = {path: tally.raw[path] for path in _GIVEN if path in tally.raw}
    most = _given(tally) if before else 0
    tally.add_usage(usage)
    if isinstance(usage, dict) and usage.get("iterations"):
        _add_iterations(tally, usage["iterations"])
    if before and _given(tally) < most:
        for path in _GIVEN:
            tally.raw.pop(path, None)
        tally.raw.update(before)


def _given(tally: Tally) -> int:
    return sum(tally.count(path) or 0 for path in _GIVEN)


def _add_iterations(tally: Tally, entries: Any) -> None:
    """The sum over the iterations at the model's own rates, where it is above what the top says; and
    how many others there are, whose rates are not known here."""
    sums, others = dict.fromkeys(_SUMMED, 0), 0
    listed = entries if isinstance(entries, list) else [None]
    others += len(listed[MOST_ITERATIONS:])
    for entry in listed[:MOST_ITERATIONS]:
        one = Tally()
        one.add_usage(entry)
        is_whole = None not in (one.count("input_tokens"), one.count("output_tokens"))
        is_own = one.raw.get("type") in _OWN and one.raw.get("model") in (None, tally.model)
        if not (is_whole and is_own):
            others += 1
            continue
        for path in _SUMMED:
            sums[path] += one.count(path) or 0
    stated = {path: min(amount, MOST_TOKENS) for path, amount in sums.items()}
    tally.add_usage({path: n for path, n in stated.items() if n > (tally.count(path) or 0)})
    if others:
        tally.add_usage({"other_iterations": others})


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
    marks=(b'"usage"', b'"error"', b'"file_id"'),
    end_marks=(b"event: message_stop",),
    reply_fields=frozenset(_Document.__struct_fields__) - _HOLDERS - {"content"},
    reply_holders=_HOLDERS,
    reply_lists={"content": frozenset({"content"})},
    refuse=refuse,
    refuse_midstream=refuse_midstream,
    text=strings_of("text", "thinking", "partial_json"),
    default_headers={"anthropic-version": "2023-06-01"},
)
