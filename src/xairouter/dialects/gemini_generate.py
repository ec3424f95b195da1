"""``gemini_generate``: Gemini's model verbs. The model stands in the path, the verb behind a colon.

Streams come as server-sent events (``alt=sse``) or as one JSON array; both are metered. Where a
body repeats the model, it must be the path's. Source: ai.google.dev/api/generate-content,
…/embeddings, …/tokens; google.rpc.Status for errors.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from xairouter.dialects.interface import Dialect, Tally, strings_of
from xairouter.dialects.look import MOST_REQUESTS, Look
from xairouter.dialects.named import find_named
from xairouter.dialects.output import bound_change, read_declared
from xairouter.dialects.paths import GEMINI_STREAM_VERB
from xairouter.dialects.peek import (
    MOST_GOVERNED,
    Fields,
    count_field,
    long_name,
    read_object,
    splice,
)
from xairouter.dialects.tokens import first_items
from xairouter.domain.calls import Match, Peek, Refusal, Span, Usage
from xairouter.errors import ErrorCode, ErrorRow

_GOVERNED = (
    "model",
    "generationConfig",
    "generation_config",
    "requests",
    "generateContentRequest",
    "generate_content_request",
)


class _Document(msgspec.Struct):
    usageMetadata: Any = None  # noqa: N815 -- the wire's name
    modelVersion: Any = None  # noqa: N815
    responseId: Any = None  # noqa: N815
    error: Any = None
    candidates: msgspec.Raw = msgspec.Raw()
    promptFeedback: msgspec.Raw = msgspec.Raw()  # noqa: N815
    embedding: msgspec.Raw = msgspec.Raw()
    embeddings: msgspec.Raw = msgspec.Raw()


class _Candidate(msgspec.Struct):
    finishReason: Any = None  # noqa: N815 -- the wire's name


class _Named(msgspec.Struct):
    """A part of a body that names the model again."""

    model: str | None = None


_NAMED = msgspec.json.Decoder(_Named)
_CONFIG = ("generationConfig", "generation_config")
_OUTPUT = ("maxOutputTokens", "max_output_tokens")
_CHOICES = ("candidateCount", "candidate_count")
_TYPES: Mapping[str, Any] = {
    **dict.fromkeys((*_CONFIG, "requests"), msgspec.Raw),
    "generateContentRequest": _Named | None,
    "generate_content_request": _Named | None,
}
_QUERIES = re.compile(rb'"webSearchQueries"\s*:\s*\[((?:\s*"[^"\\]*(?:\\.[^"\\]*)*"\s*,?)*)')
_QUOTES = re.compile(rb'(?<!\\)"')
_LARGE = frozenset({"candidates", "embedding", "embeddings"})
"""Fields that are not kept of a large document as they are."""
_DOCUMENT = msgspec.json.Decoder(_Document)
_CANDIDATES = msgspec.json.Decoder(list[_Candidate])
_UNSAID = ("", "FINISH_REASON_UNSPECIFIED")


def peek(match: Match, body: bytes, look: Look | None = None) -> Peek | Refusal:
    """Model from the path, streaming from the verb, declared output from the configuration."""
    read = read_object(body, _GOVERNED, _TYPES, top=look and look.top)
    if isinstance(read, Refusal):
        return read
    fields, insert_at = read
    model = match.variables["model"]
    refused = long_name(model)
    if refused is not None:
        return refused
    models = _named_models(fields, look and look.parts)
    if isinstance(models, Refusal):
        return models
    for named in models:
        if not isinstance(named, str) or named.removeprefix("models/") != model:
            return Refusal(
                ErrorCode.INVALID_REQUEST,
                "The body names another model than the path does.",
                "model",
            )
    config = _config(body, fields)
    if isinstance(config, Refusal):
        return config
    inside, span = config
    output = read_declared(inside, *_OUTPUT)
    if isinstance(output, Refusal):
        return output
    choices = 1
    for name in _CHOICES:
        value = count_field(inside.get(name, (None,))[0], name)
        if isinstance(value, Refusal):
            return value
        choices = max(choices, value or 1)
    named = look.named if look else find_named("gemini_generate", body)
    if isinstance(named, Refusal):
        return named
    others = [one.removeprefix("models/") for one in named.models]
    return Peek(
        model=model,
        bound_ids=tuple(named.objects),
        other_models=tuple(one for one in others if one != model),
        unlisted=tuple(named.unlisted),
        streams=match.variables["verb"] == GEMINI_STREAM_VERB,
        declared=output[0],
        max_output_tokens=output[1],
        choices=choices,
        insert_at=insert_at,
        config_span=span,
    )


def _config(body: bytes, fields: Fields) -> tuple[Fields, Span | None] | Refusal:
    """The governed fields of the generation configuration, and where it stands."""
    given = [name for name in _CONFIG if name in fields]
    if len(given) > 1:
        return _twice("the generation configuration")
    if not given:
        return {}, None
    start, end = span = fields[given[0]][1]
    if body[start:end] == b"null":
        return {}, span
    if end - start > MOST_GOVERNED:
        return Refusal(ErrorCode.INVALID_REQUEST, f"The field `{given[0]}` is too large.", given[0])
    read = read_object(body[start:end], (*_OUTPUT, *_CHOICES))
    if isinstance(read, Refusal):
        return Refusal(read.code, f"In `{given[0]}`: {read.message}", given[0])
    inside = {
        name: (value, (start + begins, start + ends))
        for name, (value, (begins, ends)) in read[0].items()
    }
    for names in (_OUTPUT, _CHOICES):
        if all(name in inside for name in names):
            return _twice(f"`{names[0]}`")
    return inside, span


def _twice(what: str) -> Refusal:
    return Refusal(ErrorCode.INVALID_REQUEST, f"The body gives {what} twice.", "generationConfig")


def _named_models(fields: Fields, parts: list[bytes] | None) -> list[object] | Refusal:
    """Every model that the body names besides the path: its own, and those of its parts, which are
    given where they are known."""
    named = [fields["model"][0]] if "model" in fields else []
    requests = bytes(fields["requests"][0]) if "requests" in fields else b"null"  # type: ignore[call-overload]
    items = first_items(requests, MOST_REQUESTS + 1) if parts is None else parts
    if len(items) > MOST_REQUESTS:
        return Refusal(
            ErrorCode.INVALID_REQUEST,
            f"The field `requests` has more than {MOST_REQUESTS} items.",
            "requests",
        )
    try:
        holders = [_NAMED.decode(item) for item in items]
        if not items:
            msgspec.json.decode(requests, type=list[msgspec.Raw] | None)
    except (msgspec.MsgspecError, RecursionError):
        return Refusal(
            ErrorCode.INVALID_REQUEST, "The field `requests` cannot be read.", "requests"
        )
    for name in ("generateContentRequest", "generate_content_request"):
        holder = fields[name][0] if name in fields else None
        if isinstance(holder, _Named):
            holders.append(holder)
    return [one for one in (*named, *(holder.model for holder in holders)) if one is not None]


def prepare(
    match: Match,
    peek: Peek,
    body: bytes,
    *,
    model: str | None,
    ask_usage: bool,
    bound: tuple[str, int] | None,
) -> tuple[str, bytes, bool]:
    """The path with the route's model; the same name in the body follows it; the output is bounded
    in the generation configuration where the request does not."""
    if bound is not None:
        body = _bounded(peek, body, bound)
    name = model if model is not None else match.variables["model"]
    variables = {**match.variables, "model": quote(name, safe="/:@")}
    if name != match.variables["model"] and b'"model"' in body:
        asked = re.escape(msgspec.json.encode(match.variables["model"])[1:-1])
        pattern = re.compile(rb'("model"\s*:\s*")(models/)?' + asked + rb'"')
        renamed = msgspec.json.encode(name)[1:-1]
        body = pattern.sub(
            lambda m: m.group(1) + (m.group(2) or b"") + renamed + b'"', body, MOST_REQUESTS + 2
        )
    return match.operation.suffix.format(**variables), body, False


def _bounded(peek: Peek, body: bytes, bound: tuple[str, int]) -> bytes:
    """The body with a bound in its generation configuration, which is made where there is none."""
    if peek.declared:
        # Both spellings of the name are honoured, so the one that is there stays.
        change = bound_change(body, peek.declared, peek.declared[0][0], bound[1], bound[1])
        return splice(body, change) if change else body
    entry = b'"%s":%d' % (bound[0].encode(), bound[1])
    if peek.config_span is None:
        rest = body[peek.insert_at :].lstrip()
        entry = b'"generationConfig":{%s}' % entry + (b"" if rest.startswith(b"}") else b",")
        return splice(body, [((peek.insert_at, peek.insert_at), entry)])
    start, end = peek.config_span
    inside = body[start:end].strip()
    if not inside.startswith(b"{"):
        return splice(body, [((start, end), b"{%s}" % entry)])
    at = body.index(b"{", start) + 1
    comma = b"" if inside[1:].lstrip().startswith(b"}") else b","
    return splice(body, [((at, at), entry + comma)])


def _queries(document: bytes) -> int:
    """How many searches a reply says that it made."""
    return sum(len(_QUOTES.findall(found)) // 2 for found in _QUERIES.findall(document))


def absorb(tally: Tally, document: bytes) -> None:
    """Read one GenerateContentResponse, embedding reply or error status. Each part of a stream
    states usage; final is that of the part in which the last candidate ends, of a blocked prompt and of
    embeddings."""
    read = _DOCUMENT.decode(document)
    tally.add_usage(read.usageMetadata)
    if b'"finishReason"' in document:
        tally.finished += _finished(read.candidates)
        tally.has_ended = tally.has_ended or 0 < tally.choices <= tally.finished
    if b"webSearchQueries" in document:
        tally.add_usage({"web_search_calls": _queries(document)})
    has_no_more = (
        b'"blockReason"' in bytes(read.promptFeedback) or read.embedding or read.embeddings
    )
    if read.usageMetadata and (has_no_more or tally.finished >= tally.choices):
        tally.is_final = True
        tally.shows_use = True
    tally.note(object_id=read.responseId, model=read.modelVersion)
    if read.error:
        tally.has_failed = True


def _finished(candidates: msgspec.Raw) -> int:
    """How many say why they ended, at their own level: inside, a model may write such a field."""
    try:
        reasons = [one.finishReason for one in _CANDIDATES.decode(candidates)]
    except msgspec.MsgspecError:
        return 0  # None, or not as they are documented.
    return sum(isinstance(reason, str) and reason not in _UNSAID for reason in reasons)


_USED = frozenset(
    {
        "promptTokenCount",
        "toolUsePromptTokenCount",
        "candidatesTokenCount",
        "thoughtsTokenCount",
        "cachedContentTokenCount",
        "totalTokenCount",
        "serviceTier",
    }
)


def total(tally: Tally) -> Usage:
    """input = prompt + tool-use prompt, output = candidates + thoughts, as Gemini counts them."""
    prompt = tally.count("promptTokenCount")
    tools = tally.count("toolUsePromptTokenCount")
    candidates = tally.count("candidatesTokenCount")
    thoughts = tally.count("thoughtsTokenCount")
    tier = tally.raw.get("serviceTier")
    detail = dict(tally.detail(_USED))
    if tools:
        detail["toolUsePromptTokenCount"] = tools
    return Usage(
        input_tokens=_sum(prompt, tools),
        cached_input_tokens=tally.count("cachedContentTokenCount"),
        output_tokens=_sum(candidates, thoughts),
        reasoning_tokens=thoughts,
        detail=detail,
        model=tally.model,
        object_id=tally.object_id,
        service_tier=tier if isinstance(tier, str) else None,
    )


def _sum(*parts: int | None) -> int | None:
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


# google.rpc.Code, by HTTP status: cloud.google.com/apis/design/errors
_WORDS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def refuse(row: ErrorRow, refusal: Refusal, call_id: str) -> bytes:
    """``{"error": {"code", "message", "status", "details": [ErrorInfo]}}``."""
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": row.code,
        "domain": "xairouter",
        "metadata": {"call_id": call_id},
    }
    error = {
        "code": row.status,
        "message": refusal.message,
        "status": _WORDS.get(row.status, "UNKNOWN"),
        "details": [info],
    }
    return msgspec.json.encode({"error": error})


def refuse_midstream(row: ErrorRow, refusal: Refusal, call_id: str) -> bytes:
    """One ``data:`` event with the error status."""
    return b"data: " + refuse(row, refusal, call_id) + b"\n\n"


GEMINI_GENERATE = Dialect(
    name="gemini_generate",
    peek=peek,
    prepare=prepare,
    absorb=absorb,
    total=total,
    marks=(b'"usageMetadata"', b'"error"', b'"finishReason"'),
    end_marks=(),
    reply_fields=frozenset(_Document.__struct_fields__) - _LARGE,
    reply_holders=frozenset({"groundingMetadata"}),
    reply_lists={"candidates": frozenset({"finishReason", "webSearchQueries"})},
    refuse=refuse,
    refuse_midstream=refuse_midstream,
    text=strings_of("text"),
)
