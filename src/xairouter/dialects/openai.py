"""What the OpenAI dialects share: usage fields, splices, error objects.

Sources: platform.openai.com/docs/api-reference (chat, completions, embeddings, responses);
extensions of compatible providers as recorded: ``x_groq.usage`` (Groq), ``prompt_cache_hit_tokens``
(DeepSeek), ``cached_tokens`` (Moonshot), ``num_cached_tokens`` (Mistral), ``cost`` (OpenRouter,
Perplexity), ``cost_in_usd_ticks`` (xAI: 10¹⁰ ticks a dollar).
"""

import re
from collections import Counter
from decimal import Decimal
from typing import Any

import msgspec

from xairouter.dialects.interface import Tally, strings_of
from xairouter.dialects.output import bound_change
from xairouter.dialects.peek import Fields, flag_field, long_name, splice, text_field
from xairouter.domain.calls import Match, Peek, Refusal, Span, Usage
from xairouter.errors import ErrorCode, ErrorRow


class _Document(msgspec.Struct):
    id: Any = None
    type: Any = None
    model: Any = None
    usage: Any = None
    service_tier: Any = None
    error: Any = None
    response: Any = None
    x_groq: Any = None
    choices: msgspec.Raw = msgspec.Raw()
    status: Any = None
    object: Any = None


class _Choice(msgspec.Struct):
    finish_reason: Any = None


TEXT = strings_of("content", "reasoning_content", "reasoning", "refusal", "arguments", "text")
_DOCUMENT = msgspec.json.Decoder(_Document)
REPLY_HOLDERS = frozenset({"response", "x_groq"})
REPLY_FIELDS = frozenset(_Document.__struct_fields__) - REPLY_HOLDERS - {"choices"}
CHOICES = {"choices": frozenset(_Choice.__struct_fields__)}
_CHOICES = msgspec.json.Decoder(list[_Choice])
_FEES = re.compile(
    rb'"type"\s*:\s*"((?:web_search|file_search|code_interpreter|image_generation)_call)"'
)
"""Output items of tools that the provider bills by their use."""
_NO_CHOICES = (b"", b"[]", b"null")


def absorb(tally: Tally, document: bytes) -> None:
    """Read a reply body, a chat chunk or a Responses event.

    Final is, of chat and completions, the usage beside no choices or with the reason why the last
    of them ended (some servers state running counts before); of Responses, that of a response
    which has completed, failed or stopped short; never that of one which still runs.
    """
    read = _DOCUMENT.decode(document)
    inner = read.response if isinstance(read.response, dict) else None
    status = read.status if inner is None else inner.get("status")
    is_over = None if status is None else _is_over(status)
    if is_over is not None:
        tally.is_over = is_over
    of_groq = read.x_groq.get("usage") if isinstance(read.x_groq, dict) else None
    if of_groq:
        tally.add_usage(of_groq)
    if read.usage:
        tally.add_usage(read.usage)
    if (read.usage or of_groq or inner is not None) and _is_final(read, inner, is_over, tally):
        tally.is_final = True
        if b"_call" in document:
            # The usage does not say how often was searched and the like; the output does.
            used = Counter(_FEES.findall(document))
            tally.add_usage({f"{name.decode()}s": count for name, count in used.items()})
    tally.note(object_id=read.id, model=read.model, tier=read.service_tier)
    if inner is not None:
        tally.add_usage(inner.get("usage"))
        tally.note(
            object_id=inner.get("id"), model=inner.get("model"), tier=inner.get("service_tier")
        )
    if read.error or read.type in ("error", "response.failed"):
        tally.has_failed = True


_OVER = frozenset({"completed", "incomplete", "failed", "cancelled"})
"""States of a response that stay."""
_RUNS = frozenset({"queued", "in_progress"})


def _is_over(status: object) -> bool | None:
    """Whether a response in this state has come to its end, None where that is not said."""
    if not isinstance(status, str) or status not in _OVER | _RUNS:
        return None
    return status in _OVER


def _is_final(
    read: _Document, inner: dict[str, Any] | None, is_over: bool | None, tally: Tally
) -> bool:
    """Whether the usage that a document states, or may state in its response, is the final one."""
    if inner is not None:
        return bool(inner.get("usage")) and is_over is True
    if read.object == "response" or is_over is False:
        return is_over is True
    choices = bytes(read.choices)
    if choices in _NO_CHOICES:
        return True
    tally.finished += _finished(choices)
    return tally.finished >= tally.choices


def _finished(choices: bytes) -> int:
    """How many say why they ended, at their own level: inside, a model may write such a field."""
    if b'"finish_reason"' not in choices:
        return 0
    try:
        read = _CHOICES.decode(choices)
    except msgspec.ValidationError:
        return 0  # No choices as they are documented.
    return sum(isinstance(one.finish_reason, str) for one in read)


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


_SUMS = frozenset(
    {"prompt_tokens", "input_tokens", "completion_tokens", "output_tokens", "total_tokens"}
)


def total(tally: Tally) -> Usage:
    """Normalise OpenAI's fields; ``output_tokens`` is all output even where reasoning stands apart, or
    only in the total (Gemini's thoughts at its OpenAI endpoint)."""
    given = tally.count("prompt_tokens", "input_tokens")
    output = tally.count("completion_tokens", "output_tokens")
    reasoning = tally.count(
        "completion_tokens_details.reasoning_tokens",
        "output_tokens_details.reasoning_tokens",
        "reasoning_tokens",
    )
    stated = tally.count("total_tokens")
    if given is not None and output is not None and stated is not None:
        beside = stated - given - output
        # xAI counts reasoning beside completion_tokens. What another field explains is no output
        # (Mistral's input in sound).
        if beside > 0 and (beside == reasoning or beside not in tally.detail(_SUMS).values()):
            output += beside
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
        detail=_detail(tally, given, output, stated),
        cost_nano=_stated_cost(tally),
        model=tally.model,
        object_id=tally.object_id,
        service_tier=tally.service_tier or _word(tally, "service_tier"),
    )


def _detail(
    tally: Tally, given: int | None, output: int | None, stated: int | None
) -> dict[str, int | float | str]:
    """Everything not normalised, and the provider's total where the parts do not add up to it."""
    detail = dict(tally.detail(_USED))
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
            ErrorCode.INVALID_REQUEST,
            "The field `stream_options` must be an object.",
            "stream_options",
        )
    asks = bool(options and options.get("include_usage") is True)
    return streams, asks, span


def model_field(fields: Fields) -> tuple[str, Span] | Refusal:
    """The model's name and its span; a missing or empty one is ``model_missing``."""
    model = text_field(fields, "model")
    if isinstance(model, Refusal):
        return model
    if not model:
        return Refusal(ErrorCode.MODEL_MISSING, "The body must name a `model`.", "model")
    return long_name(model) or (model, fields["model"][1])


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
    output where the request itself does not do it in the field that the provider honours."""
    changes: list[tuple[Span, bytes]] = []
    added = b""
    if bound is not None:
        # Anthropic documents 0 as “fill the cache, say nothing”; its copies may read “no bound”.
        zero = 1 if match.operation.dialect == "anthropic_messages" else bound[1]
        change = bound_change(body, peek.declared, *bound, zero)
        if change is None:
            added += b'"%s":%d,' % (bound[0].encode(), bound[1])
        else:
            changes += change
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
