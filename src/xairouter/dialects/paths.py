"""Request lines: from method and raw path to an operation of the path table.

Rules see the canonical path: decoded once, ``/v1/…`` for OpenAI and Anthropic and
``/v1beta/models/…`` for Gemini, whatever prefix the client used. Empty and dot segments, and
encoded slashes outside a model id, match nothing.
"""

import re
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from xairouter.domain.calls import Match, Operation, OperationKind

OPERATIONS: tuple[Operation, ...] = (
    Operation(OperationKind.CHAT, "openai_chat", "POST", "/chat/completions", makes_parts=True),
    Operation(OperationKind.COMPLETIONS, "openai_completions", "POST", "/completions"),
    Operation(OperationKind.EMBEDDINGS, "openai_embeddings", "POST", "/embeddings"),
    Operation(
        OperationKind.RESPONSES,
        "openai_responses",
        "POST",
        "/responses",
        makes_object=True,
        makes_parts=True,
    ),
    Operation(
        OperationKind.RESPONSES_INPUT_TOKENS,
        "openai_responses",
        "POST",
        "/responses/input_tokens",
        metered=False,
    ),
    Operation(OperationKind.RESPONSES_COMPACT, "openai_responses", "POST", "/responses/compact"),
    Operation(
        OperationKind.RESPONSES_GET,
        "openai_responses",
        "GET",
        "/responses/{id}",
        needs_model=False,
        metered=False,
        shows_object=True,
    ),
    Operation(
        OperationKind.RESPONSES_DELETE,
        "openai_responses",
        "DELETE",
        "/responses/{id}",
        needs_model=False,
        metered=False,
        shows_object=True,
    ),
    Operation(
        OperationKind.RESPONSES_CANCEL,
        "openai_responses",
        "POST",
        "/responses/{id}/cancel",
        needs_model=False,
        metered=False,
        shows_object=True,
    ),
    Operation(
        OperationKind.RESPONSES_INPUT_ITEMS,
        "openai_responses",
        "GET",
        "/responses/{id}/input_items",
        needs_model=False,
        metered=False,
    ),
    Operation(
        OperationKind.MESSAGES, "anthropic_messages", "POST", "/v1/messages", makes_parts=True
    ),
    Operation(
        OperationKind.MESSAGES_COUNT_TOKENS,
        "anthropic_messages",
        "POST",
        "/v1/messages/count_tokens",
        metered=False,
    ),
    Operation(
        OperationKind.GEMINI_GENERATE, "gemini_generate", "POST", "/{version}/models/{model}:{verb}"
    ),
    Operation(
        OperationKind.GEMINI_COUNT_TOKENS,
        "gemini_generate",
        "POST",
        "/{version}/models/{model}:{verb}",
        metered=False,
    ),
    # Ours: answered by the router itself.
    Operation(OperationKind.MODELS_LIST, "models", "GET", "", needs_model=False, metered=False),
    Operation(OperationKind.MODELS_GET, "models", "GET", "", needs_model=False, metered=False),
)
_BY_NAME = {operation.name: operation for operation in OPERATIONS}

GEMINI_VERBS = {
    "generateContent": OperationKind.GEMINI_GENERATE,
    "streamGenerateContent": OperationKind.GEMINI_GENERATE,
    "countTokens": OperationKind.GEMINI_COUNT_TOKENS,
    "embedContent": OperationKind.GEMINI_GENERATE,
    "batchEmbedContents": OperationKind.GEMINI_GENERATE,
}
GEMINI_STREAM_VERB = "streamGenerateContent"
_EMBEDDING_VERBS = frozenset({"embedContent", "batchEmbedContents"})


def makes_output(match: Match) -> bool:
    """Whether a reply has output tokens: embeddings and counts have none."""
    return (
        match.operation.metered
        and match.operation.dialect != "openai_embeddings"
        and match.variables.get("verb") not in _EMBEDDING_VERBS
    )


def takes_key_in_query(match: Match) -> bool:
    """Whether ``?key=`` is a credential: on Gemini paths, where Google's clients send it so."""
    return match.path.startswith("/v1beta/")


_FIXED = {
    ("POST", path): _BY_NAME[name]
    for name, path in (
        (OperationKind.CHAT, "/v1/chat/completions"),
        (OperationKind.COMPLETIONS, "/v1/completions"),
        (OperationKind.EMBEDDINGS, "/v1/embeddings"),
        (OperationKind.RESPONSES, "/v1/responses"),
        (OperationKind.RESPONSES_INPUT_TOKENS, "/v1/responses/input_tokens"),
        (OperationKind.RESPONSES_COMPACT, "/v1/responses/compact"),
        (OperationKind.MESSAGES, "/v1/messages"),
        (OperationKind.MESSAGES_COUNT_TOKENS, "/v1/messages/count_tokens"),
    )
}
_RESPONSE = re.compile(r"/v1/responses/([A-Za-z0-9_\-]{1,128})(?:/(cancel|input_items))?\Z")
_RESPONSE_VERBS = {
    ("GET", None): OperationKind.RESPONSES_GET,
    ("DELETE", None): OperationKind.RESPONSES_DELETE,
    ("POST", "cancel"): OperationKind.RESPONSES_CANCEL,
    ("GET", "input_items"): OperationKind.RESPONSES_INPUT_ITEMS,
}
_MODELS = re.compile(r"(?:/(v1|v1beta))?/models(?:/(.+))?\Z", re.DOTALL)
_ENCODED_SLASH = re.compile(rb"%(?:2[fF]|5[cC])")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_BAD_CHARACTER = re.compile(r"[\x00-\x20\x7f\\]")


def find(method: str, raw_path: bytes) -> Match | None:
    """The operation that a request line names, or None (404 ``unknown_path``).

    ``raw_path`` is the path as it stood in the request line, percent-encoded, without the query.
    """
    # Clients ask for a handful of paths; long ones would make what is remembered large.
    return _known(method, raw_path) if len(raw_path) <= 128 else _find(method, raw_path)


def _find(method: str, raw_path: bytes) -> Match | None:
    if _BAD_ESCAPE.search(raw_path):
        return None
    try:
        path = unquote_to_bytes(raw_path).decode("utf-8")
    except UnicodeDecodeError:
        return None
    if _BAD_CHARACTER.search(path):
        return None
    models = _MODELS.match(path)
    if models:
        return _find_model(method, models.group(1), models.group(2))
    if _ENCODED_SLASH.search(raw_path) or not _is_plain(path):
        return None
    canonical = path if path.startswith("/v1/") else "/v1" + path
    fixed = _FIXED.get((method, canonical))
    if fixed:
        return Match(fixed, canonical)
    response = _RESPONSE.match(canonical)
    if response:
        name = _RESPONSE_VERBS.get((method, response.group(2)))
        if name:
            return Match(_BY_NAME[name], canonical, {"id": response.group(1)})
    return None


_known = lru_cache(maxsize=1024)(_find)


def _find_model(method: str, version: str | None, rest: str | None) -> Match | None:
    """``/models``, ``/models/{id}`` and Gemini's ``/models/{model}:{verb}``."""
    if method in ("GET", "HEAD"):
        if rest is None:
            return Match(_BY_NAME[OperationKind.MODELS_LIST], f"/{version or 'v1'}/models")
        if not _is_plain("/" + rest):
            return None
        variables = {"id": rest, "version": version or "v1"}
        return Match(
            _BY_NAME[OperationKind.MODELS_GET], f"/{version or 'v1'}/models/{rest}", variables
        )
    if method != "POST" or rest is None:
        return None
    model, colon, verb = rest.rpartition(":")
    name = GEMINI_VERBS.get(verb)
    if not colon or name is None or not _is_plain("/" + model):
        return None
    variables = {"model": model, "verb": verb, "version": version or "v1beta"}
    return Match(_BY_NAME[name], f"/v1beta/models/{model}:{verb}", variables)


def _is_plain(path: str) -> bool:
    """True if no segment is empty or made of dots, a bypass of rules that match whole segments."""
    return all(part not in ("", ".", "..") for part in path[1:].split("/"))


RULE_PATHS = (*dict.fromkeys(path for _, path in _FIXED), "/v1beta/models", "/v1/models")
"""Canonical paths that a rule may name: whole operations, and what lies below the models."""
