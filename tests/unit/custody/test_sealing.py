"""Slots, vaults and sealed keys: known answers, transplants, forgeries, every flipped byte."""

import hashlib
import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from xairouter.clock import now_ms
from xairouter.custody import derive, formats, slots, vault
from xairouter.custody.intake import read_body
from xairouter.custody.vault import OpenVault
from xairouter.custody.witness import Witness
from xairouter.domain.accounts import ProviderKey
from xairouter.domain.slots import Slot
from xairouter.errors import CustodyError, ManageError
from xairouter.upstream.interface import WireRequest

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())
SECRET = "sk-provider-secret-0123456789"


def _raw(name: str) -> bytes:
    return bytes.fromhex(VECTORS[name])


def _vault() -> OpenVault:
    return OpenVault(VECTORS["owner"], VECTORS["epoch"], _raw("vault_key"), _raw("root"))


def _row(sealed: bytes, **changes) -> ProviderKey:
    row = ProviderKey(
        id="pk_1",
        owner_id=VECTORS["owner"],
        name="x",
        provider="custom",
        endpoints={"openai_chat": "https://api.example/v1"},
        auth={"openai_chat": "bearer"},
        level=1,
        weight=1,
        models=None,
        discovered=None,
        status="active",
        revision=2,
        sealed=sealed,
        last4=None,
        fingerprint="",
        health="ok",
        health_why=None,
        created_at_ms=now_ms(),
    )
    return replace(row, **changes)


def _issued(owner: str = "acc_owner") -> tuple[OpenVault, Slot, str]:
    opened = vault.new_vault(owner)
    secret = formats.new_api_key()
    place = slots.Place("slot_1", "api_key", "acc_1", "key_1")
    return opened, slots.issue(opened, place, secret.encode(), formats.look_up_id(secret)), secret


def test_known_answers_of_the_derivation():
    prk = derive.slot_prk(VECTORS["secret"].encode())
    assert prk == _raw("slot_prk")
    assert derive.expand(prk, "xwing", "acc_owner", "slot_1") == _raw("xwing_seed")
    assert derive.expand(prk, "anchor", "acc_owner", "slot_1") == _raw("anchor_key")
    assert derive.packed("ab", b"\x00", 7) == bytes.fromhex("00026162000100000137")
    _, public = derive.xwing_keys(_raw("xwing_seed"))
    assert len(public) == derive.PUBLIC_KEY_BYTES == 1216
    assert hashlib.blake2b(public, digest_size=16).hexdigest() == VECTORS["public_key_blake2b"]


def test_known_answers_of_slots_and_sealed_keys_still_open():
    _, public = derive.xwing_keys(_raw("xwing_seed"))
    slot = Slot(
        "slot_1",
        VECTORS["owner"],
        "api_key",
        "acc_1",
        "key_1",
        _raw("look_up_id"),
        public,
        _raw("anchor"),
        _raw("id_tag"),
        3,
        _raw("ciphertext"),
        _raw("seal_tag"),
    )
    opened = slots.open_slot(slot, VECTORS["secret"].encode())
    assert vault.keys_of(opened) == (_raw("vault_key"), _raw("root"))
    assert vault.unseal(opened, _row(_raw("sealed_provider_key"))) == SECRET.encode()
    assert vault.fingerprint(opened, SECRET.encode()) == VECTORS["fingerprint"]


def test_the_x_wing_construction_is_the_draft_s():
    """draft-connolly-cfrg-xwing-kem, appendix C, first vector: seed and the public key's ends."""
    seed = bytes.fromhex("7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26")
    _, public = derive.xwing_keys(seed)
    assert public.hex().startswith(
        "e2236b35a8c24b39b10aa1323a96a919a2ced88400633a7b07131713fc14b2b5"
    )
    assert public.hex().endswith("ef6534")


def test_a_slot_opens_with_its_secret_and_with_no_other():
    opened, slot, secret = _issued()
    again = slots.open_slot(slot, secret.encode())
    assert vault.keys_of(again) == vault.keys_of(opened)
    with pytest.raises(CustodyError):
        slots.open_slot(slot, formats.new_api_key().encode())


FIELDS = (
    "id",
    "owner_id",
    "purpose",
    "account_id",
    "key_id",
    "look_up_id",
    "public_key",
    "anchor",
    "id_tag",
    "ciphertext",
    "seal_tag",
    "epoch",
    "version",
)


@pytest.mark.parametrize("name", FIELDS)
def test_any_changed_field_of_a_slot_keeps_it_shut(name: str):
    _, slot, secret = _issued()
    value = getattr(slot, name)
    changed = (
        value + 1
        if isinstance(value, int)
        else (value + "x" if isinstance(value, str) else bytes([value[0] ^ 1]) + value[1:])
    )
    with pytest.raises(CustodyError) as caught:
        slots.open_slot(replace(slot, **{name: changed}), secret.encode())
    assert caught.value.__context__ is None


def test_every_flipped_byte_of_a_slot_keeps_it_shut():
    _, slot, secret = _issued()
    for name in ("anchor", "id_tag", "seal_tag", "ciphertext"):
        value = getattr(slot, name)
        for at in range(0, len(value), 1 if len(value) < 100 else 37):
            flipped = value[:at] + bytes([value[at] ^ 0x80]) + value[at + 1 :]
            with pytest.raises(CustodyError):
                slots.open_slot(replace(slot, **{name: flipped}), secret.encode())


def test_a_slot_of_another_owner_or_purpose_does_not_open_here():
    _, slot, secret = _issued("acc_a")
    for change in ({"owner_id": "acc_b"}, {"purpose": "recovery"}, {"id": "slot_2"}):
        with pytest.raises(CustodyError):
            slots.open_slot(replace(slot, **change), secret.encode())


def test_nothing_is_sealed_to_a_planted_or_swapped_public_key():
    opened, slot, _ = _issued()
    attacker = formats.new_api_key().encode()
    seed = derive.expand(derive.slot_prk(attacker), "xwing", slot.owner_id, slot.id)
    _, planted = derive.xwing_keys(seed)
    for forged in (
        replace(slot, public_key=planted),
        replace(slot, account_id="acc_evil"),
        replace(slot, id_tag=b"\x00" * 32),
    ):
        assert not slots.is_ours(opened, forged)
        with pytest.raises(CustodyError):
            slots.seal_to(opened, forged)
    sealed, foreign = slots.reseal_all(
        opened,
        vault.next_epoch(opened),
        [slot, replace(slot, id="slot_2", public_key=planted)],
    )
    assert [s.id for s in sealed] == ["slot_1"]
    assert [s.id for s in foreign] == ["slot_2"]


def test_a_vault_key_replaced_by_an_attacker_is_not_accepted():
    """Base mode authenticates no sender: the tag under R does."""
    _, slot, secret = _issued()
    info = slots._hpke_info(slot, slot.epoch)
    forged = derive.SUITE.encrypt(b"E" * 32, derive.xwing_public(slot.public_key), info=info)
    with pytest.raises(CustodyError):
        slots.open_slot(replace(slot, ciphertext=forged), secret.encode())


def test_an_erased_slot_opens_nothing_and_resumes_only_from_an_open_vault():
    opened, slot, secret = _issued()
    shut = slots.erased(opened, slot)
    with pytest.raises(CustodyError):
        slots.open_slot(shut, secret.encode())
    assert vault.keys_of(slots.open_slot(slots.seal_to(opened, shut), secret.encode()))


def test_a_slot_of_an_earlier_epoch_is_never_sealed_to_again():
    opened, slot, _ = _issued()
    later = vault.next_epoch(opened)
    old = (slot, slots.erased(opened, slot))
    assert all(slots.is_current(opened, one) for one in old)
    kept = [slots.seal_to(later, slot), slots.erased(later, slot)]
    forged = [
        *old,
        *(replace(one, epoch=later.epoch) for one in old),
        replace(slot, epoch=later.epoch, ciphertext=None),
        replace(kept[0], ciphertext=None),
        replace(kept[0], ciphertext=b""),
        replace(kept[1], ciphertext=slot.ciphertext),
        replace(kept[1], seal_tag=None),
    ]
    assert not any(slots.is_current(later, one) for one in forged)
    sealed, foreign = slots.reseal_all(later, vault.next_epoch(later), [*forged, *kept])
    assert (len(sealed), foreign) == (2, forged)


def test_a_sealed_key_opens_in_its_place():
    opened = vault.new_vault("acc_owner")
    sealed = vault.seal(
        opened,
        SECRET.encode(),
        key_id="pk_1",
        revision=2,
        auth={"openai_chat": "bearer"},
        endpoints={"openai_chat": "https://api.example/v1"},
    )
    assert vault.unseal(opened, _row(sealed)) == SECRET.encode()
    assert SECRET.encode() not in sealed


MOVES = {
    "owner": {"owner_id": "acc_other"},
    "id": {"id": "pk_2"},
    "revision": {"revision": 3},
    "auth": {"auth": {"openai_chat": "x-api-key"}},
    "base URL": {"endpoints": {"openai_chat": "https://evil.example/v1"}},
    "further dialect": {
        "endpoints": {
            "openai_chat": "https://api.example/v1",
            "openai_embeddings": "https://evil.example",
        }
    },
}


@pytest.mark.parametrize("name", MOVES)
def test_a_sealed_key_moved_or_redirected_does_not_open(name: str):
    opened = _vault()
    with pytest.raises(CustodyError) as caught:
        vault.unseal(opened, _row(_raw("sealed_provider_key"), **MOVES[name]))
    assert caught.value.__context__ is None


def test_every_flipped_byte_of_a_sealed_key_keeps_it_shut():
    opened, sealed = _vault(), _raw("sealed_provider_key")
    for at in range(len(sealed)):
        flipped = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        with pytest.raises(CustodyError):
            vault.unseal(opened, _row(flipped))
    for cut in (b"", sealed[:16], sealed[:17], sealed[:-1]):
        with pytest.raises(CustodyError):
            vault.unseal(opened, _row(cut))


def test_another_epoch_s_key_does_not_open():
    opened = _vault()
    with pytest.raises(CustodyError):
        vault.unseal(vault.next_epoch(opened), _row(_raw("sealed_provider_key")))


def test_an_older_epoch_or_another_root_is_refused_across_restarts(tmp_path: Path):
    file = tmp_path / "witness"
    first = vault.new_vault("acc_a")
    second = vault.next_epoch(first)
    witness = Witness(file)
    witness.check(first)
    witness.check(second)
    forged = vault.new_vault("acc_a", epoch=9)
    for again in (witness, Witness(file)):
        again.check(second)
        for refused in (first, forged):
            with pytest.raises(CustodyError):
                again.check(refused)
    Witness(file).check(vault.new_vault("acc_b"))


def test_a_take_over_noted_by_one_process_is_known_to_another(tmp_path: Path):
    file = tmp_path / "witness"
    old, new = vault.new_vault("acc_a"), vault.new_vault("acc_a", epoch=2)
    here, there = Witness(file), Witness(file)
    here.check(old)
    there.check(old)
    here.note(new)
    there.check(new)
    with pytest.raises(CustodyError):
        there.check(old)


def test_an_altered_line_of_the_witness_is_told_and_notes_nothing(tmp_path: Path):
    """Whichever bit of the file the disk has turned over."""
    file = tmp_path / "witness"
    witness = Witness(file)
    vaults = [vault.new_vault(f"acc_{name}") for name in "abc"]
    for one in vaults:
        witness.check(one)
    whole = file.read_bytes()
    lines = whole.splitlines(keepends=True)
    for at in range(len(whole)):
        altered = bytearray(whole)
        altered[at] ^= 1 << at % 8
        file.write_bytes(altered)
        found = Witness(file)
        # A line's end belongs to the next line, too; the last one's leaves a line without an end.
        hit = 2 if whole[at] == 10 and at + 1 < len(whole) else 1
        assert found.owners == len(lines) - hit, at
        assert bool(found.damaged) or at + 1 == len(whole), at
        if at % 40 == 0:
            for one in vaults:
                found.check(one)


def test_a_note_behind_a_line_that_was_cut_off_is_read(tmp_path: Path):
    file = tmp_path / "witness"
    first, second, third = (vault.new_vault(f"acc_{name}") for name in "abc")
    Witness(file).check(first)
    for cut in range(1, 20, 6):
        with file.open("ab") as end:
            end.write(b"acc_z 1 v3 0123456789"[:cut])
        Witness(file).check(second)
        Witness(file).check(third)
        assert Witness(file).owners == 3, cut


def test_what_cannot_be_noted_now_holds_and_is_written_later(tmp_path: Path):
    file = tmp_path / "later" / "witness"
    first, second = vault.new_vault("acc_a"), vault.new_vault("acc_a", epoch=2)
    witness = Witness(file)
    witness.check(first)
    witness.note(second)
    with pytest.raises(CustodyError):
        witness.check(first)
    assert witness.write() == "No such file or directory"
    file.parent.mkdir()
    assert witness.write() == ""
    assert witness.write() == ""
    again = Witness(file)
    again.check(second)
    with pytest.raises(CustodyError):
        again.check(first)
    assert len(file.read_bytes().splitlines()) == 2


def test_a_witness_of_before_there_were_checksums_holds(tmp_path: Path):
    file = tmp_path / "witness"
    first = vault.new_vault("acc_a", epoch=2)
    Witness(file).check(first)
    words = file.read_text().split()
    file.write_text(f"{words[0]} {words[1]} v2 {words[3]}\n")
    again = Witness(file)
    again.check(first)
    assert not again.damaged
    for other in (vault.new_vault("acc_a", epoch=2), vault.new_vault("acc_a")):
        with pytest.raises(CustodyError):
            again.check(other)
    assert file.read_text().count("\n") == 1


def test_secret_carriers_show_nothing_of_themselves():
    carriers = [
        vault.new_vault("acc_x"),
        read_body(b'{"secret":"sk-x"}'),
        WireRequest("GET", "https://x", (("authorization", "Bearer sk-x"),), b""),
    ]
    for carrier in carriers:
        for show in (repr, str, hash, pickle.dumps, lambda c: c == c, lambda c: f"{c}"):
            with pytest.raises(TypeError):
                show(carrier)


def test_a_body_s_parser_error_never_carries_its_input():
    with pytest.raises(ManageError) as caught:
        read_body(b'{"secret":"sk-very-secret')
    assert "sk-very" not in str(caught.value)
    assert caught.value.__context__ is None
    with pytest.raises(ManageError) as caught:
        read_body(b'{"secret":"sk very secret"}')
    assert "sk very" not in str(caught.value) + str(caught.value.fields)


def test_last4_says_nothing_of_short_secrets():
    assert vault.last4("a" * 19) is None
    assert vault.last4("a" * 16 + "wxyz") == "wxyz"


def test_the_fingerprint_differs_between_owners():
    one, two = vault.new_vault("acc_a"), vault.new_vault("acc_b")
    assert vault.fingerprint(one, b"x") != vault.fingerprint(two, b"x")
    assert len(bytes.fromhex(vault.fingerprint(one, b"x"))) == 10
