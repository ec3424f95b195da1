"""The meter: watches a reply's bytes pass and says what was used. It changes nothing.

Laws, each a property test: any chunking of the same bytes gives the same usage; garbage never
raises, it gives unknown usage; memory is bounded by ``LIMIT``. The form of a reply (stream of
events, JSON, JSON array, compressed) is read from the reply itself, not from what was asked.
"""

import re
import zlib
from collections.abc import Callable

import msgspec

from xairouter.dialects.inflate import Inflater, gunzip, unfold
from xairouter.dialects.interface import Dialect, Tally
from xairouter.dialects.sse import ENDS, EventCutter, data_of
from xairouter.domain.calls import Usage

LIMIT = 16 * 1024 * 1024
"""Largest reply body or single event that is read for usage, in bytes."""

_STRUCTURE = re.compile(rb'["{}\[\]]')
_STRING_END = re.compile(rb'(?:[^"\\]|\\.)*?"', re.DOTALL)
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)


class Meter:
    """Feeds on the bytes of one reply, in the order and encoding in which they came."""

    __slots__ = ("_dialect", "_inflate", "_read", "tally")

    def __init__(self, dialect: Dialect, content_type: str, content_encoding: str) -> None:
        self.tally = Tally()
        self._dialect = dialect
        self._inflate: Inflater | None = None
        encoding = content_encoding.strip().lower()
        if encoding in ("gzip", "x-gzip"):
            self._inflate = gunzip()
        self._read: _EventReader | _BodyReader | None
        if encoding not in ("", "identity", "gzip", "x-gzip"):
            self._read = None  # An encoding that was not asked for: the usage stays unknown.
        elif content_type.partition(";")[0].strip().lower() == "text/event-stream":
            self._read = _EventReader(dialect, self.tally)
        else:
            self._read = _BodyReader(dialect, self.tally)

    def feed(self, chunk: bytes) -> None:
        """Look at the next bytes of the reply."""
        if self._read is None:
            return
        if self._inflate is None:
            self._read.feed(chunk)
            return
        try:
            for block in unfold(self._inflate, chunk):
                self._read.feed(block)
        except zlib.error:
            self._read = None
            self.tally.unreadable += 1

    def feeder(self) -> Callable[[bytes], None]:
        """``feed``, the shortest way: taken once, called for each piece."""
        return self.feed if self._inflate is not None or self._read is None else self._read.feed

    @property
    def has_ended(self) -> bool:
        """Whether a stream has said its last word, so that leaving now loses nothing."""
        return self.tally.has_ended

    def finish(self) -> Usage:
        """The usage stated so far; may be asked at any time, and again."""
        if self._read is not None:
            self._read.close()
        return self._dialect.total(self.tally)

    def peek_usage(self) -> Usage:
        """The usage stated by whole events so far, for progress frames."""
        return self._dialect.total(self.tally)


def _absorb(dialect: Dialect, tally: Tally, document: bytes) -> None:
    try:
        dialect.absorb(tally, document)
    except _UNREADABLE:
        tally.unreadable += 1


class _EventReader:
    """Reads the events that can matter: the first, and those that carry one of the marks."""

    __slots__ = ("_all_marks", "_cutter", "_dialect", "_is_first", "_tally")

    def __init__(self, dialect: Dialect, tally: Tally) -> None:
        self._dialect = dialect
        self._tally = tally
        self._cutter = EventCutter(LIMIT)
        self._is_first = True
        self._all_marks = (*dialect.marks, *dialect.end_marks)

    def feed(self, chunk: bytes) -> None:
        if not self._is_first and chunk.endswith(ENDS) and self._cutter.is_at_rest:
            for mark in self._all_marks:
                if mark in chunk:
                    break
            else:
                return  # Whole events, none of which can matter: nearly all there are.
        for event in self._cutter.feed(chunk):
            self._take(event)

    def close(self) -> None:
        """The last event may lack its empty line."""
        if self._cutter.tail and not self._cutter.overflowed:
            self._take(self._cutter.tail)

    def _take(self, event: bytes) -> None:
        if any(mark in event for mark in self._dialect.end_marks):
            self._tally.has_ended = True
        if not self._is_first and not any(mark in event for mark in self._dialect.marks):
            return
        data = data_of(event)
        if not data or data == b"[DONE]":
            return
        self._is_first = False
        _absorb(self._dialect, self._tally, data)


class _BodyReader:
    """Collects a JSON body up to ``LIMIT``; reads a JSON array element by element as it comes."""

    __slots__ = ("_array", "_dialect", "_parts", "_size", "_tally")

    def __init__(self, dialect: Dialect, tally: Tally) -> None:
        self._dialect = dialect
        self._tally = tally
        self._parts: list[bytes] = []
        self._size = 0
        self._array: _ArrayReader | None = None

    def feed(self, chunk: bytes) -> None:
        if self._array is not None:
            self._array.feed(chunk)
            return
        if self._size > LIMIT or not chunk:
            return
        if self._size == 0:
            chunk = chunk.lstrip(b" \t\r\n")
            if chunk.startswith(b"["):
                self._array = _ArrayReader(self._dialect, self._tally)
                self._array.feed(chunk[1:])
                return
        self._parts.append(chunk)
        self._size += len(chunk)
        if self._size > LIMIT:
            self._parts.clear()
            self._tally.unreadable += 1

    def close(self) -> None:
        if self._array is None and self._parts:
            body = b"".join(self._parts)
            self._parts = [body]
            _absorb(self._dialect, self._tally, body)


class _ArrayReader:
    """Cuts the objects of a JSON array from a stream of bytes, without parsing what is in them."""

    __slots__ = ("_buffer", "_depth", "_dialect", "_in_string", "_scanned", "_start", "_tally")

    def __init__(self, dialect: Dialect, tally: Tally) -> None:
        self._dialect = dialect
        self._tally = tally
        self._buffer = bytearray()
        self._depth = 0
        self._start = 0
        self._scanned = 0
        self._in_string = False

    def close(self) -> None:
        """An element that was cut off is not read."""

    def feed(self, chunk: bytes) -> None:
        if self._depth < 0:
            return
        self._buffer += chunk
        while self._scan():
            pass
        keep_from = self._start if self._depth > 0 else self._scanned
        del self._buffer[:keep_from]
        self._scanned -= keep_from
        self._start = 0
        if len(self._buffer) > LIMIT:
            self._give_up()

    def _scan(self) -> bool:
        """Move over one structural byte; False when more bytes are needed."""
        if self._in_string:
            end = _STRING_END.match(self._buffer, self._scanned)
            if end is None:
                return False
            self._in_string = False
            self._scanned = end.end()
            return True
        found = _STRUCTURE.search(self._buffer, self._scanned)
        if found is None:
            self._scanned = len(self._buffer)
            return False
        self._scanned = found.end()
        byte = found.group()
        if byte == b'"':
            self._in_string = True
        elif byte in b"{[":
            if self._depth == 0:
                self._start = found.start()
            self._depth += 1
        else:
            self._depth -= 1
            if self._depth == 0:
                _absorb(self._dialect, self._tally, bytes(self._buffer[self._start : found.end()]))
            elif self._depth < 0:
                self._give_up()
                return False
        return True

    def _give_up(self) -> None:
        """The array ended, or an element is too large to be read."""
        self._depth = -1
        self._buffer.clear()
        self._scanned = self._start = 0


class UsageStripper:
    """Removes from an OpenAI stream the event that only carries usage nobody asked for.

    Bytes pass in whole events; a chunk's last, unfinished event waits for its end, at most
    ``HOLD`` bytes. An event that carries anything beside usage (choices, an error) passes.
    """

    HOLD = 64 * 1024
    __slots__ = ("_cutter",)

    def __init__(self) -> None:
        self._cutter = EventCutter(1 << 62)

    def feed(self, chunk: bytes) -> bytes:
        """The bytes that may pass now."""
        if self._cutter.is_at_rest and chunk.endswith(ENDS) and b'"usage"' not in chunk:
            return chunk  # Whole events that carry no usage.
        events = self._cutter.feed(chunk)
        passed = [event for event in events if not _is_usage_only(event)]
        tail = self._cutter.tail
        if len(tail) > self.HOLD:
            # Too large to be a usage event: let it go, and find its end with the next bytes.
            passed.append(self._cutter.take_tail())
        return b"".join(passed)

    def finish(self) -> bytes:
        """What was held back when the stream ended."""
        tail = self._cutter.take_tail()
        return b"" if _is_usage_only(tail) else tail


class _Chunk(msgspec.Struct):
    choices: list[msgspec.Raw] | None = None
    usage: dict[str, msgspec.Raw] | None = None
    error: msgspec.Raw | None = None


_CHUNK = msgspec.json.Decoder(_Chunk)


def _is_usage_only(event: bytes) -> bool:
    if b'"usage"' not in event or len(event) > UsageStripper.HOLD:
        return False
    try:
        chunk = _CHUNK.decode(data_of(event))
    except _UNREADABLE:
        return False
    return bool(chunk.usage) and chunk.choices == [] and chunk.error is None
