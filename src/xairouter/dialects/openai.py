"""What the OpenAI dialects share: usage fields, splices, error objects.

Sources: platform.openai.com/docs/api-reference (chat, completions, embeddings, responses);
extensions of compatible providers as recorded: ``x_groq.usage`` (Groq), ``prompt_cache_hit_tokens``
(DeepSeek), ``cached_tokens`` (Moonshot), ``num_cached_tokens`` (Mistral), ``cost`` (OpenRouter,
Perplexity), ``cost_in_usd_ticks`` (xAI: 10¹⁰ ticks a dollar).
"""

import re
from decimal import Decimal
from typing import Any

import msgspec

from xairouter.dialects.interface import Tally
from xairouter.dialects.peek import Fields, flag_field, holds, splice, text_field
from xairouter.domain.calls import Match, Peek, Refusal, Span, Usage
from xairouter.errors import ErrorRow


class _Document(msgspec.Struct):
    id: Any = None
    type: Any = None
    model: Any = None
    usage: Any = None
    service_tier: Any = None
    error: Any = None
    response: Any = None
    x_groq: Any = None


_DOCUMENT = msgspec.json.Decoder(_Document)
_ESCAPE = re.compile(rb"\\u00([2-7][0-9a-fA-F])")
_FILE_ID = re.compile(rb'"(?:input_)?file_id"\s*:\s*"([A-Za-z0-9_\-]{1,128})"')


def absorb(tally: Tally, document: bytes) -> None:
    """Read a reply body, a chat chunk or a Responses event."""
    read = _DOCUMENT.decode(document)
    for usage in (read.x_groq, read):
        tally.add_usage(usage.get("usage") if isinstance(usage, dict) else _usage(usage))
    tally.note(object_id=read.id, model=read.model, tier=read.service_tier)
    if isinstance(read.response, dict):
        inner = read.response
        tally.add_usage(inner.get("usage"))
        tally.note(
            object_id=inner.get("id"), model=inner.get("model"), tier=inner.get("service_tier")
        )
    if read.error or read.type in ("error", "response.failed"):
        tally.error = "upstream_error"


def _usage(document: object) -> object:
    return document.usage if isinstance(document, _Document) else None


_USED = frozenset(
    {
        "prompt_tokens",
        "input_tokens",
        "completion_tokens",
        "output_tokens",
        "total_tokens",
        "prompt_tokens_details.cached_tokens",
        "input_tokens_details.cached_tokens",
        "prompt_tokens_details.cache_write_tokens",
        "input_tokens_details.cache_write_tokens",
        "completion_tokens_details.reasoning_tokens",
        "output_tokens_details.reasoning_tokens",
        "cached_tokens",
        "prompt_cache_hit_tokens",
        "num_cached_tokens",
        "reasoning_tokens",
        "cost",
        "cost.total_cost",
        "cost_in_usd_ticks",
        "service_tier",
    }
)


def total(tally: Tally) -> Usage:
    """Normalise OpenAI's fields; ``output_tokens`` is all output even where reasoning stands apart."""
    given = tally.count("prompt_tokens", "input_tokens")
    output = tally.count("completion_tokens", "output_tokens")
    reasoning = tally.count(
        "completion_tokens_details.reasoning_tokens",
        "output_tokens_details.reasoning_tokens",
        "reasoning_tokens",
    )
    stated = tally.count("total_tokens")
    if (
        given is not None
        and output is not None
        and reasoning
        and (
            # xAI counts reasoning beside completion_tokens; the provider's own total gives it away.
            stated == given + output + reasoning
        )
    ):
        output += reasoning
    return Usage(
        input_tokens=given,
        cached_input_tokens=tally.count(
            "prompt_tokens_details.cached_tokens",
            "input_tokens_details.cached_tokens",
            "cached_tokens",
            "prompt_cache_hit_tokens",
            "num_cached_tokens",
        ),
        cache_write_tokens=tally.count(
            "prompt_tokens_details.cache_write_tokens", "input_tokens_details.cache_write_tokens"
        ),
        output_tokens=output,
        reasoning_tokens=reasoning,
        detail=_detail(tally, given, output),
        cost_nano=_stated_cost(tally),
        model=tally.model,
        object_id=tally.object_id,
        service_tier=tally.service_tier or _word(tally, "service_tier"),
    )


def _detail(tally: Tally, given: int | None, output: int | None) -> dict[str, int | float | str]:
    """Everything not normalised, and the provider's total where the parts do not add up to it."""
    detail = dict(tally.detail(_USED))
    stated = tally.count("total_tokens")
    if stated is not None and output is not None and stated != (given or 0) + output:
        detail["total_tokens"] = stated
    return detail


def _word(tally: Tally, path: str) -> str | None:
    value = tally.raw.get(path)
    return value if isinstance(value, str) else None


def _stated_cost(tally: Tally) -> int | None:
    ticks = tally.count("cost_in_usd_ticks")
    if ticks is not None:
        return ticks // 10
    for path in ("cost", "cost.total_cost"):
        value = tally.raw.get(path)
        if isinstance(value, int | float) and 0 <= value < 1e6:
            return int((Decimal(str(value)) * 10**9).to_integral_value())
    return None


def stream_fields(fields: Fields) -> tuple[bool, bool, Span | None] | Refusal:
    """(streams, the client asks for usage, span of ``stream_options``)."""
    streams = flag_field(fields, "stream")
    if isinstance(streams, Refusal):
        return streams
    options, span = fields.get("stream_options", (None, None))
    if options is not None and not isinstance(options, dict):
        return Refusal(
            "invalid_request", "The field `stream_options` must be an object.", "stream_options"
        )
    asks = bool(options and options.get("include_usage") is True)
    return streams, asks, span


def model_field(fields: Fields) -> tuple[str, Span] | Refusal:
    """The model's name and its span; a missing or empty one is ``model_missing``."""
    model = text_field(fields, "model")
    if isinstance(model, Refusal):
        return model
    if not model:
        return Refusal("model_missing", "The body must name a `model`.", "model")
    return model, fields["model"][1]


def file_ids(body: bytes) -> tuple[str, ...]:
    """Ids of uploaded files that a body refers to, at any depth.

    Only a JSON key can match: inside a string every quote is escaped. Escaped ASCII letters are
    unescaped first, so that a spelling cannot hide a reference.
    """
    if holds(body, b"\\u00", b"\\"):
        body = _ESCAPE.sub(_unescape, body)
    if not holds(body, b"file_id", b"_"):
        return ()
    return tuple(dict.fromkeys(found.decode() for found in _FILE_ID.findall(body)))


def _unescape(escape: re.Match[bytes]) -> bytes:
    character = bytes([int(escape.group(1), 16)])
    return escape.group() if character in b'"\\' else character


def prepare(
    match: Match,
    peek: Peek,
    body: bytes,
    *,
    model: str | None,
    ask_usage: bool,
    bound: tuple[str, int] | None,
) -> tuple[str, bytes, bool]:
    """Replace the model's name where the route has another; ask for usage in a stream; bound the
    output where the request does not."""
    changes: list[tuple[Span, bytes]] = []
    added = b""
    if bound is not None:
        added += b'"%s":%d,' % (bound[0].encode(), bound[1])
    if peek.model_span and model is not None and model != peek.model:
        changes.append((peek.model_span, msgspec.json.encode(model)))
    inject = ask_usage and peek.streams and not peek.asks_usage
    if inject:
        if peek.stream_options_span:
            start, end = peek.stream_options_span
            options = msgspec.json.decode(body[start:end]) or {}
            options["include_usage"] = True
            changes.append(((start, end), msgspec.json.encode(options)))
        else:
            added += b'"stream_options":{"include_usage":true},'
    if added:
        changes.append(((peek.insert_at, peek.insert_at), added))
    suffix = match.operation.suffix.format(**match.variables)
    return suffix, splice(body, changes) if changes else body, inject


_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def error_object(row: ErrorRow, refusal: Refusal) -> dict[str, object]:
    kind = _TYPES.get(row.status) or ("invalid_request_error" if row.status < 500 else "api_error")
    return {"message": refusal.message, "type": kind, "param": refusal.param, "code": row.code}


def refuse(row: ErrorRow, refusal: Refusal, call_id: str) -> bytes:
    """``{"error": {"message", "type", "param", "code"}}``."""
    return msgspec.json.encode({"error": error_object(row, refusal)})


def refuse_midstream(row: ErrorRow, refusal: Refusal, call_id: str) -> bytes:
    """One ``data:`` event with the error object, and no ``[DONE]`` after it."""
    return b"data: " + refuse(row, refusal, call_id) + b"\n\n"
