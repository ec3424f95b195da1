"""A request body without its long strings, made in short steps, so that what is left can be read.

Names are short. Of a string that is far longer than any name, the beginning is enough to see that it
is none; where a body is large, data in base64 is left out altogether.
"""

import re
from collections.abc import Mapping

from xairouter.dialects.tokens import STEP, STRING, string_end
from xairouter.domain.steps import Steps

LARGE = 1 << 20
"""Data in base64 is left out of larger bodies."""
MOST_BYTES = 8 << 20
MOST_COMMAS = 40_000
MOST_CONTAINERS = 20_000
_LONG = 1024
_KEPT = 16 * 1024
"""Bytes that are kept of a long string: more than any name's, each of its letters an escape."""
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-"
_AT_ONCE = 1 << 20
_STRING = re.compile(STRING, re.DOTALL)
# What is here as a whole, strings or not.
_WHOLE = re.compile(rb'(?:[^"]++|' + STRING + rb")*+", re.DOTALL)
# The beginning of a string, without a part of an escape at its end.
_HEAD = re.compile(rb'"(?:[^"\\]++|\\u[0-9a-fA-F]{4}|\\[^u])*+', re.DOTALL)


def shortened(body: bytes) -> Steps[bytes | None]:
    """The body, known to be JSON, without what its long strings hold; None where more values or
    bytes are left than are looked at. What strings hold is no value."""
    is_large = len(body) > LARGE
    parts: list[bytes] = []
    commas = containers = size = at = 0
    while at < len(body):
        limit = min(at + STEP, len(body))
        whole = _WHOLE.match(body, at, limit)
        assert whole is not None  # It may be empty.
        part = body[at : whole.end()]
        bare = _STRING.sub(b"", part)
        commas += bare.count(b",")
        containers += bare.count(b"{") + bare.count(b"[")
        parts.append(_without_data(part) if is_large else part)
        at = whole.end()
        if at < limit:  # At a string that does not end within this step.
            end = yield from string_end(body, at + 1)
            parts.append((yield from _head(body, at, end, is_large=is_large)))
            at = end
        size += sum(map(len, parts[-2:]))
        if commas > MOST_COMMAS or containers > MOST_CONTAINERS or size > MOST_BYTES:
            return None
        if at < len(body):
            yield
    return b"".join(parts)


def has_more_outside(document: bytes, most: Mapping[bytes, int]) -> Steps[bool]:
    """Whether one of some marks stands outside of strings more often than so many times."""
    if all(document.count(mark) <= count for mark, count in most.items()):
        return False
    found = dict.fromkeys(most, 0)
    at = 0
    while at < len(document):
        limit = min(at + STEP, len(document))
        whole = _WHOLE.match(document, at, limit)
        assert whole is not None
        bare = _STRING.sub(b"", document[at : whole.end()])
        for mark, count in most.items():
            found[mark] += bare.count(mark)
            if found[mark] > count:
                return True
        at = whole.end()
        if at < limit:
            at = yield from string_end(document, at + 1)
        elif at < len(document):
            yield
    return False


def _without_data(part: bytes) -> bytes:
    """The part with long strings of base64 emptied; no name is as long. What stands between two
    quotes and is no string has brackets, colons or commas, and does not begin like a data URL."""
    pieces = part.split(b'"')
    for index, piece in enumerate(pieces):
        if (
            len(piece) >= _LONG
            and b"\\" not in piece
            and (piece.startswith(b"data:") or not piece.translate(None, _BASE64))
        ):
            pieces[index] = b""
    return b'"'.join(pieces)


def _head(body: bytes, start: int, end: int, *, is_large: bool) -> Steps[bytes]:
    """A string in short, from its quotation mark on: as it is, its beginning, or empty."""
    if is_large and end - start > _LONG and (yield from _is_data(body, start + 1, end - 1)):
        return b'""'
    if end - start <= 2 * _KEPT:
        return body[start:end]
    head = _HEAD.match(body, start, start + _KEPT)
    assert head is not None
    # No half of a character.
    return head.group().decode("utf-8", "ignore").encode() + b'"'


def _is_data(body: bytes, start: int, end: int) -> Steps[bool]:
    if body.find(b"\\", start, end) >= 0:
        return False
    if body.startswith(b"data:", start):
        return True
    for at in range(start, end, _AT_ONCE):
        if body[at : min(end, at + _AT_ONCE)].translate(None, _BASE64):
            return False
        yield
    return True
