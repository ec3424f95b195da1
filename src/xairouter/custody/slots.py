"""Key slots: how a secret opens its owner's vault, in the way of LUKS key slots.

A slot holds a public key whose private half follows from the secret, and an HPKE ciphertext of the
vault key V (RFC 9180, X-Wing KEM, HKDF-SHA256, AES-256-GCM). HPKE does not authenticate its
sender, so slots are tagged under the vault's root R::

    anchor   = nonce (12) | AES-256-GCM(R) under the secret's `anchor` key, bound to owner and slot
    id_tag   = HMAC(R.slot-id;   format, owner, slot, purpose, account, key, look-up id, public key,
                                 anchor)
    seal_tag = HMAC(R.slot-seal; the same, epoch, HPKE ciphertext)

Opening goes anchor → R → both tags → HPKE. Sealing to an existing slot (grant, resume, re-key)
verifies ``id_tag`` first, so that a planted or swapped public key receives nothing.
"""

import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from xairouter.custody.derive import SUITE, expand, packed, slot_prk, tag, xwing_keys, xwing_public
from xairouter.custody.vault import OpenVault, keys_of, root_key
from xairouter.domain.slots import Slot, SlotPurpose
from xairouter.errors import CustodyError

FORMAT = "xairouter/slot/v1"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Place:
    """Whom a slot is for: its ids, purpose and expiry."""

    slot_id: str
    purpose: SlotPurpose
    account_id: str
    key_id: str
    expires_at_ms: int | None = None


def issue(vault: OpenVault, place: Place, secret: bytes, look_up_id: bytes) -> Slot:
    """A new slot, the one moment at which the router knows both its secret and R."""
    owner = vault.owner_id
    prk = slot_prk(secret)
    _, public = xwing_keys(expand(prk, "xwing", owner, place.slot_id))
    nonce = secrets.token_bytes(12)
    anchor_key = AESGCM(expand(prk, "anchor", owner, place.slot_id))
    bound = packed(FORMAT, owner, place.slot_id)
    anchor = nonce + anchor_key.encrypt(nonce, keys_of(vault)[1], bound)
    slot = Slot(
        id=place.slot_id,
        owner_id=owner,
        purpose=place.purpose,
        account_id=place.account_id,
        key_id=place.key_id,
        look_up_id=look_up_id,
        public_key=public,
        anchor=anchor,
        id_tag=b"",
        epoch=vault.epoch,
        ciphertext=None,
        seal_tag=None,
        version=VERSION,
        expires_at_ms=place.expires_at_ms,
    )
    slot = replace(slot, id_tag=tag(root_key(vault, "slot-id"), *_identity(slot)))
    return seal_to(vault, slot)


def is_ours(vault: OpenVault, slot: Slot) -> bool:
    """Whether the slot's identity was tagged under this vault's root."""
    if slot.owner_id != vault.owner_id or slot.version != VERSION:
        return False
    expected = tag(root_key(vault, "slot-id"), *_identity(slot))
    return hmac.compare_digest(expected, slot.id_tag)


def seal_to(vault: OpenVault, slot: Slot) -> Slot:
    """The slot with V of the vault's epoch sealed to its public key.

    Raises CustodyError if the slot is not ours: nothing is ever sealed to a key that an attacker
    may have planted.
    """
    if not is_ours(vault, slot):
        raise CustodyError("The slot was not issued by this vault; nothing is sealed to it.")
    info = _hpke_info(slot, vault.epoch)
    ciphertext = SUITE.encrypt(keys_of(vault)[0], xwing_public(slot.public_key), info=info)
    seal_tag = tag(root_key(vault, "slot-seal"), *_identity(slot), vault.epoch, ciphertext)
    return replace(slot, epoch=vault.epoch, ciphertext=ciphertext, seal_tag=seal_tag)


def erased(vault: OpenVault, slot: Slot) -> Slot:
    """The slot while its key is suspended: R alone opens nothing. Its tag says that it was erased
    in this epoch, so that a deleted slot that is written back erased is not sealed to again."""
    seal_tag = tag(root_key(vault, "slot-seal"), *_identity(slot), vault.epoch, b"")
    return replace(slot, epoch=vault.epoch, ciphertext=None, seal_tag=seal_tag)


def is_current(vault: OpenVault, slot: Slot) -> bool:
    """Whether the slot is ours and was sealed or erased in the vault's epoch: one that was deleted
    before the vault was renewed was not."""
    if slot.epoch != vault.epoch or slot.seal_tag is None or not is_ours(vault, slot):
        return False
    sealed = slot.ciphertext if slot.ciphertext is not None else b""
    expected = tag(root_key(vault, "slot-seal"), *_identity(slot), slot.epoch, sealed)
    return hmac.compare_digest(expected, slot.seal_tag)


def open_slot(slot: Slot, secret: bytes) -> OpenVault:
    """Open the owner's vault with a slot's secret; raises CustodyError, without detail."""
    vault = _try_open(slot, secret)
    if vault is None:
        raise CustodyError("The slot does not open.")
    return vault


def _try_open(slot: Slot, secret: bytes) -> OpenVault | None:
    if slot.version != VERSION or slot.ciphertext is None or slot.seal_tag is None:
        return None
    owner = slot.owner_id
    prk = slot_prk(secret)
    try:
        anchor_key = AESGCM(expand(prk, "anchor", owner, slot.id))
        bound = packed(FORMAT, owner, slot.id)
        root = anchor_key.decrypt(slot.anchor[:12], slot.anchor[12:], bound)
    except (InvalidTag, ValueError):
        return None
    probe = OpenVault(owner, slot.epoch, b"", root)
    if not is_ours(probe, slot):
        return None
    expected = tag(root_key(probe, "slot-seal"), *_identity(slot), slot.epoch, slot.ciphertext)
    if not hmac.compare_digest(expected, slot.seal_tag):
        return None
    private, public = xwing_keys(expand(prk, "xwing", owner, slot.id))
    if not hmac.compare_digest(public, slot.public_key):
        return None
    try:
        vault_key = SUITE.decrypt(slot.ciphertext, private, info=_hpke_info(slot, slot.epoch))
    except (InvalidTag, ValueError):
        return None
    return OpenVault(owner, slot.epoch, vault_key, root)


def reseal_all(
    vault: OpenVault, onto: OpenVault, slots: Iterable[Slot]
) -> tuple[list[Slot], list[Slot]]:
    """(slots sealed to the epoch of ``onto``, slots left out because they are not current).

    Suspended slots stay erased and only move to the new epoch.
    """
    sealed, foreign = [], []
    for slot in slots:
        if not is_current(vault, slot):
            foreign.append(slot)
        elif slot.ciphertext is None:
            sealed.append(erased(onto, slot))
        else:
            sealed.append(seal_to(onto, slot))
    return sealed, foreign


def _identity(slot: Slot) -> tuple[str | bytes | int, ...]:
    return (
        FORMAT,
        slot.owner_id,
        slot.id,
        slot.purpose,
        slot.account_id,
        slot.key_id,
        slot.look_up_id,
        slot.public_key,
        slot.anchor,
    )


def _hpke_info(slot: Slot, epoch: int) -> bytes:
    return packed(FORMAT, slot.owner_id, slot.id, slot.purpose, epoch)
