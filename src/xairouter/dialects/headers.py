"""Which headers of a request reach a provider."""

from collections.abc import Mapping
from functools import cache, lru_cache

JSON = "application/json"
_ACCEPTED = frozenset({JSON, "text/event-stream", "application/*", "text/*", "*/*"})
_FORWARDED = (
    "anthropic-version",
    "anthropic-beta",
    "openai-beta",
)
_IDEMPOTENCY_KEY, _LONGEST_IDEMPOTENCY_KEY = b"idempotency-key", 200


def forwarded(
    headers: Mapping[bytes, bytes],
    account_id: str,
    *,
    extra: frozenset[str],
    defaults: Mapping[str, str],
    streams: bool,
    has_body: bool,
) -> tuple[tuple[str, str], ...]:
    """Request headers for a provider: the allow-list, what its row adds, the dialect's defaults. What
    a body and a reply may be is what the router reads: JSON, and event streams. A client's
    idempotency key is its account's: all accounts share the provider's credential, and one would get
    what another's request was answered."""
    chosen = dict(defaults)
    for sent, name in _allowed(extra):
        if sent in headers:
            chosen[name] = headers[sent].decode("latin-1")
    idempotency_key = headers.get(_IDEMPOTENCY_KEY, b"")
    if 0 < len(idempotency_key) <= _LONGEST_IDEMPOTENCY_KEY:
        chosen["idempotency-key"] = f"{account_id}-{idempotency_key.decode('latin-1')}"
    accept = headers.get(b"accept")
    if accept is not None and _is_readable(accept):
        chosen["accept"] = accept.decode("latin-1")
    if has_body:
        # As it was read, whatever the client calls it: with another charset the provider might read
        # other fields in the same bytes.
        chosen["content-type"] = JSON
    chosen["accept-encoding"] = "gzip" if asks_gzip(headers, streams=streams) else "identity"
    return tuple(chosen.items())


@cache
def _allowed(extra: frozenset[str]) -> tuple[tuple[bytes, str], ...]:
    """The allow-list and what a provider's row adds: each name as it is sent, and as text."""
    return tuple((name.encode(), name) for name in (*_FORWARDED, *sorted(extra)))


@lru_cache(64)
def _is_readable(accept: bytes) -> bool:
    """Whether everything that the client accepts is something that the router can read."""
    parts = accept.decode("latin-1").lower().split(",")
    return all(part.partition(";")[0].strip() in _ACCEPTED for part in parts)


def asks_gzip(headers: Mapping[bytes, bytes], *, streams: bool) -> bool:
    """Whether compression is asked for: only where the client accepts it and nothing streams,
    because a compressed stream would be held back and could not be spliced."""
    accepts = headers.get(b"accept-encoding", b"").decode("latin-1").lower()
    return (
        not streams
        and "gzip" in accepts
        and any(
            part.partition(";")[0].strip() == "gzip" and part.replace(" ", "")[-4:] != ";q=0"
            for part in accepts.split(",")
        )
    )
