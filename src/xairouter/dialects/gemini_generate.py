"""``gemini_generate``: Gemini's model verbs. The model stands in the path, the verb behind a colon.

Streams come as server-sent events (``alt=sse``) or as one JSON array; both are metered. Where a
body repeats the model, it must be the path's. Source: ai.google.dev/api/generate-content,
…/embeddings, …/tokens; google.rpc.Status for errors.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from xairouter.dialects.interface import Dialect, Tally
from xairouter.dialects.paths import GEMINI_STREAM_VERB
from xairouter.dialects.peek import Fields, count_field, read_object, splice
from xairouter.domain.calls import Match, Peek, Refusal, Usage
from xairouter.errors import ErrorRow

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


class _Named(msgspec.Struct):
    """A part of a body that names the model again."""

    model: Any = None


_TYPES: Mapping[str, Any] = {
    "requests": list[_Named] | None,
    "generateContentRequest": _Named | None,
    "generate_content_request": _Named | None,
}
_DOCUMENT = msgspec.json.Decoder(_Document)


def peek(match: Match, body: bytes) -> Peek | Refusal:
    """Model from the path, streaming from the verb, declared output from the configuration."""
    read = read_object(body, _GOVERNED, _TYPES)
    if isinstance(read, Refusal):
        return read
    fields, insert_at = read
    model = match.variables["model"]
    for named in _named_models(fields):
        if not isinstance(named, str) or named.removeprefix("models/") != model:
            return Refusal(
                "invalid_request", "The body names another model than the path does.", "model"
            )
    config = _config(fields)
    if isinstance(config, Refusal):
        return config
    values = [config[name] for name in ("maxOutputTokens", "max_output_tokens") if name in config]
    if len(values) > 1:
        return Refusal(
            "invalid_request", "The body gives the output limit twice.", "generationConfig"
        )
    declared = count_field(values[0] if values else None, "maxOutputTokens")
    if isinstance(declared, Refusal):
        return declared
    choices = 1
    for name in ("candidateCount", "candidate_count"):
        value = count_field(config.get(name), name)
        if isinstance(value, Refusal):
            return value
        choices = max(choices, value or 1)
    streams = match.variables["verb"] == GEMINI_STREAM_VERB
    spans = [
        fields[name][1] for name in ("generationConfig", "generation_config") if name in fields
    ]
    return Peek(
        model=model,
        streams=streams,
        max_output_tokens=declared,
        choices=choices,
        insert_at=insert_at,
        config_span=spans[0] if spans else None,
    )


def _config(fields: Fields) -> dict[str, object] | Refusal:
    given = [name for name in ("generationConfig", "generation_config") if name in fields]
    if len(given) > 1:
        return Refusal(
            "invalid_request",
            "The body gives the generation configuration twice.",
            "generationConfig",
        )
    config = fields[given[0]][0] if given else None
    if config is None:
        return {}
    if not isinstance(config, dict):
        return Refusal(
            "invalid_request", "The field `generationConfig` must be an object.", "generationConfig"
        )
    return config


def _named_models(fields: Fields) -> Iterator[object]:
    """Every model that the body names besides the path: its own, and those of its parts."""
    holders: list[object] = [_Named(fields["model"][0])] if "model" in fields else []
    requests = fields.get("requests", (None,))[0]
    if isinstance(requests, list):
        holders += requests
    for name in ("generateContentRequest", "generate_content_request"):
        if name in fields:
            holders.append(fields[name][0])
    for holder in holders:
        if isinstance(holder, _Named) and holder.model is not None:
            yield holder.model


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
    variables = {**match.variables, "model": quote(name, safe="/")}
    if name != match.variables["model"] and b'"model"' in body:
        asked = re.escape(msgspec.json.encode(match.variables["model"])[1:-1])
        pattern = re.compile(rb'("model"\s*:\s*")(models/)?' + asked + rb'"')
        renamed = msgspec.json.encode(name)[1:-1]
        body = pattern.sub(lambda m: m.group(1) + (m.group(2) or b"") + renamed + b'"', body)
    return match.operation.suffix.format(**variables), body, False


def _bounded(peek: Peek, body: bytes, bound: tuple[str, int]) -> bytes:
    """The body with a bound in its generation configuration, which is made where there is none."""
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


def absorb(tally: Tally, document: bytes) -> None:
    """Read one GenerateContentResponse, embedding reply or error status."""
    read = _DOCUMENT.decode(document)
    tally.add_usage(read.usageMetadata)
    tally.note(object_id=read.responseId, model=read.modelVersion)
    if read.error:
        tally.error = "upstream_error"


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
    marks=(b'"usageMetadata"', b'"error"'),
    end_marks=(b'"finishReason"',),
    refuse=refuse,
    refuse_midstream=refuse_midstream,
    output_field="maxOutputTokens",
)
