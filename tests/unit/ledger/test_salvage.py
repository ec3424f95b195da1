"""Damaged segments: what is lost of them, and what is not, wherever the damage is."""

from itertools import accumulate
from pathlib import Path
from random import Random
from zlib import crc32

import msgspec
import pytest

from tests.unit.ledger.test_frames import FINISH, FRAMES, record
from xairouter.ledger.adoption import damage_occasions
from xairouter.ledger.folders import forget, release_folder
from xairouter.ledger.frames import HEADER_BYTES, Begin, Finish, Frame, encode
from xairouter.ledger.salvage import (
    DAMAGED,
    MENDED,
    TORN,
    Gap,
    damage_of,
    decode_all,
    salvage_folder,
    set_aside,
)

SHORT = [*FRAMES, FINISH]
WRITTEN = [encode(frame) for frame in SHORT]
STARTS = [0, *accumulate(map(len, WRITTEN))]


def _read(data: bytes) -> tuple[list[Frame], list[Gap]]:
    gaps = list[Gap]()
    return list(decode_all(data, gaps)), gaps


@pytest.mark.parametrize("change", [1, 0x80, 0xFF])
def test_a_changed_byte_costs_its_own_frame_alone_and_is_told(change: int):
    data = bytearray(b"".join(WRITTEN))
    for at in range(len(data)):
        data[at] ^= change
        hit = next(n for n in range(len(SHORT)) if at < STARTS[n + 1])
        frames, gaps = _read(bytes(data))
        data[at] ^= change
        others = [frame for n, frame in enumerate(SHORT) if n != hit]
        size = STARTS[hit + 1] - STARTS[hit]
        if at - STARTS[hit] < 4:  # The length alone: the checksum says where the frame ends.
            assert frames == SHORT, at
            assert gaps == [Gap(STARTS[hit], size, MENDED)], at
        else:
            assert frames == others, at
            assert gaps == [Gap(STARTS[hit], size, DAMAGED)], at


def test_a_segment_cut_anywhere_is_torn_and_not_damaged():
    data = b"".join(WRITTEN)
    for cut in range(len(data) + 1):
        frames, gaps = _read(data[:cut])
        whole = sum(end <= cut for end in STARTS[1:])
        assert frames == SHORT[:whole]
        start = STARTS[whole]
        assert gaps == ([Gap(start, cut - start, TORN)] if cut > start else [])


@pytest.mark.parametrize("zeros", [1, 7, 8, 4096, 100_001])
def test_zeros_at_the_end_are_torn_and_in_the_middle_damage(zeros: int):
    first, last = b"".join(WRITTEN[:2]), b"".join(WRITTEN[2:])
    assert _read(first + bytes(zeros)) == (SHORT[:2], [Gap(len(first), zeros, TORN)])
    frames, gaps = _read(first + bytes(zeros) + last)
    assert (frames, gaps) == (SHORT, [Gap(len(first), zeros, DAMAGED)])


def test_at_each_boundary_of_a_long_segment_damage_costs_what_it_covers():
    many: list[Frame] = [Finish(record(call_id=f"call_{n}", label="x" * n)) for n in range(60)]
    written = [encode(frame) for frame in many]
    starts = [0, *accumulate(map(len, written))]
    data = b"".join(written)
    for n in range(1, 57):
        for at in (starts[n] - 1, starts[n], starts[n] + HEADER_BYTES):
            spoiled = bytearray(data)
            spoiled[at : at + 2] = bytes(255 - one for one in spoiled[at : at + 2])
            frames, gaps = _read(bytes(spoiled))
            lost = [one for one in many if one not in frames]
            assert lost == many[n - 1 : n + 1][: len(lost)] or lost == [many[n]], (n, at)
            assert gaps[0].at <= at < gaps[0].at + gaps[0].size
        spoiled = bytearray(data)
        spoiled[starts[n] - 100 : starts[n] + 100] = bytes(200)
        frames, gaps = _read(bytes(spoiled))
        assert [one for one in many if one not in frames] == many[n - 1 : n + 1]


def test_garbage_of_any_shape_ends_and_makes_no_frame():
    dice = Random(3)
    for _ in range(200):
        data = dice.randbytes(dice.randrange(3000))
        assert _read(data)[0] == []


@pytest.mark.parametrize("at", [*range(HEADER_BYTES), HEADER_BYTES + 9])
def test_what_a_client_sends_is_no_frame_behind_damage_either(at: int):
    """A model may be named like a frame of somebody else's."""
    forged = encode(Finish(record(call_id="call_forged", owner_id="acc_other", label="y")))
    bearer = encode(Begin(record(model_asked="@" * len(forged), label="z" * 50)))
    payload = bearer[HEADER_BYTES:].replace(b"@" * len(forged), forged)
    framed = len(payload).to_bytes(4, "big") + crc32(payload).to_bytes(4, "big") + payload
    for behind in (b"".join(WRITTEN), b""):
        data = bytearray(WRITTEN[0] + framed + behind)
        data[len(WRITTEN[0]) + at] ^= 0x55
        found = [frame for frame in _read(bytes(data))[0] if isinstance(frame, Finish)]
        assert all(one.record.owner_id == "acc_1" for one in found)
        assert len(found) == bool(behind)


def test_a_damaged_segment_is_kept_and_told_to_those_whom_it_concerns(tmp_path: Path):
    folder = tmp_path / "inst_1"
    folder.mkdir()
    (folder / "lock").touch()
    end = bytearray(WRITTEN[4])
    end[-3] ^= 1
    (folder / "00000001.log").write_bytes(b"".join(WRITTEN[:4]) + bytes(end))
    (folder / "00000002.log").write_bytes(WRITTEN[4][:30])
    salvage = salvage_folder(folder)
    assert [one.outcome for one in salvage.recovery.records()] == ["interrupted"]
    operators, owners = damage_occasions("inst_1", salvage, salvage.harmed())
    detail = {"file": "inst_1/00000001.log", "offset": STARTS[4], "bytes": len(end)}
    assert (operators.owner_id, operators.detail) == ("", detail)
    assert (owners.owner_id, owners.detail) == ("acc_1", {"calls": 1})
    forget(sorted(folder.glob("*.log")), salvage.damaged)
    release_folder(folder, None)
    [kept] = set_aside(tmp_path)
    assert damage_of(kept) == [Gap(STARTS[4], len(end), DAMAGED)]
    assert [path.name for path in folder.iterdir()] == ["00000001.damaged"]
    kept.unlink()
    release_folder(folder, None)
    assert not folder.exists()


def test_a_frame_of_a_later_version_is_passed_over_and_is_no_damage():
    later = msgspec.msgpack.encode(["z", 1])
    framed = len(later).to_bytes(4, "big") + crc32(later).to_bytes(4, "big") + later
    assert _read(WRITTEN[0] + framed + WRITTEN[1]) == (SHORT[:2], [])
