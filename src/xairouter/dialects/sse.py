"""Server-sent events, cut from bytes without I/O.

Format: html.spec.whatwg.org/multipage/server-sent-events.html. Lines end in LF, CRLF or CR; an
empty line ends an event. Only ``data`` matters here, and events that are cut short by the end of
the stream still count, because a provider's last words may carry the usage.
"""

import re

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n|\r\n\n")
ENDS = (b"\n\n", b"\r\n\r\n")
"""How nearly all events end."""
_LINE = re.compile(rb"[^\r\n]+")


class EventCutter:
    """Cuts a byte stream into whole events, terminator included.

    ``feed`` returns the events that became whole; what is left waits in ``tail``, at most
    ``limit`` bytes. An event larger than that is given up: ``overflowed`` turns true until its end
    has passed, and its bytes are dropped from the tail. ``is_at_rest``: nothing waits for its end,
    the next bytes begin an event.
    """

    __slots__ = ("_tail", "is_at_rest", "limit", "overflowed")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.overflowed = False
        self.is_at_rest = True
        self._tail = bytearray()

    @property
    def tail(self) -> bytes:
        """The bytes of an event that has not ended yet."""
        return bytes(self._tail)

    def take_tail(self) -> bytes:
        """Hand out the unfinished event's bytes and forget them."""
        tail = bytes(self._tail)
        self._tail.clear()
        self.is_at_rest = not self.overflowed
        return tail

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take bytes in; return the events that became whole by them."""
        # A terminator may straddle the border between the old tail and the new bytes.
        search_from = max(0, len(self._tail) - 3)
        data: bytes | bytearray = chunk
        if self._tail:
            self._tail += chunk
            data = self._tail
        events, at = [], 0
        while match := _END.search(data, search_from):
            events.append(bytes(data[at : match.end()]))
            at = search_from = match.end()
        if data is self._tail:
            del self._tail[:at]
        else:
            self._tail += chunk[at:]
        if self.overflowed and events:
            events.pop(0)
            self.overflowed = False
        if len(self._tail) > self.limit:
            self.overflowed = True
            del self._tail[:-3]
        self.is_at_rest = not self._tail and not self.overflowed
        return events


def data_of(event: bytes) -> bytes:
    """The event's data: its ``data:`` lines joined by LF, other fields and comments left out."""
    parts = []
    for line in _LINE.findall(event):
        if line.startswith(b"data:"):
            parts.append(line[6:] if line[5:6] == b" " else line[5:])
    return b"\n".join(parts)
