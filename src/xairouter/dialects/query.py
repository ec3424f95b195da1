"""Which arguments of a query string reach a provider: one table by operation.

A query can change what a reply says of itself: Google's ``fields`` leaves the usage out. So an
argument passes where the provider's documentation or an official client has it and it does no
such thing; it passes byte for byte, as it was checked. ``key``, a credential, is dropped. Every
other one is refused: dropped in silence, it would leave the client with a reply that it did not
ask for.
"""

import re
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from xairouter.domain.calls import OperationKind, Refusal
from xairouter.errors import ErrorCode

_FLAG = re.compile(r"true|false|True|False|1|0")
_NUMBER = re.compile(r"[0-9]{1,12}")
_WORD = re.compile(r"[A-Za-z0-9_.:=~-]{1,256}")
"""Ids, cursors and versions. Nothing in it separates arguments, for any server."""
_ORDER = re.compile(r"asc|desc")
_ALT = re.compile(r"json|sse")
"""Not ``proto`` and ``media``, which the meter does not read, nor ``json;enum-encoding=int``, whose
numbers would hide modalities and tiers, which have prices of their own."""

_AZURE = {"api-version": _WORD}
_RESPONSES = {**_AZURE, "beta": _FLAG}
"""OpenAI's own clients add ``beta=true`` to the operations of ``client.beta.responses``."""
_INCLUDE = {"include": _WORD, "include[]": _WORD}
_ANTHROPIC = {"beta": _FLAG}
_GEMINI = {"alt": _ALT, "$alt": _ALT, "prettyPrint": _FLAG, "$prettyPrint": _FLAG}

ARGUMENTS: Mapping[OperationKind, Mapping[str, re.Pattern[str]]] = {
    OperationKind.CHAT: _AZURE,
    OperationKind.COMPLETIONS: _AZURE,
    OperationKind.EMBEDDINGS: _AZURE,
    OperationKind.RESPONSES: _RESPONSES,
    OperationKind.RESPONSES_INPUT_TOKENS: _RESPONSES,
    OperationKind.RESPONSES_COMPACT: _RESPONSES,
    OperationKind.RESPONSES_GET: {
        **_RESPONSES,
        **_INCLUDE,
        "include_obfuscation": _FLAG,
        "starting_after": _NUMBER,
        "stream": _FLAG,
    },
    OperationKind.RESPONSES_DELETE: _RESPONSES,
    OperationKind.RESPONSES_CANCEL: _RESPONSES,
    OperationKind.RESPONSES_INPUT_ITEMS: {
        **_RESPONSES,
        **_INCLUDE,
        "after": _WORD,
        "before": _WORD,
        "limit": _NUMBER,
        "order": _ORDER,
    },
    OperationKind.MESSAGES: _ANTHROPIC,
    OperationKind.MESSAGES_COUNT_TOKENS: _ANTHROPIC,
    OperationKind.GEMINI_GENERATE: _GEMINI,
    OperationKind.GEMINI_COUNT_TOKENS: _GEMINI,
}
"""What an argument's name stands for, decoded, and what its value looks like. Sources: the API
references of OpenAI, Azure OpenAI and Anthropic, Google's system parameters
(docs.cloud.google.com/apis/docs/system-parameters), and the official clients."""
_SHOWN = re.compile(r"[A-Za-z0-9_.$\[\]-]{1,32}")
"""Names that a message may repeat: a key of ours is longer."""


def query_for_provider(kind: OperationKind, query: bytes) -> str | Refusal:
    """The query without ``key``, otherwise as it came; or why it is refused."""
    allowed, kept = ARGUMENTS[kind], []
    said: dict[str, str] = {}
    for part in query.split(b"&"):
        if not part:
            continue
        name, value = map(_decoded, part.partition(b"=")[::2])
        if name == "key":
            continue
        pattern = allowed.get(name)
        if pattern is None:
            return _refusal(name, "is none that this operation passes on; leave it out")
        if not pattern.fullmatch(value):
            return _refusal(name, "has a value that is not passed on")
        if name not in _INCLUDE and said.setdefault(name.lstrip("$"), value) != value:
            return _refusal(name, "comes twice, with different values")
        kept.append(part)
    return b"&".join(kept).decode("ascii")


def _decoded(text: bytes) -> str:
    return unquote_to_bytes(text.replace(b"+", b" ")).decode("latin-1")


def _refusal(name: str, why: str) -> Refusal:
    shown = name if _SHOWN.fullmatch(name) else None
    named = f"The query's argument “{shown}”" if shown else "An argument of the query"
    return Refusal(ErrorCode.INVALID_REQUEST, f"{named} {why}.", shown)
