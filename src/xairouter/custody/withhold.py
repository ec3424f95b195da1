"""What a provider's error may not say: the secret it was sent, in any of the usual disguises."""

import base64
import json
import zlib
from urllib.parse import quote, quote_plus

SEARCHED_BYTES = 64 * 1024
FRAGMENT = 12


def needles(secret: str) -> frozenset[bytes]:
    """The secret, its escaped forms, and every 12-character fragment of its random part."""
    if not secret:
        return frozenset()
    raw = secret.encode("utf-8")
    found = {
        raw,
        raw.hex().encode(),
        raw.hex().upper().encode(),
        base64.b64encode(raw).rstrip(b"="),
        base64.urlsafe_b64encode(raw).rstrip(b"="),
        quote(secret, safe="").encode(),
        quote_plus(secret).encode(),
        json.dumps(secret)[1:-1].encode(),
    }
    random = _random_part(secret)
    found.update(random[at : at + FRAGMENT].encode() for at in range(len(random) - FRAGMENT + 1))
    return frozenset(found)


def _random_part(secret: str) -> str:
    """What follows the provider's own mark (``sk-ant-api03-``, ``gsk_``): marks are no secret."""
    head = secret[:16]
    cut = max(head.rfind("-"), head.rfind("_")) + 1
    return secret[cut:]


def quotes(data: bytes, secret_needles: frozenset[bytes]) -> bool:
    """Whether any disguise of the secret stands in the data."""
    return any(needle in data for needle in secret_needles)


def readable(body: bytes, encoding: str) -> bytes | None:
    """An error body without its compression, at most ``SEARCHED_BYTES``; None if unreadable."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip"):
        return None
    try:
        return zlib.decompressobj(31).decompress(body, SEARCHED_BYTES)
    except zlib.error:
        return None
