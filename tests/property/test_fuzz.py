"""What comes from outside or from a damaged disk, thrown at what reads it: journals, sealed keys, slots,
management bodies, rules, words of the bus. A few hundred examples here, as many as wanted by
``make fuzz``; the dialects have their own in test_dialects.py."""

import json
import random
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.custody.test_sealing import SECRET, _issued, _row, _vault
from tests.unit.ledger.test_frames import record
from xairouter.custody import formats, slots, vault
from xairouter.custody.intake import read_body
from xairouter.directory.bus import Ailing, Changed, ValkeyBus, Well
from xairouter.domain.records import ReplyFields, UsageRecord
from xairouter.errors import CustodyError, ManageError
from xairouter.ledger.frames import Attempt, Begin, Finish, Progress, Recovery, encode
from xairouter.ledger.salvage import decode_all
from xairouter.manage.rules import checked, merged
from xairouter.policy.rules import write_rules

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner),
    max_leaves=20,
)


def _journal(calls: int, dice: random.Random) -> tuple[bytes, list[tuple[int, Any]]]:
    """A journal of interleaved calls: its bytes, and (where it ends, frame) of each frame."""
    running: list[list[Any]] = []
    for number in range(calls):
        call_id = f"call_{number}"
        begin = record(call_id=call_id, label="x" * dice.randint(0, 60))
        frames: list[Any] = [Begin(begin)]
        for _ in range(dice.randint(0, 2)):
            frames.append(Attempt(call_id, "pk_1", "openai", 1, "gpt", "openai_chat"))
            frames.append(Progress(call_id, ReplyFields(output_tokens=dice.randint(0, 9))))
        if dice.random() < 0.8:
            frames.append(Finish(msgspec.structs.replace(begin, outcome="completed")))
        running.append(frames)
    data, ends = b"", []
    while running:
        frames = dice.choice(running[:8])
        frame = frames.pop(0)
        if not frames:
            running.remove(frames)
        data += encode(frame)
        ends.append((len(data), frame))
    return data, ends


def _recovered(frames: Any) -> list[UsageRecord]:
    recovery = Recovery()
    for frame in frames:
        recovery.take(frame)
    return recovery.records()


def test_a_journal_cut_at_any_byte_gives_the_frames_before_it():
    """A cut at each byte of a short journal, and at some of a long one: the whole frames before it, and
    nothing else."""
    dice = random.Random(7)
    for calls, cuts in ((10, None), (120, 200)):
        data, ends = _journal(calls, dice)
        for cut in range(len(data) + 1) if cuts is None else dice.sample(range(len(data)), cuts):
            whole = [frame for end, frame in ends if end <= cut]
            assert list(decode_all(data[:cut])) == whole


def test_a_journal_cut_behind_any_frame_loses_nothing_and_doubles_nothing():
    """Exactly the calls whose begin was whole have a record, one each, whatever else was."""
    data, ends = _journal(120, random.Random(7))
    for number in range(len(ends) + 1):
        whole = [frame for _, frame in ends[:number]]
        found = _recovered(decode_all(data[: ends[number - 1][0]] if number else b""))
        assert found == _recovered(whole)
        ids = [one.call_id for one in found]
        assert len(ids) == len(set(ids))
        assert set(ids) == {one.record.call_id for one in whole if isinstance(one, Begin)}


@given(st.binary(max_size=400))
def test_a_sealed_key_made_of_anything_does_not_open(noise: bytes):
    with pytest.raises(CustodyError) as caught:
        vault.unseal(_vault(), _row(noise))
    assert caught.value.__context__ is None


@given(st.integers(0, 10_000), st.integers(1, 255), st.integers(0, 3))
def test_a_sealed_key_with_changed_bytes_does_not_open(at: int, change: int, cut: int):
    row = _row(b"")
    args: dict[str, Any] = {
        "key_id": row.id,
        "revision": row.revision,
        "auth": row.auth,
        "endpoints": row.endpoints,
    }
    sealed = bytearray(vault.seal(_vault(), SECRET.encode(), **args))
    sealed[at % len(sealed)] ^= change
    with pytest.raises(CustodyError):
        vault.unseal(_vault(), replace(row, sealed=bytes(sealed[: len(sealed) - cut])))


SLOT_PARTS = ("public_key", "anchor", "id_tag", "sealed", "seal_tag")
_, SLOT, SLOT_SECRET = _issued()


@given(st.data())
def test_a_slot_with_anything_in_it_does_not_open(data: st.DataObject):
    names = [name for name in SLOT_PARTS if isinstance(getattr(SLOT, name, None), bytes)]
    name = data.draw(st.sampled_from(names))
    value = data.draw(st.binary(max_size=2000))
    if value == getattr(SLOT, name):
        return
    with pytest.raises(CustodyError):
        slots.open_slot(replace(SLOT, **{name: value}), SLOT_SECRET.encode())


@given(st.text(max_size=80))
def test_no_text_but_a_key_is_a_key(text: str):
    assert not formats.is_api_key(text) or len(text) == 51


@given(st.binary(max_size=300) | JSON.map(lambda one: json.dumps(one).encode()))
def test_a_management_body_is_read_or_refused_in_our_own_words(body: bytes):
    refused = _refusal(read_body, body)
    if refused is not None:
        assert refused.detail.endswith(".")
        assert refused.__context__ is None


def _refusal(work: Any, *given_to: Any) -> ManageError | None:
    try:
        work(*given_to)
    except ManageError as error:
        return error
    return None


RULES = st.fixed_dictionaries(
    {},
    optional={
        "allow_ips": JSON | st.lists(st.sampled_from(["10.0.0.0/8", "::1", "1.2.3.4", "x", "1/2"])),
        "allow_models": JSON | st.lists(st.text("ab*-", max_size=8)),
        "allow_paths": JSON | st.lists(st.sampled_from(["/v1/messages", "/v1", "//", "/v1/../x"])),
        "allow_levels": JSON | st.lists(st.integers(-1, 5)),
        "limits": JSON | st.dictionaries(st.sampled_from(["rpm", "tpd", "concurrency"]), JSON),
        "model_limits": JSON | st.dictionaries(st.text("ab*", max_size=5), JSON),
        "budget": JSON | st.dictionaries(st.sampled_from(["day_usd", "notify_at"]), JSON),
        "model_map": JSON | st.dictionaries(st.text("ab*", max_size=5), st.text("ab*")),
        "max_output_tokens": JSON,
    },
)


@given(RULES)
def test_rules_are_refused_by_field_or_read_the_same_again(document: dict[str, Any]):
    refused = _refusal(checked, document)
    if refused is not None:
        assert refused.code in ("invalid_field", "unknown_field")
        assert refused.fields
        return
    rules = checked(document)
    assert checked(write_rules(rules)) == rules


@given(JSON, JSON)
def test_a_merge_patch_never_fails(document: Any, patch: Any):
    result = merged(document, patch)
    if not isinstance(patch, dict):
        assert result is patch or result == patch or result != result


WORDS = st.lists(
    st.sampled_from(["c", "a", "w"]) | st.text(max_size=9) | st.integers(-9, 9) | st.floats()
)


def _heard() -> tuple[ValkeyBus, list[Any]]:
    bus = ValkeyBus("valkey://127.0.0.1:9/0", "inst_me")
    heard: list[Any] = []
    bus.listen(heard.append)
    return bus, heard


@given(st.binary(max_size=200) | WORDS.map(msgspec.msgpack.encode))
def test_the_bus_takes_only_what_it_understands(data: bytes):
    bus, heard = _heard()
    bus._take(data)
    assert all(isinstance(one, Changed | Ailing | Well) for one in heard)
