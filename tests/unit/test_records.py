"""What changes a usage record: typed fields that the record has, and only what is known."""

import typing
from types import UnionType
from zlib import crc32

import msgspec
import pytest

from xairouter.domain.records import (
    AttemptFields,
    EndFields,
    Outcome,
    ReplyFields,
    UsageRecord,
    UsageSource,
)
from xairouter.errors import ErrorCode
from xairouter.ledger.frames import Progress, encode
from xairouter.ledger.salvage import decode_all


def _kinds(hint: object) -> set[object]:
    """The types that an annotation allows: of a mapping only that it is one, and words of a
    vocabulary as text, which a record of an earlier version may hold another of."""
    parts = typing.get_args(hint) if isinstance(hint, UnionType) else (hint,)
    return {str if part is ErrorCode else typing.get_origin(part) or part for part in parts}


@pytest.mark.parametrize("change", [AttemptFields, ReplyFields, EndFields])
def test_a_change_has_fields_of_the_record_and_their_types(change: type[msgspec.Struct]):
    record = typing.get_type_hints(UsageRecord)
    for name, hint in typing.get_type_hints(change).items():
        assert _kinds(hint) <= _kinds(record[name]), name


def _framed(payload: object) -> bytes:
    data = msgspec.msgpack.encode(payload)
    return len(data).to_bytes(4, "big") + crc32(data).to_bytes(4, "big") + data


def test_progress_of_an_earlier_version_is_read():
    """It was any mapping of fields, those without a value too."""
    known = {"status": 200, "input_tokens": None, "usage_source": "reported", "of_later": 1}
    assert list(decode_all(_framed(["p", "call_1", known]))) == [
        Progress("call_1", ReplyFields(status=200, usage_source=UsageSource.REPORTED))
    ]


def test_a_whole_frame_that_cannot_be_read_hides_none_behind_it():
    """Such as one of a later version, whose vocabularies have further words."""
    unknown = _framed(["p", "call_1", {"usage_source": "of_later"}])
    frame = Progress("call_1", ReplyFields(status=200))
    assert list(decode_all(unknown + encode(frame))) == [frame]


def test_only_what_is_known_of_a_reply_changes_a_record():
    assert ReplyFields().known() == {}
    reply = ReplyFields(status=200, output_tokens=0, usage_source=UsageSource.REPORTED)
    assert reply.known() == {"status": 200, "output_tokens": 0, "usage_source": "reported"}


def test_nothing_of_an_attempt_or_a_reply_is_what_a_record_begins_with():
    """Both are applied whole at a call's end, even where it came to neither."""
    first = UsageRecord(
        call_id="call_1",
        owner_id="acc_1",
        account_id="acc_1",
        key_id="key_1",
        dialect="openai_chat",
        method="POST",
        path="/v1/chat/completions",
        client_ip="127.0.0.1",
        started_at_ms=1,
        outcome=Outcome.INTERRUPTED,
    )
    for nothing in (AttemptFields(), ReplyFields()):
        assert msgspec.structs.replace(first, **msgspec.structs.asdict(nothing)) == first
