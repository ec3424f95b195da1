"""Frames and recovery: what a torn or damaged journal still says."""

from typing import Any
from zlib import crc32

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from xairouter.domain.calls import Usage
from xairouter.domain.records import ReplyFields, Settlement, UsageRecord
from xairouter.ledger.frames import (
    Attempt,
    Begin,
    Finish,
    Progress,
    Recovery,
    Settle,
    encode,
)
from xairouter.ledger.salvage import decode_all


def record(**fields: Any) -> UsageRecord:
    values = {
        "call_id": "call_1",
        "owner_id": "acc_1",
        "account_id": "acc_1",
        "key_id": "key_1",
        "dialect": "openai_chat",
        "method": "POST",
        "path": "/v1/chat/completions",
        "client_ip": "127.0.0.1",
        "started_at_ms": 1,
        "outcome": "interrupted",
        **fields,
    }
    return UsageRecord(**values)


FRAMES = [
    Begin(record()),
    Attempt("call_1", "pk_1", "openai", 1, "gpt", "openai_chat"),
    Progress("call_1", ReplyFields(status=200, input_tokens=7)),
    Attempt("call_1", "pk_2", "openai", 2, "gpt-b", "openai_chat"),
]
FINISH = Finish(record(outcome="completed", attempts=2, output_tokens=9))


def _recover(data: bytes) -> list[UsageRecord]:
    recovery = Recovery()
    for frame in decode_all(data):
        recovery.take(frame)
    return recovery.records()


def test_frames_that_stand_twice_count_once():
    numbered = [
        Attempt("call_1", "pk_1", "openai", 1, "gpt", "openai_chat", 5, 0, number)
        for number in (1, 2)
    ]
    once = [Begin(record()), *numbered, FRAMES[2]]
    expected = _recover(b"".join(map(encode, once)))
    assert expected[0].attempts == 2
    for start in range(len(once)):
        again = once + once[start:]
        assert _recover(b"".join(map(encode, again))) == expected


def test_frames_come_back_as_they_were_written():
    assert list(decode_all(b"".join(map(encode, [*FRAMES, FINISH])))) == [*FRAMES, FINISH]


def test_an_open_call_is_interrupted_with_what_was_known():
    [found] = _recover(b"".join(map(encode, FRAMES)))
    assert (found.outcome, found.attempts, found.provider_key_id) == ("interrupted", 2, "pk_2")
    assert (found.status, found.input_tokens, found.model_used) == (200, 7, "gpt-b")


def test_a_finished_call_is_its_finish_whatever_stands_behind():
    late = [Progress("call_1", ReplyFields(status=500)), Begin(record())]
    assert _recover(b"".join(map(encode, [*FRAMES, FINISH, *late]))) == [FINISH.record]


def test_frames_of_a_call_without_a_begin_are_of_a_drained_one():
    assert _recover(b"".join(map(encode, FRAMES[1:]))) == []


@given(st.integers(0, 10_000))
def test_a_journal_cut_anywhere_keeps_every_whole_frame(cut: int):
    data = b"".join(map(encode, [*FRAMES, FINISH]))
    cut %= len(data) + 1
    frames = list(decode_all(data[:cut]))
    assert frames == [*FRAMES, FINISH][: len(frames)]
    size = len(b"".join(map(encode, [*FRAMES, FINISH][: len(frames) + 1])))
    assert cut < size or len(frames) == 5


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_damaged_byte_never_makes_a_false_frame(at: int, change: int):
    data = bytearray(b"".join(map(encode, [*FRAMES, FINISH])))
    data[at % len(data)] ^= change
    frames = list(decode_all(bytes(data)))
    assert all(frame in [*FRAMES, FINISH] for frame in frames)
    assert len(frames) >= 4


@given(st.binary(max_size=400))
def test_garbage_is_no_journal_and_raises_nothing(data: bytes):
    assert list(decode_all(data)) == []


def test_a_record_travels_unchanged():
    sent = record(usage_detail={"audio": 3, "note": "x"}, cost_nano=12345678901)
    [found] = decode_all(encode(Finish(sent)))
    assert isinstance(found, Finish)
    assert msgspec.structs.asdict(found.record) == msgspec.structs.asdict(sent)


def test_what_settles_an_earlier_call_is_kept_beside_the_records():
    usage = Usage(input_tokens=1, output_tokens=2, detail={"audio": 3}, object_id="resp_1")
    settlement = Settlement(
        owner_id="acc_1",
        object_id="resp_1",
        call_id="call_0",
        seen_by="call_1",
        seen_at_ms=5,
        usage=usage,
    )
    recovery = Recovery()
    for frame in decode_all(b"".join(map(encode, [FRAMES[0], Settle(settlement), FINISH]))):
        recovery.take(frame)
    assert recovery.records() == [FINISH.record]
    assert recovery.settlements == [settlement]


def test_a_journal_of_an_earlier_version_is_read():
    """Its records know nothing of responses in the background."""
    written = msgspec.to_builtins(record(outcome="completed", attempts=1))
    assert "background" not in written
    payload = msgspec.msgpack.encode(["f", written])
    data = len(payload).to_bytes(4, "big") + crc32(payload).to_bytes(4, "big") + payload
    [found] = decode_all(data)
    assert isinstance(found, Finish)
    assert found.record.background is False
