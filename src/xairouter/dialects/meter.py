"""The meter: watches a reply's bytes pass and says what was used. It changes nothing.

Laws, each a property test: any chunking of the same bytes gives the same usage; garbage never
raises, it gives unknown usage; memory is bounded, however large the reply; each byte is looked at
once or twice. The form of a reply (stream of events, JSON, JSON array, compressed) is read from the
reply itself, not from what was asked.
"""

import re
import zlib
from collections.abc import Callable
from functools import cache

import msgspec

from xairouter.dialects.condense import SMALL, Condenser
from xairouter.dialects.inflate import FREE_OF_A_REPLY, Inflater
from xairouter.dialects.interface import Dialect, Tally
from xairouter.dialects.late import STEP, LateReader
from xairouter.dialects.sse import ENDS, EventCutter, data_of, events_with
from xairouter.domain.calls import Usage
from xairouter.domain.steps import Steps

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)
_GZIP = ("gzip", "x-gzip")
_DATA = re.compile(rb"data:")
AT_ONCE = 4 * STEP
"""So much of a stream is looked at when it comes, and of another body at its end."""
_MOST_SKIPPED = 1000
"""Events without content before the first one that has some."""


class Meter:
    """Feeds on the bytes of one reply, in the order and encoding in which they came.

    ``feed`` reads what came; of a compressed reply, which may unfold to more than is to be read at
    once, a block, and ``go_on`` reads the next one while the meter ``is_behind``. Compression is read
    only where it was ``asked_for``.

    Who has other things to do meanwhile uses ``feeder`` instead of ``feed``: it leaves what may take
    long, and ``catching_up`` reads that in short steps.
    """

    __slots__ = ("_dialect", "_inflater", "_read", "tally")

    def __init__(
        self, dialect: Dialect, content_type: str, content_encoding: str, *, asked_for: bool = True
    ) -> None:
        self.tally = Tally()
        self._dialect = dialect
        self._inflater: Inflater | None = None
        encoding = content_encoding.strip().lower()
        self._read: _EventReader | _BodyReader | None
        if encoding not in ("", "identity") and not (asked_for and encoding in _GZIP):
            self._read = None  # An encoding that was not asked for: the usage stays unknown.
            return
        if encoding in _GZIP:
            self._inflater = Inflater(FREE_OF_A_REPLY)
        if content_type.partition(";")[0].strip().lower() == "text/event-stream":
            self._read = _EventReader(dialect, self.tally)
        else:
            self._read = _BodyReader(dialect, self.tally)

    def feed(self, chunk: bytes) -> None:
        """Look at the next bytes of the reply."""
        if self._read is None:
            return
        if self._inflater is not None:
            self._inflater.take(chunk)
            self.go_on()
            return
        self._read.feed(chunk)
        self._read.catch_up()

    def feeder(self) -> Callable[[bytes], bool]:
        """A function for each piece that comes. Returns whether more was done, or is to be done, than
        to see that nothing in it matters."""
        if self._read is None:
            return lambda _: False
        self._read.leaves = True
        return self._read.feed if self._inflater is None else self._take

    def _take(self, chunk: bytes) -> bool:
        assert self._inflater is not None
        self._inflater.take(chunk)
        return True

    def catching_up(self) -> Steps[None]:
        """Look at all that waits, in short steps."""
        while self._read is not None and self.is_behind:
            if self._read.is_late:
                self._read.read_on()
            else:
                self._read.leave(self._next_block())
            yield

    def closing(self) -> Steps[None]:
        """The same at the reply's end, and what could not be read before it."""
        yield from self.catching_up()
        if self._read is not None:
            self._read.leaves = False
            self._read.close()

    @property
    def is_open(self) -> bool:
        """Whether ``closing`` may take long."""
        read = self._read
        return read is not None and (read.waiting > AT_ONCE or self.is_behind)

    @property
    def is_compressed(self) -> bool:
        """Whether the meter may fall behind."""
        return self._inflater is not None

    @property
    def is_behind(self) -> bool:
        """Whether bytes wait that came and were not looked at yet."""
        if self._read is None:
            return False
        return self._read.is_late or (self._inflater is not None and self._inflater.is_more)

    def go_on(self) -> None:
        """Look at the next block of what waits."""
        block = self._next_block()
        if self._read is not None:
            self._read.feed(block)
            self._read.catch_up()

    def _next_block(self) -> bytes:
        if self._read is None or self._inflater is None or not self._inflater.is_more:
            return b""
        try:
            return self._inflater.step()
        except zlib.error:
            self._read = None
            self.tally.unreadable += 1
            return b""

    @property
    def has_ended(self) -> bool:
        """Whether a stream has said its last word, so that leaving now loses nothing."""
        return self.tally.has_ended

    def finish(self) -> Usage:
        """The usage stated so far, when no more will come; may be asked again. What still waits is
        not read any more, nor what takes long where that was to be left."""
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


class _Large:
    """A document that is too large to be parsed as a whole: read for what matters, as it comes."""

    __slots__ = ("_condenser", "_dialect", "_tally")

    def __init__(self, dialect: Dialect, tally: Tally) -> None:
        self._dialect = dialect
        self._tally = tally
        self._condenser = Condenser(
            self._take, dialect.reply_fields, dialect.reply_holders, lists=dialect.reply_lists
        )

    def _take(self, document: bytes) -> None:
        self._tally.is_condensed = True
        _absorb(self._dialect, self._tally, document)

    def feed(self, data: bytes) -> None:
        self._condenser.feed(data)

    def close(self) -> None:
        """A document that was cut off is not read."""
        self._condenser.close()
        self._tally.unreadable += self._condenser.failures
        self._condenser.failures = 0


@cache
def _any_of(marks: tuple[bytes, ...]) -> re.Pattern[bytes]:
    return re.compile(b"|".join(map(re.escape, marks)))


@cache
def _last_line(end_marks: tuple[bytes, ...]) -> re.Pattern[bytes]:
    """Finds a line that is one of these fields and their values. What a model writes stands inside
    a line."""
    lines = [re.escape(name) + b": ?" + re.escape(value) for name, value in _fields(end_marks)]
    return re.compile(rb"(?:\A|[\r\n])(?:" + b"|".join(lines) + rb")[ \t]*+(?![^\r\n])")


def _fields(end_marks: tuple[bytes, ...]) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, _, value in (mark.partition(b": ") for mark in end_marks)]


class _EventReader(LateReader):
    """Reads the events that can matter: the first, those that carry one of the marks, and those
    that are too large to look for one."""

    __slots__ = (
        "_all_marks",
        "_cutter",
        "_dialect",
        "_end_words",
        "_is_first",
        "_large",
        "_mark",
        "_skipped",
        "_tally",
    )

    def __init__(self, dialect: Dialect, tally: Tally) -> None:
        super().__init__()
        self._dialect = dialect
        self._tally = tally
        self._cutter = EventCutter()
        self._is_first = True
        self._skipped = 0
        self._large: _Large | None = None
        self._end_words = tuple(value for _, value in _fields(dialect.end_marks))
        self._all_marks = (*dialect.marks, *self._end_words)
        self._mark = _any_of(self._all_marks)

    @property
    def waiting(self) -> int:
        return self._cutter.waiting

    def feed(self, chunk: bytes) -> bool:
        if not self._is_first and chunk.endswith(ENDS) and self._cutter.is_at_rest:
            for mark in self._all_marks:
                if mark in chunk:
                    break
            else:
                return False  # Whole events, none of which can matter: nearly all there are.
        if self._late or len(chunk) > AT_ONCE:
            self.leave(chunk)
            return True
        return self._read(chunk)

    def _read(self, chunk: bytes) -> bool:
        if self._large is not None:
            chunk = self._go_on_in_line(self._large, chunk)
            if self._large is not None:
                return True
        events, since = self._cutter.feed(chunk), 0
        if self._is_first:
            since = self._take_first(events)
        for start, end in events_with(events, self._mark, since):
            self._take(events[start:end])
        if self._cutter.waiting > SMALL:
            self._begin_line()
        return True

    def close(self) -> None:
        """The last event may lack its empty line."""
        if self._large is not None:
            self._large.close()
            self._large = None
        if self._cutter.waiting and not (self.leaves and self.waiting > AT_ONCE):
            self._take(self._cutter.take_tail())

    def _take(self, event: bytes) -> None:
        may_end = any(word in event for word in self._end_words)
        if may_end and _last_line(self._dialect.end_marks).search(event):
            self._tally.has_ended = True
        if not self._is_first and not any(mark in event for mark in self._dialect.marks):
            return
        data = data_of(event)
        if not data or data == b"[DONE]":
            return
        self._is_first = False
        # Hardly more than SMALL: of a larger event a line is read as it comes.
        _absorb(self._dialect, self._tally, data)

    def _take_first(self, events: bytes) -> int:
        """The first event that says anything; returns the place behind it."""
        for start, end in events_with(events, _DATA):
            self._take(events[start:end])
            self._skipped += 1
            if not self._is_first or self._skipped > _MOST_SKIPPED:
                self._is_first = False
                return end
        return 0

    def _begin_line(self) -> None:
        """An event has become large: a large line of it is read as it comes, and not kept."""
        begun = self._cutter.take_tail()
        at = max(begun.rfind(b"\n"), begun.rfind(b"\r")) + 1
        if at:
            self._take(begun[:at])
        if len(begun) - at <= SMALL:
            self._cutter.feed(begun[at:])
            return
        self._large = _Large(self._dialect, self._tally)
        self._cutter.is_at_rest = self._is_first = False
        # Of a line that is no data nothing is to be read, and nothing of it is an object.
        line = begun[at + 5 :] if begun.startswith(b"data:", at) else begun[at:]
        self.leave(line, is_first=True)

    def _go_on_in_line(self, large: _Large, chunk: bytes) -> bytes:
        """The next bytes of a large line; returns what stands behind it."""
        ends = [at for at in (chunk.find(b"\n"), chunk.find(b"\r")) if at >= 0]
        end = min(ends, default=len(chunk))
        line = chunk[:end]
        large.feed(line)
        if ends:
            large.close()
            self._large = None
        return chunk[end:]


class _BodyReader(LateReader):
    """Reads a JSON body: a small one as a whole, a larger one and an array as they come."""

    __slots__ = ("_dialect", "_large", "_parts", "_tally", "waiting")

    def __init__(self, dialect: Dialect, tally: Tally) -> None:
        super().__init__()
        self._dialect = dialect
        self._tally = tally
        self._parts: list[bytes] = []
        self.waiting = 0
        self._large: _Large | None = None

    def feed(self, chunk: bytes) -> bool:
        if self._late or (self._large is not None and len(chunk) > STEP):
            self.leave(chunk)
            return True
        return self._read(chunk)

    def _read(self, chunk: bytes) -> bool:
        if self._large is not None:
            self._large.feed(chunk)
            return True
        if self.waiting == 0:
            chunk = chunk.lstrip(b" \t\r\n")
            if chunk.startswith(b"["):
                self._begin(chunk)
                return True
        if not chunk:
            return False
        self._parts.append(chunk)
        self.waiting += len(chunk)
        if self.waiting <= SMALL:
            return False
        self._begin(b"".join(self._parts))
        return True

    def _begin(self, data: bytes) -> None:
        self._parts.clear()
        self.waiting = 0
        if self._dialect.beginning is not None:
            self._dialect.beginning(self._tally, data)
        self._large = _Large(self._dialect, self._tally)
        self.leave(data, is_first=True)

    def close(self) -> None:
        if self._large is not None:
            self._large.close()
        elif self._parts and not (self.leaves and self.waiting > AT_ONCE):
            body = b"".join(self._parts)
            self._parts.clear()
            self.waiting = 0
            _absorb(self._dialect, self._tally, body)
