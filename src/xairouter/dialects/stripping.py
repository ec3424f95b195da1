"""What is taken out of a stream on its way to the client: usage that was asked for on our behalf."""

import re

import msgspec

from xairouter.dialects.sse import ENDS, EventCutter, data_of, events_with

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError)


class UsageStripper:
    """Removes from an OpenAI stream the event that only carries usage nobody asked for.

    Bytes pass in whole events; a chunk's last, unfinished event waits for its end, at most
    ``HOLD`` bytes. An event that carries anything beside usage (choices, an error) passes.
    """

    HOLD = 64 * 1024
    __slots__ = ("_cutter",)

    def __init__(self) -> None:
        self._cutter = EventCutter()

    def feed(self, chunk: bytes) -> bytes:
        """The bytes that may pass now."""
        if self._cutter.is_at_rest and chunk.endswith(ENDS) and b'"usage"' not in chunk:
            return chunk  # Whole events that carry no usage.
        events, at = self._cutter.feed(chunk), 0
        passed = []
        for start, end in events_with(events, _USAGE):
            if _is_usage_only(events[start:end]):
                passed.append(events[at:start])
                at = end
        passed.append(events[at:])
        if self._cutter.waiting > self.HOLD:
            # Too large to be a usage event: let it go, and find its end with the next bytes.
            passed.append(self._cutter.take_tail())
        return b"".join(passed)

    def finish(self) -> bytes:
        """What was held back when the stream ended."""
        tail = self._cutter.take_tail()
        return b"" if _is_usage_only(tail) else tail


_USAGE = re.compile(rb'"usage"')
_EMPTY_LIST = re.compile(rb"\[\s*\]\Z")
_FILLED_OBJECT = re.compile(rb"\{\s*\"")
_ABSENT = msgspec.Raw(b"")


class _Chunk(msgspec.Struct):
    choices: msgspec.Raw = _ABSENT
    usage: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT


_CHUNK = msgspec.json.Decoder(_Chunk)


def _is_usage_only(event: bytes) -> bool:
    if b'"usage"' not in event or len(event) > UsageStripper.HOLD:
        return False
    try:
        chunk = _CHUNK.decode(data_of(event))
    except _UNREADABLE:
        return False
    return (
        _EMPTY_LIST.match(bytes(chunk.choices)) is not None
        and _FILLED_OBJECT.match(bytes(chunk.usage)) is not None
        and bytes(chunk.error) in (b"", b"null")
    )
