"""What the journal holds: frames of a call, and how they add up to its usage record.

A frame on disk::

    length of payload (4, big-endian) | CRC-32 of payload (4) | payload (MessagePack)

A folder holds segments ``00000001.log`` … read in order. A torn or damaged frame ends its segment:
what stands behind it was never acknowledged.
"""

from collections.abc import Iterator
from typing import Any
from zlib import crc32

import msgspec

from xairouter.domain.records import UsageRecord

HEADER_BYTES = 8
MAX_PAYLOAD = 1 << 20


class Begin(msgspec.Struct, frozen=True, tag="b", array_like=True):
    """A call was admitted or refused; ``record`` is what its record says if nothing follows."""

    record: UsageRecord


class Attempt(msgspec.Struct, frozen=True, tag="a", array_like=True):
    """A request is about to be sent to a provider."""

    call_id: str
    provider_key_id: str
    provider: str
    level: int
    model_used: str | None
    dialect: str


class Progress(msgspec.Struct, frozen=True, tag="p", array_like=True):
    """What is known of a running reply: fields of the record that have a value by now."""

    call_id: str
    known: dict[str, Any]


class Finish(msgspec.Struct, frozen=True, tag="f", array_like=True):
    """The call's whole record."""

    record: UsageRecord


Frame = Begin | Attempt | Progress | Finish
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Frame)


def encode(frame: Frame) -> bytes:
    """A frame as it stands on disk."""
    payload = _ENCODER.encode(frame)
    return len(payload).to_bytes(4, "big") + crc32(payload).to_bytes(4, "big") + payload


def decode_all(data: bytes) -> Iterator[Frame]:
    """The frames of a segment, up to the first that is torn or damaged."""
    at = 0
    while at + HEADER_BYTES <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        payload = data[at + HEADER_BYTES : at + HEADER_BYTES + size]
        if (
            size > MAX_PAYLOAD
            or len(payload) < size
            or crc32(payload) != int.from_bytes(data[at + 4 : at + 8], "big")
        ):
            return
        try:
            frame = _DECODER.decode(payload)
        except msgspec.MsgspecError:
            return
        yield frame
        at += HEADER_BYTES + size


class Recovery:
    """Adds frames up to records: finished ones as they are, open ones as ``interrupted``."""

    def __init__(self) -> None:
        self._records: dict[str, UsageRecord] = {}
        self._finished: set[str] = set()

    def take(self, frame: Frame) -> None:
        """Apply one frame; frames of calls whose begin is gone are of drained calls."""
        match frame:
            case Begin(record):
                self._records.setdefault(record.call_id, record)
            case Attempt():
                open_record = self._open(frame.call_id)
                if open_record is not None:
                    self._records[frame.call_id] = msgspec.structs.replace(
                        open_record,
                        attempts=open_record.attempts + 1,
                        provider_key_id=frame.provider_key_id,
                        provider=frame.provider,
                        level=frame.level,
                        model_used=frame.model_used,
                    )
            case Progress():
                open_record = self._open(frame.call_id)
                if open_record is not None:
                    self._records[frame.call_id] = msgspec.structs.replace(
                        open_record, **frame.known
                    )
            case Finish(record):
                self._records[record.call_id] = record
                self._finished.add(record.call_id)

    def _open(self, call_id: str) -> UsageRecord | None:
        return None if call_id in self._finished else self._records.get(call_id)

    def records(self) -> list[UsageRecord]:
        """Every call's record, in the order in which they began."""
        return list(self._records.values())
