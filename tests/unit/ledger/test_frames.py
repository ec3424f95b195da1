"""Frames and recovery: what a torn or damaged journal still says."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from xairouter.domain.records import UsageRecord
from xairouter.ledger.frames import (
    Attempt,
    Begin,
    Finish,
    Progress,
    Recovery,
    decode_all,
    encode,
)


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
    Progress("call_1", {"status": 200, "input_tokens": 7}),
    Attempt("call_1", "pk_2", "openai", 2, "gpt-b", "openai_chat"),
]
FINISH = Finish(record(outcome="completed", attempts=2, output_tokens=9))


def _recover(data: bytes) -> list[UsageRecord]:
    recovery = Recovery()
    for frame in decode_all(data):
        recovery.take(frame)
    return recovery.records()


def test_frames_come_back_as_they_were_written():
    assert list(decode_all(b"".join(map(encode, [*FRAMES, FINISH])))) == [*FRAMES, FINISH]


def test_an_open_call_is_interrupted_with_what_was_known():
    [found] = _recover(b"".join(map(encode, FRAMES)))
    assert (found.outcome, found.attempts, found.provider_key_id) == ("interrupted", 2, "pk_2")
    assert (found.status, found.input_tokens, found.model_used) == (200, 7, "gpt-b")


def test_a_finished_call_is_its_finish_whatever_stands_behind():
    late = [Progress("call_1", {"status": 500}), Begin(record())]
    assert _recover(b"".join(map(encode, [*FRAMES, FINISH, *late]))) == [FINISH.record]


def test_frames_of_a_call_without_a_begin_are_of_a_drained_one():
    assert _recover(b"".join(map(encode, FRAMES[1:]))) == []


@given(st.integers(0, 10_000))
def test_a_journal_cut_anywhere_keeps_every_whole_frame(cut: int):
    data = b"".join(map(encode, [*FRAMES, FINISH]))
    cut %= len(data) + 1
    frames = list(decode_all(data[:cut]))
    assert frames == [*FRAMES, FINISH][: len(frames)]
    size = sum(len(encode(frame)) for frame in [*FRAMES, FINISH][: len(frames) + 1])
    assert cut < size or len(frames) == 5


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_damaged_byte_never_makes_a_false_frame(at: int, change: int):
    data = bytearray(b"".join(map(encode, [*FRAMES, FINISH])))
    data[at % len(data)] ^= change
    frames = list(decode_all(bytes(data)))
    assert all(frame in [*FRAMES, FINISH] for frame in frames)
    assert len(frames) < 5


@given(st.binary(max_size=400))
def test_garbage_is_no_journal_and_raises_nothing(data: bytes):
    assert list(decode_all(data)) == []


def test_a_record_travels_unchanged():
    sent = record(usage_detail={"audio": 3, "note": "x"}, cost_nano=12345678901)
    [found] = decode_all(encode(Finish(sent)))
    assert msgspec.structs.asdict(found.record) == msgspec.structs.asdict(sent)
