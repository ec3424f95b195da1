"""Large JSON, read as it comes: of a document only the few small fields that matter are kept.

A reply may be an image of 40 MB and still say at its end what was used. The reader keeps no string
that it does not want, looks at each byte once (twice at most where a container has no other in it)
however the bytes are cut, calls itself nowhere, and hands out each document in small: the wanted
fields alone. It checks no more of the syntax than it needs; a document that it cannot follow ends
the reading.
"""

import re
from collections.abc import Callable, Generator, Mapping
from functools import cache
from typing import NamedTuple, NoReturn

import msgspec

from xairouter.dialects.tokens import (
    AFTER_SCALAR,
    CLOSE,
    FIELD,
    FLAT_DOCUMENT,
    HOLDS_LEAF,
    MARK,
    OPENERS,
    REST,
    TOKEN,
    VALUE,
)

SMALL = 64 * 1024
"""A document up to this size need not be condensed; and the largest field that is kept."""
MOST_LISTED = 256
"""Objects of a list inside a document of which all wanted fields are kept."""
MOST_DOCUMENTS = 100_000
"""Documents of one array that are read; what is behind them is not."""

_LONGEST_LISTED = 8 * 1024
_COUNTED, _LONGEST_COUNTED = frozenset({"type"}), 64
"""What is kept of the objects behind them, so that they can be counted."""
_NO_LISTS: Mapping[str, frozenset[str]] = {}
_Steps = Generator[None, bytes, None]
_NAME = msgspec.json.Decoder(str)
_LONGEST_NAME = 128
# Between the documents of an array: scalars and empty containers are passed over.
_ELEMENT = re.compile(rb"(?:[^\[\]{}\"]++|\{[ \t\n\r]*+\}|\[[ \t\n\r]*+\])*+([\[\]{}\"])")


@cache
def _sought(names: frozenset[str]) -> tuple[frozenset[bytes], re.Pattern[bytes]]:
    """Names as bytes, and what tells that one of them may stand somewhere."""
    raw = frozenset(name.encode() for name in names)
    return raw, re.compile(rb'"(?:' + b"|".join(map(re.escape, sorted(raw))) + rb')"|\\')


class Bounds(NamedTuple):
    """How many fields a document may have, and how deep containers may stand in one of them."""

    fields: int = 10_000
    depth: int = 1 << 30


REPLY_BOUNDS = Bounds()


class _UnreadableError(Exception):
    """This is not the JSON that was expected."""


class Condenser:
    """Reads one document, or an array of them, and gives each in small to ``take``.

    ``wanted`` fields are kept as they are, where they are at most ``SMALL``; ``holders`` are objects
    that hold such fields again; ``lists`` are arrays in either, of whose objects, and of holders in
    them, those fields are kept; behind ``MOST_LISTED`` of them the ``type`` alone. With ``within`` the
    documents are the elements of the array in that field of the outermost object. ``is_over``:
    nothing further will be read; ``failures`` counts
    what was wanted and could not be read, ``too_large`` those of it that were left out for their
    size, ``exceeds`` names the bound that was passed;
    ``has_list`` that there is an array of documents.
    """

    __slots__ = (
        "_at",
        "_bounds",
        "_data",
        "_field_at",
        "_fields_left",
        "_holders",
        "_keeping_from",
        "_kept",
        "_lists",
        "_longest",
        "_mark",
        "_names",
        "_steps",
        "_take",
        "_wanted",
        "_within",
        "exceeds",
        "failures",
        "has_list",
        "is_over",
        "too_large",
    )

    def __init__(
        self,
        take: Callable[[bytes], None],
        wanted: frozenset[str],
        holders: frozenset[str] = frozenset(),
        within: str | None = None,
        bounds: Bounds = REPLY_BOUNDS,
        lists: Mapping[str, frozenset[str]] = _NO_LISTS,
    ) -> None:
        self._take = take
        self._wanted = wanted
        self._holders = holders
        self._within = within
        self._lists = lists
        names = wanted.union(holders, lists, *lists.values(), () if within is None else (within,))
        self._names, self._mark = _sought(names)
        self._data = b""
        self._at = 0
        self._kept = bytearray()
        self._longest = SMALL
        self._field_at = 0
        self._bounds = bounds
        self._fields_left = bounds.fields + 1  # The end of a document is looked at like a field.
        self.exceeds: str | None = None
        self._keeping_from: int | None = None
        self.failures = self.too_large = 0
        self.has_list = False
        self.is_over = False
        self._steps = self._read_all()
        next(self._steps)

    def feed(self, data: bytes) -> None:
        """Take the next bytes in."""
        if self.is_over or not data:
            return
        try:
            self._steps.send(data)
        except StopIteration:
            self._end()
        except _UnreadableError:
            self.failures += 1
            self._end()

    def close(self) -> None:
        """Read no further."""
        if not self.is_over:
            self._end()

    def _end(self) -> None:
        self.is_over = True
        self._data, self._kept = b"", bytearray()
        self._steps.close()  # Its frame refers to this object.

    # Each of the steps below runs until it has read its part, and yields where bytes are missing.

    def _read_all(self) -> _Steps:
        self._data = yield
        self._at = 0
        first = yield from self._next(VALUE)
        if first == 0x5B:  # [
            yield from self._elements()
        elif first == 0x7B and self._within is None:  # {
            yield from self._document()
        elif first == 0x7B:
            yield from self._list_within()
        else:
            raise _UnreadableError

    def _more(self) -> _Steps:
        if self._keeping_from is not None:
            self._keep(self._data[self._keeping_from :])
            if self._keeping_from is not None:
                self._keeping_from = 0
        self._data = yield
        self._at = 0

    def _keep(self, data: bytes) -> None:
        """Add to the field that is being kept, unless it is too large: then it is left out."""
        if len(self._kept) + len(data) - self._field_at > self._longest:
            del self._kept[self._field_at :]
            self._keeping_from = None
            self.failures += 1
            self.too_large += 1
        else:
            self._kept += data

    def _next(self, pattern: re.Pattern[bytes]) -> Generator[None, bytes, int]:
        """The next byte that the pattern finds; it has been read then."""
        while (found := pattern.search(self._data, self._at)) is None:
            yield from self._more()
        self._at = found.end()
        return self._data[found.end() - 1]

    def _elements(self) -> _Steps:
        self.has_list = True
        for _ in range(MOST_DOCUMENTS):
            while (found := _ELEMENT.match(self._data, self._at)) is None:
                yield from self._more()
            self._at = found.end()
            match found.group(1):
                case b"{":
                    flat = FLAT_DOCUMENT.match(self._data, self._at)
                    if flat is None or self._mark.search(self._data, self._at, flat.end()):
                        yield from self._document()
                    else:
                        self._at = flat.end()
                case b"[":
                    yield from self._container()
                case b'"':
                    yield from self._string()
                case b"]":
                    return
                case _:
                    raise _UnreadableError

    def _list_within(self) -> _Steps:
        while True:
            self._pass_fields()
            if (yield from self._next(MARK)) != 0x22:  # "
                return
            name = yield from self._name()
            first = yield from self._next(VALUE)
            if name == self._within and first == 0x5B:
                yield from self._elements()
                return
            yield from self._value(first)

    def _document(self) -> _Steps:
        self._kept = bytearray(b"{")
        self._fields_left = self._bounds.fields + 1
        yield from self._fields(self._holders)
        if len(self._kept) > 1:
            self._kept[-1:] = b"}"
            self._take(bytes(self._kept))

    def _fields(self, holders: frozenset[str]) -> _Steps:
        """The fields of an object, up to its end; those of a holder are looked into, once."""
        while True:
            self._pass_fields()
            mark = yield from self._next(MARK)
            if mark == 0x7D:  # }
                return
            if mark != 0x22:
                raise _UnreadableError
            name = yield from self._name()
            first = yield from self._next(VALUE)
            self._field_at = len(self._kept)
            if name in holders and first == 0x7B:
                self._kept += msgspec.json.encode(name) + b":"
                yield from self._object_inside(frozenset())
            elif name in self._lists and first == 0x5B:
                yield from self._list(name)
            elif name in self._wanted:
                self._kept += msgspec.json.encode(name) + b":"
                self._keeping_from = self._at - 1
                yield from self._value(first)
                if self._keeping_from is not None:
                    self._keep(self._data[self._keeping_from : self._at])
                if self._keeping_from is not None:
                    self._kept += b","
                self._keeping_from = None
            else:
                yield from self._value(first)

    def _object_inside(self, holders: frozenset[str]) -> _Steps:
        """An object inside a document, its brace read: of its fields the wanted ones."""
        self._kept += b"{"
        begins = len(self._kept)
        yield from self._fields(holders)
        if len(self._kept) > begins:
            self._kept[-1:] = b"},"
        else:
            self._kept += b"},"

    def _list(self, name: str) -> _Steps:
        """An array inside a document: of its objects the wanted fields, of the rest nothing."""
        self._kept += msgspec.json.encode(name) + b":["
        outer, lists = self._wanted, self._lists
        self._wanted, self._lists, self._longest = lists[name], _NO_LISTS, _LONGEST_LISTED
        left = MOST_LISTED
        while (first := (yield from self._next(MARK))) != 0x5D:  # ]
            if first == 0x7B:
                if not left:
                    self._wanted, self._longest = self._wanted & _COUNTED, _LONGEST_COUNTED
                left -= 1
                yield from self._object_inside(self._holders)
            elif first == 0x7D:  # }
                raise _UnreadableError
            else:
                yield from self._value(first)
        self._wanted, self._lists, self._longest = outer, lists, SMALL
        if left < MOST_LISTED:
            self._kept[-1:] = b"],"
        else:
            self._kept += b"],"

    def _pass_fields(self) -> None:
        """Pass over fields that are here as a whole and not wanted."""
        data, at, names = self._data, self._at, self._names
        left = self._fields_left
        while left and (field := FIELD.match(data, at)) and field.group(1) not in names:
            at = field.end()
            left -= 1
        self._at = at
        # The one that is read next.
        self._fields_left = left - 1
        if left <= 0:
            self._exceed("fields")

    def _exceed(self, bound: str) -> NoReturn:
        self.exceeds = bound
        raise _UnreadableError

    def _name(self) -> Generator[None, bytes, str]:
        """A field's name and the colon behind it; the quotation mark before it has been read."""
        raw = bytearray()
        while True:
            start = self._at
            rest = REST.match(self._data, start)
            assert rest is not None
            if len(raw) <= _LONGEST_NAME:
                raw += self._data[start : min(rest.end(), start + _LONGEST_NAME + 1)]
            self._at = rest.end()
            if rest.lastindex == 1:
                break
            yield from self._more()
            if rest.lastindex == 2:
                raw += self._data[:1]
                self._at = 1
        if (yield from self._next(VALUE)) != 0x3A:  # :
            raise _UnreadableError
        if len(raw) > _LONGEST_NAME:
            return ""
        try:
            return _NAME.decode(b'"' + raw) if b"\\" in raw else raw[:-1].decode()
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise _UnreadableError from None

    def _value(self, first: int) -> _Steps:
        """A value whose first byte has been read, up to its end."""
        if first == 0x22:
            yield from self._string()
        elif first in b"{[":
            yield from self._container()
        else:
            while (end := AFTER_SCALAR.search(self._data, self._at)) is None:
                yield from self._more()
            self._at = end.start()

    def _string(self) -> _Steps:
        while True:
            data, at = self._data, self._at
            # Of a long string most pieces hold neither its end nor an escape.
            if data.find(b'"', at) < 0 and data.find(b"\\", at) < 0:
                yield from self._more()
                continue
            rest = REST.match(data, at)
            assert rest is not None
            self._at = rest.end()
            if rest.lastindex == 1:
                return
            yield from self._more()
            if rest.lastindex == 2:
                self._at = 1

    def _container(self) -> _Steps:
        depth, deepest = 1, self._bounds.depth
        while True:
            for token in TOKEN.finditer(self._data, self._at):
                kind = token.lastindex
                if kind is None:
                    if depth >= deepest and HOLDS_LEAF.match(self._data, *token.span()):
                        self._exceed("depth")
                elif kind == CLOSE:
                    depth -= token.end() - token.start()
                    if depth <= 0:
                        self._at = token.end() + depth
                        return
                elif kind in OPENERS:
                    depth += token.end() - token.start()
                    if depth > deepest:
                        self._exceed("depth")
                else:
                    self._at = token.end()
                    yield from self._string()
                    break
            else:
                yield from self._more()
