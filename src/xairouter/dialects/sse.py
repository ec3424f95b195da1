"""Server-sent events, cut from bytes without I/O.

Format: html.spec.whatwg.org/multipage/server-sent-events.html. Lines end in LF, CRLF or CR; an
empty line ends an event. Only ``data`` matters here, and events that are cut short by the end of
the stream still count, because a provider's last words may carry the usage.
"""

import re
from collections.abc import Iterator

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n|\r\n\n")
_ENDED = (b"\n\n", b"\r\r", b"\n\r\n")
"""How each of them ends itself."""
ENDS = (b"\n\n", b"\r\n\r\n")
"""How nearly all events end."""
_LINE = re.compile(rb"[^\r\n]+")


class EventCutter:
    """Keeps whole events of a byte stream together.

    ``feed`` returns the bytes of all events that became whole; what is left waits as the tail,
    ``waiting`` bytes of it, until its end comes or somebody takes it. ``is_at_rest``: nothing waits
    for its end, the next bytes begin an event.
    """

    __slots__ = ("_tail", "is_at_rest")

    def __init__(self) -> None:
        self.is_at_rest = True
        self._tail = bytearray()

    @property
    def waiting(self) -> int:
        """How many bytes of an event have come that has not ended yet."""
        return len(self._tail)

    def take_tail(self) -> bytes:
        """Hand out the unfinished event's bytes and forget them."""
        tail = bytes(self._tail)
        self._tail.clear()
        self.is_at_rest = True
        return tail

    def feed(self, chunk: bytes) -> bytes:
        """Take bytes in; return whole events, one behind the other, their ends included."""
        tail = self._tail
        # An event's end may straddle the border between the old tail and the new bytes.
        search_from = max(0, len(tail) - 3)
        data: bytes | bytearray = chunk
        if tail:
            tail += chunk
            data = tail
        end = _behind_last(data, search_from, len(data))
        if end is None:
            if data is chunk:
                tail += chunk
            self.is_at_rest = not tail
            return b""
        self.is_at_rest = end == len(data)
        whole = bytes(data[:end])
        if data is tail:
            del tail[:end]
        else:
            tail += chunk[end:]
        return whole


def _behind_last(data: bytes | bytearray, since: int, until: int) -> int | None:
    """The place behind the last end of an event; None where there is none."""
    return max(
        [at + len(end) for end in _ENDED if (at := data.rfind(end, since, until)) >= 0],
        default=None,
    )


def events_with(
    events: bytes, mark: re.Pattern[bytes], since: int = 0
) -> Iterator[tuple[int, int]]:
    """The spans of those of whole events in which a mark stands; the others are not cut at all."""
    while found := mark.search(events, since):
        start = _behind_last(events, since, found.start())
        end = _END.search(events, found.end())
        since, start = len(events) if end is None else end.end(), since if start is None else start
        yield start, since


def data_of(event: bytes) -> bytes:
    """The event's data: its ``data:`` lines joined by LF, other fields and comments left out."""
    parts = []
    for line in _LINE.findall(event):
        if line.startswith(b"data:"):
            parts.append(line[6:] if line[5:6] == b" " else line[5:])
    return b"\n".join(parts)
