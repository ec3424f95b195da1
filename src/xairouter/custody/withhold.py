"""What a provider's error may not say: the secret it was sent, however it is written."""

import binascii
import re
import zlib
from collections.abc import Iterator

from xairouter.domain.steps import Steps, at_once
from xairouter.domain.unshown import Unshown

SEARCHED_BYTES = 64 * 1024
FRAGMENT = 12
"""So many characters of a secret's random part in a row give it away."""
SHORTEST_SECRET = 16
"""What is shorter stands in ordinary text by accident (``-``, ``x``, ``none``): not searched for."""
_BLOCK = FRAGMENT // 2
_LAYERS = 3
_MOST_CHARACTERS = 16 * SEARCHED_BYTES
_SEARCHED_AT_ONCE = 4 * SEARCHED_BYTES
"""Characters that are gone through in one step; more often where there is more to look for."""

_HEX_ESCAPE = re.compile(
    r"(?:%u00|%|(?<!\\)\\++(?:u00|x|U000000|u\{0*(?=[0-9a-fA-F]{2}\}))"
    r"|&#[xX]0*(?=[0-9a-fA-F]{2}(?![0-9a-fA-F])))([0-9a-fA-F]{2})[};]?"
)
_DECIMAL_ESCAPE = re.compile(r"&#0*([0-9]{2,3})(?![0-9]);?")
_DIGITS = "0123456789abcdefABCDEF"
_CHARACTERS = {a + b: chr(int(a + b, 16)) for a in _DIGITS for b in _DIGITS}
_DECIMALS = {f"{code:0{size}}": chr(code) for size in (2, 3) for code in range(10**size)}
_NAMED = {
    "\0": "",
    "\\/": "/",
    "\\n": "\n",
    "\\r": "\r",
    "&lowbar;": "_",
    "&UnderBar;": "_",
    "&hyphen;": "-",
    "&dash;": "-",
    "&plus;": "+",
    "&sol;": "/",
    "&equals;": "=",
    "&period;": ".",
    "&colon;": ":",
}
_BASE64_RUN = re.compile(r"[A-Za-z0-9+/_-]{12,}(?:\r?\n[A-Za-z0-9+/_-]+)*")
_HEX_RUN = re.compile(r"[0-9a-fA-F]{12,}")
_FROM_URL = str.maketrans("-_", "+/", "\r\n")


def is_too_short(length: int) -> bool:
    """Whether a secret of this length is not searched for; there is nothing to find of an empty
    one."""
    return 0 < length < SHORTEST_SECRET


class Search(Unshown):
    """Looks for one secret, whatever the case of its letters. Hardly any reply holds even a piece of
    it, so pieces are looked for first: each fragment has one whole block of half its length in it."""

    __slots__ = ("_blocks", "_hints", "_random")

    def __init__(self, secret: str) -> None:
        self._hints: list[str] = []
        self._blocks: list[str] = []
        self._random = ""
        if len(secret) < SHORTEST_SECRET:
            return
        random = self._random = _random_part(secret).lower()
        raw = secret.encode()
        self._blocks = [
            random[at : at + _BLOCK] for at in range(0, len(random) - _BLOCK + 1, _BLOCK)
        ]
        encoded = binascii.b2a_base64(raw, newline=False)[:_BLOCK]
        self._hints = [*self._blocks, raw.hex()[: 2 * _BLOCK], encoded.decode().lower()]

    def is_quick(self, text: str) -> bool:
        """Whether a header of this length is searched in one step."""
        return len(text) * len(self._hints) <= _SEARCHED_AT_ONCE

    def finds_in_header(self, text: str) -> bool:
        """Whether a header holds the secret: a fragment as it is, or the beginning of it in
        hexadecimal or base64. Every reply's headers are searched, so this is quick."""
        has_hint = any(map(text.lower().__contains__, self._hints))
        return has_hint and at_once(self._is_spelled(text))

    def finds_in_header_in_steps(self, text: str) -> Steps[bool]:
        """The same, however much there is to look for and through."""
        lower, searched = text.lower(), 0
        for hint in self._hints:
            if hint in lower:
                return (yield from self._is_spelled(text))
            searched += len(lower)
            if searched >= _SEARCHED_AT_ONCE:
                searched = 0
                yield
        return False

    def _is_spelled(self, text: str) -> Steps[bool]:
        for spelling in _spellings(text):
            if (yield from self._is_in(spelling)):
                return True
            yield
        return False

    def finds_in_steps(self, body: bytes) -> Steps[bool]:
        """Whether a fragment of the secret stands in the body under any of the layers of
        ``_spellings``; also True where they are more than are looked at. In short steps: a provider
        may write what takes long to read."""
        if not self._blocks:
            return False
        size = 0
        for spelling in _spellings(body.decode("latin-1")):
            size += len(spelling)
            if size > _MOST_CHARACTERS or (yield from self._is_in(spelling)):
                return True
            yield
        return False

    def _is_in(self, text: str) -> Steps[bool]:
        text = text.lower()
        random, searched = self._random, 0
        for number, block in enumerate(self._blocks):
            searched += len(text)
            if block in text:
                at = number * _BLOCK
                starts = range(max(0, at - _BLOCK), min(at, len(random) - FRAGMENT) + 1)
                if any(random[start : start + FRAGMENT] in text for start in starts):
                    return True
                searched += len(text) * len(starts)
            if searched >= _SEARCHED_AT_ONCE:
                searched = 0
                yield
        return False


def _random_part(secret: str) -> str:
    """What follows the provider's own mark (``sk-ant-api03-``, ``gsk_``): marks are no secret. The
    whole of it where too little follows."""
    head = secret[:16]
    cut = max(head.rfind("-"), head.rfind("_")) + 1
    return secret[cut:] if len(secret) - cut >= FRAGMENT else secret


def _spellings(text: str) -> Iterator[str]:
    """A text, and what it says under layer after layer of encoding: escapes of JSON, URLs and HTML,
    UTF-16, base64 and hexadecimal at any offset; an empty one after each part of the way there. Work
    grows with the text's length alone."""
    texts = [(text, _LAYERS)]
    for one, left in texts:
        yield one
        plain = one
        for _ in range(_LAYERS):
            further = plain
            for part in _unescaped(plain):
                further = part
                yield ""
            if further == plain:
                break
            plain = further
            yield plain
        if left > 1:
            for decoded in _decoded(plain):
                texts.append((decoded, left - 1))
                yield ""


def _unescaped(text: str) -> Iterator[str]:
    """A text without one layer of escapes, in parts of the work: the last one is the result."""
    if "%" in text or "\\" in text or "&#" in text:
        for escape, said in ((_HEX_ESCAPE, _CHARACTERS), (_DECIMAL_ESCAPE, _DECIMALS)):
            parts = escape.split(text)
            yield text
            parts[1::2] = [said[code] for code in parts[1::2]]
            text = "".join(parts)
            yield text
    for name, character in _NAMED.items():
        text = text.replace(name, character)
    yield text


def _decoded(text: str) -> Iterator[str]:
    """What the runs of base64 and of hexadecimal digits in a text say, at every offset."""
    # What ends in the middle of a group is filled up, so that none of it is lost.
    runs = "".join(run + "AAA" for run in _BASE64_RUN.findall(text)).translate(_FROM_URL)
    for offset in range(4):
        whole = (len(runs) - offset) // 4 * 4
        if whole >= FRAGMENT:
            decoded = binascii.a2b_base64(runs[offset : offset + whole])
            yield decoded.decode("latin-1")
    runs = "".join(_HEX_RUN.findall(text))
    for offset in range(2):
        whole = (len(runs) - offset) // 2 * 2
        if whole >= FRAGMENT:
            yield binascii.unhexlify(runs[offset : offset + whole]).decode("latin-1")


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
