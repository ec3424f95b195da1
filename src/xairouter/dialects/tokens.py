"""JSON cut into tokens by patterns: what can be passed over at once is, in C.

All of them are anchored where they are used, or find their next token at once, and none gives back
what it has taken: a byte is looked at once, or twice where a container turns out to hold another.
"""

import re

from xairouter.domain.steps import Steps, at_once

STEP = 8 * 1024
"""Bytes that are looked at without a pause."""
STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
FLAT = rb'(?:[^"\\\[\]{}]++|' + STRING + rb")*+"
LEAF = rb"[\[{]" + FLAT + rb"[\]}]"
# What has no container with another one in it: whole. Brackets that open further ones, all but the
# last of them, or that close; a string that does not end here.
TOKEN = re.compile(
    rb'(?:[^"\\\[\]{}]++|'
    + STRING
    + rb"|"
    + LEAF
    + rb')++|((?:[\[{](?=[\[{]))++)|([\[{])|([\]}]++)|(")',
    re.DOTALL,
)
OPENERS, CLOSE = (1, 2), 3
HOLDS_LEAF = re.compile(FLAT + rb"[\[{]", re.DOTALL)
# A field that is here as a whole, and simple.
FIELD = re.compile(
    rb'[ \t\n\r,]*+"([^"\\]*+)"[ \t\n\r]*+:[ \t\n\r]*+(?:'
    + STRING
    + rb"|"
    + LEAF
    + rb'|[^ \t\n\r",\[\]{}]++(?=[ \t\n\r,}]))',
    re.DOTALL,
)
FLAT_DOCUMENT = re.compile(FLAT + rb"\}", re.DOTALL)
# The rest of a string: to its end, to a backslash whose character is still to come, or open.
REST = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+(?:(")|(\\)|)', re.DOTALL)
MARK = re.compile(rb"[^ \t\n\r,]")
VALUE = re.compile(rb"[^ \t\n\r]")
AFTER_SCALAR = re.compile(rb"[ \t\n\r,\]}]")
ITEM = re.compile(STRING + rb"|" + LEAF + rb'|[^ \t\n\r",\[\]{}]++', re.DOTALL)


_STRING = re.compile(STRING, re.DOTALL)
MOST_STRINGS = 200_000


def structure(document: bytes) -> bytes | None:
    """A document without what its strings hold, so that counts mean what they say; None where the
    strings are too many."""
    if document.count(b'"') > 2 * MOST_STRINGS:
        return None
    return _STRING.sub(b'""', document)


def string_end(data: bytes, at: int) -> Steps[int]:
    """The place behind the end of a string, ``at`` being inside of it, found in steps; the end of
    the data where it has none."""
    while at < len(data):
        rest = REST.match(data, at, at + STEP)
        assert rest is not None
        at = rest.end()
        if rest.lastindex == 1:
            return at
        if rest.lastindex == 2:
            at += 1
        yield
    return len(data)


def first_items(array: bytes, most: int) -> list[bytes]:
    """``items_in_steps`` at once."""
    return at_once(items_in_steps(array, most))


def items_in_steps(array: bytes, most: int) -> Steps[list[bytes]]:
    """The first items of a JSON array, whose syntax is known to be right; none where this is none.

    Where the array is cut off, the last of them may be too.
    """
    found: list[bytes] = []
    begin = VALUE.search(array)
    if begin is None or begin.group() != b"[":
        return found
    at, paused = begin.end(), 0
    while len(found) < most:
        mark = MARK.search(array, at)
        if mark is None or mark.group() == b"]":
            break
        start = mark.start()
        whole = ITEM.match(array, start, start + STEP)
        if whole is not None and whole.end() < start + STEP:
            at = whole.end()
        else:
            at = yield from _item_end(array, start)
        found.append(array[start:at])
        if at - paused > STEP:
            paused = at
            yield
    return found


def _item_end(data: bytes, start: int) -> Steps[int]:
    if data.startswith(b'"', start):
        return (yield from string_end(data, start + 1))
    if data[start] not in b"[{":
        whole = ITEM.match(data, start)
        return len(data) if whole is None else whole.end()
    depth, at = 0, start
    while at < len(data):
        for token in TOKEN.finditer(data, at, at + STEP):
            kind = token.lastindex
            if kind == CLOSE:
                depth -= token.end() - token.start()
                if depth <= 0:
                    return token.end() + depth
            elif kind in OPENERS:
                depth += token.end() - token.start()
            elif kind is not None:
                at = yield from string_end(data, token.end())
                break
        else:
            at += STEP
        yield
    return len(data)
