"""What a provider's error may not say: the secret it was sent, in any of the usual disguises."""

import base64
import json
import zlib
from urllib.parse import quote, quote_plus

from xairouter.domain.unshown import Unshown

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


class Search(Unshown):
    """Looks for one secret in what its provider says. Hardly any reply holds even a piece of it, so
    pieces are looked for first: each 12-character fragment has one whole block of six in it."""

    __slots__ = ("_hints", "_secret")

    def __init__(self, secret: str) -> None:
        self._secret = secret
        if not secret:
            self._hints: list[bytes] = []
            return
        raw, random = secret.encode("utf-8"), _random_part(secret)
        blocks = range(0, len(random) - _BLOCK + 1, _BLOCK)
        encoded = base64.b64encode(raw).rstrip(b"=")
        self._hints = [random[at : at + _BLOCK].encode() for at in blocks]
        self._hints += (raw.hex().encode(), raw.hex().upper().encode(), encoded)
        if not secret.replace("-", "").replace("_", "").isalnum() or len(random) < FRAGMENT:
            # It may be written in further ways, or has too little of chance to be cut up.
            self._hints += needles(secret)
        elif b"+" in encoded or b"/" in encoded:
            self._hints.append(encoded.translate(_URL_SAFE))

    def finds(self, data: bytes) -> bool:
        """Whether any disguise of the secret stands in the data."""
        return any(hint in data for hint in self._hints) and quotes(data, needles(self._secret))


_BLOCK = FRAGMENT // 2
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


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
