"""Reading segments, also damaged ones: what was torn off, what is damaged, and what stands behind.

What clients send stands in frames (names of models, labels), so bytes that look like a frame may be
inside one. Behind damage, reading goes on where the damaged frame ends: by its length, or, if that is
what was damaged, where its checksum is right (then the frame itself is read). Only where neither can be
is the next frame searched for, and then it counts only if a whole frame or the segment's end follows it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

from xairouter.domain.records import UsageRecord
from xairouter.ledger.frames import (
    HEADER_BYTES,
    MAX_PAYLOAD,
    Frame,
    Recovery,
    decode,
    payload_at,
    stated,
)

TORN, DAMAGED, MENDED = "torn", "damaged", "mended"
ASIDE = ".damaged"
"""The suffix of a segment that is kept for people to look at."""
_NEAR = 1 << 16
"""How far behind its beginning the end of a frame is looked for by its checksum."""
_HEAD = re.compile(rb"(?=\x00[\x00-\x10].{6}[\x90-\x9f]\xa1[a-z])", re.DOTALL)
"""Where a frame may begin: its length, its checksum, an array that begins with a letter."""
_CALL_ID = re.compile(rb"call_\w+")


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes of a segment that are not as they were written. ``what`` is TORN (the end of a write that
    was cut off), DAMAGED (what stood here is lost) or MENDED (it could be read all the same)."""

    at: int
    size: int
    what: str


@dataclass(slots=True)
class Salvage:
    """What a folder of segments still says, and by file where it is not as it was written."""

    recovery: Recovery = field(default_factory=Recovery)
    gaps: dict[str, list[Gap]] = field(default_factory=dict)
    _hit: set[str] = field(default_factory=set)

    def read(self, path: Path) -> None:
        """Add a segment up."""
        for frame in self.frames(path.name, path.read_bytes()):
            self.recovery.take(frame)

    def frames(self, name: str, data: bytes) -> Iterator[Frame]:
        """The frames of a segment; at its end, what is not as it was written is known."""
        gaps = list[Gap]()
        yield from decode_all(data, gaps)
        if gaps:
            self.gaps[name] = gaps
        for gap in gaps:
            if gap.what == DAMAGED:
                named = _CALL_ID.findall(data, gap.at, gap.at + gap.size)
                self._hit.update(one.decode() for one in named)

    @property
    def damaged(self) -> dict[str, list[Gap]]:
        """Gaps other than torn ends, by file."""
        found = {
            name: [gap for gap in gaps if gap.what != TORN] for name, gaps in self.gaps.items()
        }
        return {name: gaps for name, gaps in found.items() if gaps}

    def harmed(self) -> list[UsageRecord]:
        """Calls whose end may be among what is lost."""
        begun = (self.recovery.open_record(call_id) for call_id in sorted(self._hit))
        return [record for record in begun if record is not None]


def salvage_folder(folder: Path) -> Salvage:
    """All frames of a folder, added up."""
    salvage = Salvage()
    for path in sorted(folder.glob("*.log")):
        salvage.read(path)
    return salvage


def decode_all(data: bytes, gaps: list[Gap] | None = None) -> Iterator[Frame]:
    """The frames of a segment; ``gaps`` is told of the bytes between them."""
    at = 0
    while at < len(data):
        payload = payload_at(data, at)
        if payload is not None:
            end = at + HEADER_BYTES + len(payload)
        else:
            payload, end = _behind(data, at)
            if gaps is not None:
                lost = TORN if end == len(data) and _is_torn(data, at) else DAMAGED
                gaps.append(Gap(at, end - at, lost if payload is None else MENDED))
        frame = None if payload is None else decode(payload)
        if frame is not None:
            yield frame
        at = end


def damage_of(path: Path) -> list[Gap]:
    """Where a segment is damaged."""
    gaps = list[Gap]()
    for _ in decode_all(path.read_bytes(), gaps):
        pass
    return [gap for gap in gaps if gap.what != TORN]


def set_aside(folder: Path) -> list[Path]:
    """Damaged segments that are kept, of all journals in a folder."""
    return sorted(folder.glob(f"*/*{ASIDE}"))


def _behind(data: bytes, at: int) -> tuple[bytes | None, int]:
    """Of a frame that is torn or damaged: what it says, where that can be known, and where to go on."""
    if at + HEADER_BYTES > len(data):
        return None, len(data)
    length, begins = len(data), at + HEADER_BYTES
    its_end, checksum = stated(data, at)
    far = max(at + _NEAR, its_end if its_end <= begins + MAX_PAYLOAD else 0)
    read, running, chosen = begins, 0, None
    for found in _HEAD.finditer(data, at + 1):
        end = found.start()
        if chosen is not None and end > far:
            break
        payload = payload_at(data, end)
        if payload is None or decode(payload) is None:
            continue
        if begins < end <= at + _NEAR:
            read, running = end, crc32(data[read:end], running)
            if running == checksum:
                return data[begins:end], end
        if end == its_end:
            return None, end
        follows = end + HEADER_BYTES + len(payload)
        if chosen is None and (follows == length or payload_at(data, follows) is not None):
            chosen = end
    if begins < length <= begins + MAX_PAYLOAD and crc32(data[read:], running) == checksum:
        return data[begins:], length
    if its_end == length or chosen is None:
        return None, length
    return None, chosen


def _is_torn(data: bytes, at: int) -> bool:
    """Whether what begins here, and ends the segment, was never written whole: less than its length,
    or nothing but zeros, which a file is made longer with before it is written."""
    if at + HEADER_BYTES > len(data):
        return True
    if data.startswith(bytes(HEADER_BYTES), at) and not data[at:].strip(b"\0"):
        return True
    end, _ = stated(data, at)
    return len(data) < end <= at + HEADER_BYTES + MAX_PAYLOAD
