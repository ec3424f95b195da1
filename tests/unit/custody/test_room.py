"""How long an opened vault is remembered, and by whom."""

from typing import Any, cast

import pytest

from xairouter.custody import formats, slots, vault
from xairouter.custody.room import ABSOLUTE_SECONDS, Strongroom
from xairouter.custody.witness import Witness
from xairouter.domain.slots import Slot
from xairouter.errors import CustodyError
from xairouter.upstream.interface import Client


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _slot(owner: str, number: int = 1) -> tuple[Slot, str]:
    secret = formats.new_api_key()
    place = slots.Place(f"slot_{number}", "api_key", owner, f"key_{number}")
    opened = vault.new_vault(owner)
    return slots.issue(opened, place, secret.encode(), formats.look_up_id(secret)), secret


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def room(clock: _Clock) -> Strongroom:
    return Strongroom(cast(Client, None), Witness(None), clock)


def test_a_vault_is_remembered_while_it_is_used(room: Strongroom, clock: _Clock):
    slot, secret = _slot("acc_a")
    first = room.enter(slot, secret, idle_seconds=10)
    for _ in range(5):
        clock.now += 9
        assert room.enter(slot, secret, idle_seconds=10) is first
    clock.now += 10
    assert room.enter(slot, secret, idle_seconds=10) is not first


def test_use_does_not_stretch_the_absolute_life(room: Strongroom, clock: _Clock):
    slot, secret = _slot("acc_a")
    first = room.enter(slot, secret, idle_seconds=10**6)
    clock.now += ABSOLUTE_SECONDS
    assert room.enter(slot, secret, idle_seconds=10**6) is not first


def test_no_idle_time_remembers_nothing(room: Strongroom):
    slot, secret = _slot("acc_a")
    assert room.enter(slot, secret, idle_seconds=0) is not room.enter(slot, secret, idle_seconds=0)


def test_a_slot_sealed_anew_is_opened_anew(room: Strongroom):
    opened = vault.new_vault("acc_a")
    secret = formats.new_api_key()
    place = slots.Place("slot_1", "api_key", "acc_a", "key_1")
    slot = slots.issue(opened, place, secret.encode(), formats.look_up_id(secret))
    first = room.enter(slot, secret, idle_seconds=10)
    moved = slots.seal_to(vault.next_epoch(opened), slot)
    second = room.enter(moved, secret, idle_seconds=10)
    assert (first.epoch, second.epoch) == (1, 2)


def test_an_erased_slot_ends_what_was_remembered(room: Strongroom):
    slot, secret = _slot("acc_a")
    room.enter(slot, secret, idle_seconds=10)
    shut = slots.erased(slots.open_slot(slot, secret.encode()), slot)
    with pytest.raises(CustodyError):
        room.enter(shut, secret, idle_seconds=10)


def test_forgetting_an_owner_leaves_the_others(room: Strongroom):
    (a, secret_a), (b, secret_b) = _slot("acc_a"), _slot("acc_b")
    room.enter(a, secret_a, idle_seconds=10)
    kept = room.enter(b, secret_b, idle_seconds=10)
    room.forget_owner("acc_a")
    assert list(room._open) == [b.look_up_id]
    assert room.enter(b, secret_b, idle_seconds=10) is kept


def test_the_sweep_closes_what_is_idle(room: Strongroom, clock: _Clock):
    (a, secret_a), (b, secret_b) = _slot("acc_a"), _slot("acc_b")
    room.enter(a, secret_a, idle_seconds=10)
    room.enter(b, secret_b, idle_seconds=100)
    clock.now += 50
    room.sweep()
    assert list(room._open) == [b.look_up_id]


def test_memory_is_bounded(room: Strongroom, monkeypatch: Any):
    monkeypatch.setattr(Strongroom, "MAX_OPEN", 3)
    for number in range(6):
        slot, secret = _slot(f"acc_{number}", number)
        room.enter(slot, secret, idle_seconds=10)
    assert len(room._open) == 3
