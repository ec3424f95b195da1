"""What the journal holds: frames of a call, and how they add up to its usage record.

A frame on disk::

    length of payload (4, big-endian) | CRC-32 of payload (4) | payload (MessagePack)

A folder holds segments ``00000001.log`` … read in order. A torn frame at the end of a segment was
never acknowledged. A damaged one is passed over, and told: ``salvage.py`` finds the frames behind it.
A whole frame that this version cannot read is left out.
"""

from struct import Struct
from typing import Any
from zlib import crc32

import msgspec

from xairouter.accounting.counts import recounted
from xairouter.domain.records import ReplyFields, Settlement, UsageRecord, UsageSource

HEADER_BYTES = 8
MAX_PAYLOAD = 1 << 20


class Begin(msgspec.Struct, frozen=True, tag="b", array_like=True):
    """A call was admitted or refused; ``record`` is what its record says if nothing follows."""

    record: UsageRecord


class Attempt(msgspec.Struct, frozen=True, tag="a", array_like=True):
    """A request is about to be sent to a provider. ``given_tokens`` is its input as estimated (None:
    what it uses does not count), ``unsettled`` how many before it may be billed without a reply,
    ``number`` the how manieth of its call it is (0 in journals of earlier versions): a frame may be
    written twice."""

    call_id: str
    provider_key_id: str
    provider: str
    level: int
    model_used: str | None
    dialect: str
    given_tokens: int | None = None
    unsettled: int = 0
    number: int = 0


class Progress(msgspec.Struct, frozen=True, tag="p", array_like=True):
    """What is known of a running reply."""

    call_id: str
    reply: ReplyFields


class Finish(msgspec.Struct, frozen=True, tag="f", array_like=True):
    """The call's whole record."""

    record: UsageRecord


class Settle(msgspec.Struct, frozen=True, tag="s", array_like=True):
    """A call showed the end of a response that an earlier one had begun in the background."""

    settlement: Settlement


Frame = Begin | Attempt | Progress | Finish | Settle
_PREFIX = Struct(">II")
"""What stands before a frame's payload: its length and its checksum."""
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Frame)


def encode(frame: Frame) -> bytes:
    """A frame as it stands on disk."""
    payload = _ENCODER.encode(frame)
    return _PREFIX.pack(len(payload), crc32(payload)) + payload


def stated(data: bytes, at: int) -> tuple[int, int]:
    """Where the frame ends that begins here, and its checksum, as its first bytes state."""
    size, checksum = _PREFIX.unpack_from(data, at)
    return at + HEADER_BYTES + size, checksum


def payload_at(data: bytes, at: int) -> bytes | None:
    """The payload of a frame that begins here; None where none does that is whole."""
    if at + HEADER_BYTES > len(data):
        return None
    size, checksum = _PREFIX.unpack_from(data, at)
    payload = data[at + HEADER_BYTES : at + HEADER_BYTES + size]
    if not 0 < size <= MAX_PAYLOAD or len(payload) < size or crc32(payload) != checksum:
        return None
    return payload


def decode(payload: bytes) -> Frame | None:
    """What a frame says; None for one that this version cannot read."""
    try:
        frame: Frame = _DECODER.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return frame


class Recovery:
    """Adds frames up to records: finished ones as they are, open ones as ``interrupted``. What
    settles records, of these calls or of others, is kept beside them."""

    def __init__(self) -> None:
        self._records: dict[str, UsageRecord] = {}
        self._finished: dict[str, None] = {}
        self._unsettled: dict[str, int] = {}
        self.settlements: list[Settlement] = []

    def take(self, frame: Frame) -> None:
        """Apply one frame; frames of calls whose begin is gone are of drained calls."""
        match frame:
            case Begin(record):
                self._records.setdefault(record.call_id, record)
            case Attempt():
                begun = self.open_record(frame.call_id)
                if begun is not None:
                    self._records[frame.call_id] = msgspec.structs.replace(
                        begun,
                        attempts=frame.number or begun.attempts + 1,
                        provider_key_id=frame.provider_key_id,
                        provider=frame.provider,
                        level=frame.level,
                        model_used=frame.model_used,
                        **_of_attempt(frame),
                    )
                    self._unsettled[frame.call_id] = frame.unsettled
            case Progress():
                begun = self.open_record(frame.call_id)
                if begun is not None:
                    self._records[frame.call_id] = msgspec.structs.replace(
                        begun, **frame.reply.known()
                    )
            case Finish(record):
                self._records[record.call_id] = record
                self._finished[record.call_id] = None
            case Settle(settlement):
                self.settlements.append(settlement)

    def open_record(self, call_id: str) -> UsageRecord | None:
        """What is known of a call that has begun, and of which no end was seen."""
        return None if call_id in self._finished else self._records.get(call_id)

    def is_full(self, most: int) -> bool:
        """Whether so many calls have ended, or so much settles others, since they were taken."""
        return len(self._finished) >= most or len(self.settlements) >= most

    def take_ended(self) -> list[UsageRecord]:
        """The records of calls that have ended, which are known here no longer."""
        ended = [self._records.pop(call_id) for call_id in self._finished]
        for call_id in self._finished:
            self._unsettled.pop(call_id, None)
        self._finished.clear()
        return ended

    def take_settlements(self) -> list[Settlement]:
        """What settles calls that have ended, which is known here no longer: what settles one that
        has not is to be stored behind its record."""
        is_open = set(self.open_calls()) if self.settlements else set()
        taken = [one for one in self.settlements if one.call_id not in is_open]
        self.settlements = [one for one in self.settlements if one.call_id in is_open]
        return taken

    def open_calls(self) -> list[str]:
        """Calls that have begun, and of which no end was seen."""
        return [call_id for call_id in self._records if call_id not in self._finished]

    def take_open(self) -> list[UsageRecord]:
        """The records of those calls, as ``records`` has them."""
        taken = [self._counted(self._records.pop(call_id)) for call_id in self.open_calls()]
        self._unsettled.clear()
        return taken

    def records(self) -> list[UsageRecord]:
        """Every call's record, in the order in which they began. Those of calls that had not ended
        count for what may have been used."""
        return [
            record if call_id in self._finished else self._counted(record)
            for call_id, record in self._records.items()
        ]

    def _counted(self, record: UsageRecord) -> UsageRecord:
        return recounted(record, self._unsettled.get(record.call_id, 0))


def _of_attempt(frame: Attempt) -> dict[str, Any]:
    """What a record says of an attempt of which no more is known."""
    if frame.given_tokens is None:
        return {"cost_nano": 0}
    return {"input_tokens": frame.given_tokens, "usage_source": UsageSource.ESTIMATED}
