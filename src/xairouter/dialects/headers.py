"""Which headers cross the router, in both directions."""

import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote_plus

_FORWARDED = (
    "accept",
    "anthropic-version",
    "anthropic-beta",
    "openai-beta",
    "idempotency-key",
)

_DROPPED = frozenset(
    {
        # Hop by hop, RFC 9110 §7.6.1.
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        # Ours, or the server's own.
        "date",
        "server",
        "x-request-id",
        "via",
        # State, routes and identities of the provider that are not the client's.
        "set-cookie",
        "set-cookie2",
        "alt-svc",
        "location",
        "www-authenticate",
        "refresh",
        "openai-organization",
        "openai-project",
        "anthropic-organization-id",
        "x-organization-id",
        "x-project-id",
        "strict-transport-security",
        "nel",
        "report-to",
        "expect-ct",
        "server-timing",
        "content-security-policy",
        "clear-site-data",
    }
)
_DROPPED_PREFIXES = (
    "x-ratelimit-",
    "ratelimit",
    "x-rate-limit-",
    "anthropic-ratelimit-",
    "cf-",
    "x-xairouter-",
    "x-goog-",
    "access-control-",
    "x-envoy-",
    "x-amz-",
)


# What the server would refuse to send: a hostile provider must not end a reply that way.
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+\Z")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*\Z")


def forwarded(
    headers: Mapping[bytes, bytes],
    *,
    extra: Iterable[str],
    defaults: Mapping[str, str],
    streams: bool,
    has_body: bool,
) -> tuple[tuple[str, str], ...]:
    """Request headers for a provider: the allow-list, what its row adds, the dialect's defaults.

    Compression is asked for only where the client accepts it and nothing streams, because a
    compressed stream would be held back and could not be spliced.
    """
    chosen = dict(defaults)
    # The body was read as JSON; ``curl -d`` and careless clients call it something else.
    said = headers.get(b"content-type", b"").decode("latin-1")
    is_json = said.partition(";")[0].strip().lower() == "application/json"
    for name in (*_FORWARDED, *extra):
        value = headers.get(name.encode())
        if value is not None:
            chosen[name] = value.decode("latin-1")
    accepts = headers.get(b"accept-encoding", b"").decode("latin-1").lower()
    gzip = (
        not streams
        and "gzip" in accepts
        and any(
            part.partition(";")[0].strip() == "gzip" and part.replace(" ", "")[-4:] != ";q=0"
            for part in accepts.split(",")
        )
    )
    if has_body:
        chosen["content-type"] = said if is_json else "application/json"
    chosen["accept-encoding"] = "gzip" if gzip else "identity"
    return tuple(chosen.items())


def returned(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """A provider's reply headers that reach the client."""
    found = []
    for name, value in headers:
        known = _KNOWN.get(name, _UNSEEN)
        if known is _UNSEEN:
            known = _remember(name)
        if known is not None and _VALUE.match(value):
            found.append((known, value.encode("latin-1")))
    return found


_UNSEEN = b"?"
_KNOWN: dict[str, bytes | None] = {}
_MOST_KNOWN, _LONGEST_KNOWN = 1024, 64


def _remember(name: str) -> bytes | None:
    """The name as it is sent, None where it stays here. Providers say the same few again and again."""
    passes = name not in _DROPPED and not name.startswith(_DROPPED_PREFIXES) and _NAME.match(name)
    sent = name.encode("latin-1") if passes else None
    if len(name) <= _LONGEST_KNOWN:
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        _KNOWN[name] = sent
    return sent


def query_for_provider(query: bytes) -> str:
    """The query string without any ``key`` in it, otherwise as it came."""
    if not query:
        return ""
    kept = [
        part
        for part in query.decode("latin-1").split("&")
        if part and unquote_plus(part.partition("=")[0]) != "key"
    ]
    return "&".join(kept)
