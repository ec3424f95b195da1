"""Request lines: from method and raw path to an operation of the path table.

Rules see the canonical path: decoded once, ``/v1/…`` for OpenAI and Anthropic and
``/v1beta/models/…`` for Gemini, whatever prefix the client used. Empty and dot segments, and
encoded slashes outside a model id, match nothing.
"""

import re
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from xairouter.domain.calls import Match, Operation

OPERATIONS: tuple[Operation, ...] = (
    Operation("chat", "openai_chat", "POST", "/chat/completions"),
    Operation("completions", "openai_completions", "POST", "/completions"),
    Operation("embeddings", "openai_embeddings", "POST", "/embeddings"),
    Operation("responses", "openai_responses", "POST", "/responses", makes_object=True),
    Operation(
        "responses.input_tokens",
        "openai_responses",
        "POST",
        "/responses/input_tokens",
        metered=False,
    ),
    Operation("responses.compact", "openai_responses", "POST", "/responses/compact"),
    Operation(
        "responses.get",
        "openai_responses",
        "GET",
        "/responses/{id}",
        needs_model=False,
        metered=False,
    ),
    Operation(
        "responses.delete",
        "openai_responses",
        "DELETE",
        "/responses/{id}",
        needs_model=False,
        metered=False,
    ),
    Operation(
        "responses.cancel",
        "openai_responses",
        "POST",
        "/responses/{id}/cancel",
        needs_model=False,
        metered=False,
    ),
    Operation(
        "responses.input_items",
        "openai_responses",
        "GET",
        "/responses/{id}/input_items",
        needs_model=False,
        metered=False,
    ),
    Operation("messages", "anthropic_messages", "POST", "/v1/messages"),
    Operation(
        "messages.count_tokens",
        "anthropic_messages",
        "POST",
        "/v1/messages/count_tokens",
        metered=False,
    ),
    Operation("gemini.generate", "gemini_generate", "POST", "/{version}/models/{model}:{verb}"),
    Operation(
        "gemini.count_tokens",
        "gemini_generate",
        "POST",
        "/{version}/models/{model}:{verb}",
        metered=False,
    ),
    # Ours: answered by the router itself.
    Operation("models.list", "models", "GET", "", needs_model=False, metered=False),
    Operation("models.get", "models", "GET", "", needs_model=False, metered=False),
)
_BY_NAME = {operation.name: operation for operation in OPERATIONS}

GEMINI_VERBS = {
    "generateContent": "gemini.generate",
    "streamGenerateContent": "gemini.generate",
    "countTokens": "gemini.count_tokens",
    "embedContent": "gemini.generate",
    "batchEmbedContents": "gemini.generate",
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


_FIXED = {
    ("POST", path): _BY_NAME[name]
    for name, path in (
        ("chat", "/v1/chat/completions"),
        ("completions", "/v1/completions"),
        ("embeddings", "/v1/embeddings"),
        ("responses", "/v1/responses"),
        ("responses.input_tokens", "/v1/responses/input_tokens"),
        ("responses.compact", "/v1/responses/compact"),
        ("messages", "/v1/messages"),
        ("messages.count_tokens", "/v1/messages/count_tokens"),
    )
}
_RESPONSE = re.compile(r"/v1/responses/([A-Za-z0-9_\-]{1,128})(?:/(cancel|input_items))?\Z")
_RESPONSE_VERBS = {
    ("GET", None): "responses.get",
    ("DELETE", None): "responses.delete",
    ("POST", "cancel"): "responses.cancel",
    ("GET", "input_items"): "responses.input_items",
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
            return Match(_BY_NAME["models.list"], f"/{version or 'v1'}/models")
        if not _is_plain("/" + rest):
            return None
        variables = {"id": rest, "version": version or "v1"}
        return Match(_BY_NAME["models.get"], f"/{version or 'v1'}/models/{rest}", variables)
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
