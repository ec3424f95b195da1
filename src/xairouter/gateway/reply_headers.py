"""Which headers of a provider's reply reach the client: an allow-list of names and content types.

A tenant chooses its provider, and browsers show replies on the console's own origin. So nothing
passes that a browser or a proxy in front acts on; what official SDKs and agents read does. The
providers' rows add names of their own, which pass whichever provider says them: a custom endpoint
may stand before any provider.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from xairouter.providers.table import CUSTOM, PROVIDERS

Sent = tuple[bytes, bytes]

OUR_HEADERS = (
    "x-xairouter-call-id",
    "x-request-id",
    "x-xairouter-origin",
    "x-xairouter-error",
    "x-xairouter-provider-key",
    "x-xairouter-attempts",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
)
"""What the router itself says; a provider's header of such a name never passes."""
REPLY_HEADERS: Mapping[str, str] = {
    "content-length": "how long the body is",
    "content-encoding": "how the body is compressed, where the client asked for that",
    "retry-after": "when to try again; every SDK waits for it",
    "retry-after-ms": "the same in milliseconds; OpenAI's and Anthropic's SDKs prefer it",
    "x-should-retry": "whether to try again; OpenAI's and Anthropic's SDKs obey it",
    "request-id": "Anthropic's id of the request; its SDK shows it in errors",
    "server-timing": "how long the provider worked",
    "openai-*": "what OpenAI says of model, version and time; its SDK waits `openai-poll-after-ms`",
    "anthropic-*": "what Anthropic says of the request",
}
"""Names that pass from every provider, each with who needs it; `*` stands for any ending."""
PRIVATE_WORDS = frozenset(
    {
        "account",
        "balance",
        "billing",
        "credit",
        "credits",
        "limit",
        "limits",
        "organisation",
        "organization",
        "percent",
        "plan",
        "primary",
        "project",
        "quota",
        "ratelimit",
        "reset",
        "secondary",
        "team",
        "user",
        "workspace",
    }
)
"""A name that passes only by its beginning does not if one of these words stands in it: it says
whose provider account answers, or how much of it is used."""

_LISTED = (
    *REPLY_HEADERS,
    *sorted({name for row in (*PROVIDERS.values(), CUSTOM) for name in row.reply_headers}),
)
_NAMES = {name: name.encode("ascii") for name in _LISTED if not name.endswith("*")}
_BEGINNINGS = tuple(name[:-1] for name in _LISTED if name.endswith("*"))
EXPOSED_HEADERS = (*OUR_HEADERS, *_NAMES)
"""What a script of an allowed origin may read."""

_NAME = re.compile(r"[a-z0-9-]{1,64}\Z")
# What the server would refuse to send: a hostile provider must not end a reply that way.
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*\Z")
_USUAL_CONNECTION = frozenset({"keep-alive", "close", "Keep-Alive", "Close"})


def returned(headers: Sequence[tuple[str, str]]) -> list[Sent]:
    """A provider's reply headers that reach the client. Names are in lower case."""
    said = dict(headers)
    if len(said) != len(headers) or said.get("connection", "close") not in _USUAL_CONNECTION:
        headers = _end_to_end(headers)
        said = dict(headers)
    found = list(content_type_of(said.get("content-type", "")))
    for name, value in headers:
        sent = _NAMES.get(name)
        if sent is None:
            if not name.startswith(_BEGINNINGS):
                continue
            sent = _by_beginning(name[:65])
            if sent is None:
                continue
        if _VALUE.match(value):
            found.append((sent, value.encode("latin-1")))
    return found


def _end_to_end(headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The headers without those that ``Connection`` names (RFC 9110 §7.6.1), and with one content
    type: the first, which is the one that is metered."""
    named = {
        part.strip().lower()
        for name, value in headers
        if name == "connection"
        for part in value.split(",")
    }
    kept: list[tuple[str, str]] = []
    has_type = False
    for name, value in headers:
        if name in named or (has_type and name == "content-type"):
            continue
        has_type = has_type or name == "content-type"
        kept.append((name, value))
    return kept


@lru_cache(maxsize=256)
def _by_beginning(name: str) -> bytes | None:
    """The name as it is sent if nothing in it is private, else None."""
    passes = _NAME.match(name) and PRIVATE_WORDS.isdisjoint(name.split("-"))
    return name.encode("ascii") if passes else None


CONTENT_TYPES = (
    "application/json",
    "application/problem+json",
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/x-jsonlines",
    "application/json-seq",
    "text/event-stream",
    "text/plain",
    "application/octet-stream",
    "application/pdf",
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "image/avif",
    "image/bmp",
    "image/heic",
    "image/heif",
    "image/tiff",
)
"""Content types that pass, beside ``audio/…``, ``video/…`` and ``application/…+json``. Not among
them, on purpose: HTML, XML and what is built on it (SVG), scripts, style sheets, multipart."""
_KNOWN_TYPES = frozenset(CONTENT_TYPES)
_KINDS = re.compile(r"(?:(?:audio|video)/[a-z0-9._-]+|application/[a-z0-9._-]+\+json)\Z")
_ESSENCE = re.compile(r"[ \t]*([A-Za-z0-9.+_-]+/[A-Za-z0-9.+_-]+)[ \t]*(?:;|\Z)")
_PLAIN_PARAMETERS = re.compile(
    r"[^;,]*(?:;[ \t]*[A-Za-z0-9_-]+=(?:[A-Za-z0-9_.:+-]+|\"[A-Za-z0-9_.:+ -]*\")[ \t]*)*\Z"
)
_DOWNLOAD = (
    (b"content-type", b"application/octet-stream"),
    (b"content-disposition", b"attachment"),
)
_UNNAMED = ((b"content-type", b"application/json"),)
_LONGEST_TYPE = 128


def content_type_of(value: str) -> tuple[Sent, ...]:
    """The content type to send for what the provider said, "" where it said nothing.

    An allowed one passes as it is; where its parameters are anything but plain, without them. What
    has no type is JSON, as which SDKs read it. Everything else is a download.
    """
    return _content_type_of(value) if len(value) <= _LONGEST_TYPE else _sent_type(value)


def _sent_type(value: str) -> tuple[Sent, ...]:
    if not value.strip(" \t"):
        return _UNNAMED
    found = _ESSENCE.match(value)
    essence = found[1].lower() if found else ""
    if essence not in _KNOWN_TYPES and not _KINDS.match(essence):
        return _DOWNLOAD
    sent = value.strip(" \t") if _PLAIN_PARAMETERS.match(value) else essence
    return ((b"content-type", sent.encode("ascii")),)


_content_type_of = lru_cache(maxsize=256)(_sent_type)
