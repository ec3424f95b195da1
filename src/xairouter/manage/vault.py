"""The owner's vault: what is in it, re-key, take-over, a new recovery code, grants, slots."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from typing import Concatenate, ParamSpec, TypedDict, TypeVar

from xairouter.clock import fresh_id, now_ms
from xairouter.custody.formats import look_up_id
from xairouter.custody.intake import Sealed, reseal
from xairouter.custody.slots import Place, is_current, issue, reseal_all
from xairouter.custody.vault import OpenVault, new_vault, next_epoch
from xairouter.custody.witness import succession
from xairouter.domain.accounts import KeyScope, KeyStatus, ProviderKey
from xairouter.domain.permissions import Permission
from xairouter.domain.slots import Slot, SlotPurpose
from xairouter.errors import CustodyError, ErrorCode, ManageError
from xairouter.manage.desk import (
    Actor,
    Change,
    Desk,
    Resealed,
    StaleVaultError,
    change,
    require,
)
from xairouter.manage.owners import OWNER_KEY_NAME, NewKey, Secrets, add_key, add_recovery_code
from xairouter.manage.views import instant
from xairouter.storage import keys, owners, provider_keys, successions

OLD_CODE_MS = 7 * 86_400_000
MOST_RENEWED = 1_000
"""Slots and provider keys of a vault that is renewed with each deletion."""
MOST_SEALED_INSIDE = 32
"""Of them so many are sealed anew in the transaction of the deletion, which others wait for."""
P = ParamSpec("P")
R = TypeVar("R", Slot, ProviderKey)
S = TypeVar("S")
T = TypeVar("T")


class UnsealedError(StaleVaultError):
    """There is more to seal anew than a transaction may hold others up for: it is to be sealed
    before, and the change repeated."""


class SlotView(TypedDict):
    """A slot: what opens it, whether it is sealed (not suspended) and was issued by this vault."""

    id: str
    purpose: SlotPurpose
    account_id: str
    key_id: str | None
    sealed: bool
    genuine: bool
    expires_at: str | None


class VaultView(TypedDict):
    """A vault: its epoch, whether the operator saw the first secrets, and every slot."""

    epoch: int
    seen_by_operator: bool
    slots: list[SlotView]


class Renewed(TypedDict):
    """How many slots and provider keys were sealed anew, and the ids of those that were not."""

    epoch: int
    slots: int
    provider_keys: int
    left_out: list[str]


async def show_vault(desk: Desk, actor: Actor) -> VaultView:
    """Epoch, whether the operator saw the first secrets, and every slot."""
    require(actor, Permission.VAULT_READ)
    async with desk.database.read() as connection:
        owner = await owners.get_owner(connection, actor.owner_id)
        slots = await keys.list_slots(connection, actor.owner_id)
    assert owner is not None
    return {
        "epoch": owner.vault_epoch,
        "seen_by_operator": owner.seen_by_operator,
        "slots": [slot_view(slot, genuine=is_current(actor.vault, slot)) for slot in slots],
    }


def slot_view(slot: Slot, *, genuine: bool) -> SlotView:
    return {
        "id": slot.id,
        "purpose": slot.purpose,
        "account_id": slot.account_id,
        "key_id": slot.key_id
        if slot.purpose not in (SlotPurpose.RECOVERY, SlotPurpose.AUTOMATION)
        else None,
        "sealed": slot.ciphertext is not None,
        "genuine": genuine,
        "expires_at": instant(slot.expires_at_ms),
    }


async def rekey(desk: Desk, actor: Actor) -> Renewed:
    """A new vault key: every genuine slot and every provider key is sealed anew.

    Computed off the loop and outside the transaction, committed only if the vault has not moved
    meanwhile (else StaleVaultError: open it anew and repeat). Slots that were not issued by this
    vault are left out, removed and reported.
    """
    require(actor, Permission.VAULT_REKEY)
    async with desk.database.read() as connection:
        owner = await owners.get_owner(connection, actor.owner_id)
        slots = await keys.list_slots(connection, actor.owner_id)
        sealed = await provider_keys.list_all(connection, actor.owner_id)
    assert owner is not None
    vault, fresh = actor.vault, next_epoch(actor.vault)
    async with desk.renewals.place(actor.owner_id):
        moved, foreign = await asyncio.to_thread(reseal_all, vault, fresh, slots)
        renewed, unopened = await asyncio.to_thread(_reseal_keys, vault, fresh, sealed)
    async with change(desk, actor, Permission.VAULT_REKEY, actor.owner_id) as made:
        if not await owners.advance_vault(
            made.connection,
            actor.owner_id,
            expected_revision=owner.vault_revision,
            epoch=fresh.epoch,
        ):
            raise StaleVaultError
        await _same_as_read(made, actor, slots, sealed)
        await keys.put_sealed_slots(made.connection, moved)
        await keys.drop_slots(made.connection, actor.owner_id, [slot.id for slot in foreign])
        blobs = {key_id: blob.sealed for key_id, blob in renewed.items()}
        await provider_keys.put_sealed(made.connection, actor.owner_id, blobs)
        made.detail = {"epoch": fresh.epoch, "foreign_slots": len(foreign)}
    await desk.database.forget_deleted()
    return {
        "epoch": fresh.epoch,
        "slots": len(moved),
        "provider_keys": len(renewed),
        "left_out": [slot.id for slot in foreign] + unopened,
    }


async def renew_vault(made: Change, actor: Actor) -> OpenVault | None:
    """Move the vault to a new epoch in the transaction that deleted something or sealed a new secret
    in its place, so that the former rows open nothing when they are written back; the vault's witness
    must note the answer once the transaction has committed.

    None, and nothing is renewed, where there are so many slots that this would take seconds. Raises
    UnsealedError where much was not sealed anew before (``renews_vault``), or has changed since.
    """
    connection, vault = made.connection, actor.vault
    slots = await keys.list_slots(connection, actor.owner_id)
    sealed = await provider_keys.list_all(connection, actor.owner_id)
    if len(slots) + len(sealed) > MOST_RENEWED:
        return None
    owner = await owners.get_owner(connection, actor.owner_id)
    assert owner is not None
    ready = actor.resealed or Resealed(next_epoch(vault), {}, {})
    fresh = ready.fresh
    new_slots = [slot for slot in slots if not _is_as_read(slot, ready.slots)]
    new_keys = [key for key in sealed if not _is_as_read(key, ready.keys)]
    if len(new_slots) + len(new_keys) > MOST_SEALED_INSIDE:
        raise UnsealedError
    inside = _sealed_anew(vault, fresh, new_slots, new_keys)
    moved = [_pick(slot.id, inside.slots, ready.slots) for slot in slots]
    renewed = {key.id: _pick(key.id, inside.keys, ready.keys) for key in sealed}
    if not await owners.advance_vault(
        connection, actor.owner_id, expected_revision=owner.vault_revision, epoch=fresh.epoch
    ):
        raise StaleVaultError
    await keys.put_sealed_slots(connection, [slot for slot in moved if slot is not None])
    blobs = {key_id: blob.sealed for key_id, blob in renewed.items() if blob is not None}
    await provider_keys.put_sealed(connection, actor.owner_id, blobs)
    return fresh


def renews_vault(
    verb: Callable[Concatenate[Desk, Actor, P], Awaitable[T]],
) -> Callable[Concatenate[Desk, Actor, P], Awaitable[T]]:
    """A verb that calls ``renew_vault``. Where that has much to seal, the verb is done again, with
    everything sealed beforehand, one of an owner at a time. It raises StaleVaultError where much has
    changed in between."""

    @wraps(verb)
    async def done(desk: Desk, actor: Actor, /, *args: P.args, **named: P.kwargs) -> T:
        try:
            return await verb(desk, actor, *args, **named)
        except UnsealedError:
            pass
        async with desk.renewals.place(actor.owner_id):
            ready = replace(actor, resealed=await _seal_before(desk, actor))
            return await verb(desk, ready, *args, **named)

    return done


async def _seal_before(desk: Desk, actor: Actor) -> Resealed:
    async with desk.database.read() as connection:
        owner = await owners.get_owner(connection, actor.owner_id)
        slots = await keys.list_slots(connection, actor.owner_id)
        sealed = await provider_keys.list_all(connection, actor.owner_id)
    if owner is None or owner.vault_epoch != actor.vault.epoch:
        raise StaleVaultError
    fresh = next_epoch(actor.vault)
    return await asyncio.to_thread(_sealed_anew, actor.vault, fresh, slots, sealed)


def _sealed_anew(
    vault: OpenVault, fresh: OpenVault, slots: Sequence[Slot], sealed: Sequence[ProviderKey]
) -> Resealed:
    moved = {slot.id: slot for slot in reseal_all(vault, fresh, slots)[0]}
    renewed, _ = _reseal_keys(vault, fresh, sealed)
    return Resealed(
        fresh,
        {slot.id: (slot, moved.get(slot.id)) for slot in slots},
        {key.id: (key, renewed.get(key.id)) for key in sealed},
    )


def _is_as_read(row: R, read: Mapping[str, tuple[R, object]]) -> bool:
    """Whether a row still holds the sealed part that was sealed anew."""
    before = read.get(row.id)
    if before is None:
        return False
    if isinstance(row, Slot):
        return row.seal_tag == before[0].seal_tag
    return row.sealed == before[0].sealed


def _pick(row_id: str, inside: Mapping[str, tuple[R, S]], before: Mapping[str, tuple[R, S]]) -> S:
    """What a row was sealed to, in the transaction or before it."""
    return (inside.get(row_id) or before[row_id])[1]


async def _same_as_read(
    made: Change, actor: Actor, slots: Sequence[Slot], sealed: Sequence[ProviderKey]
) -> None:
    """What was sealed anew outside must be what stands in the database now."""
    now_slots = await keys.list_slots(made.connection, actor.owner_id)
    now_keys = await provider_keys.list_all(made.connection, actor.owner_id)
    if {s.id: s.seal_tag for s in now_slots} != {s.id: s.seal_tag for s in slots} or {
        k.id: k.sealed for k in now_keys
    } != {k.id: k.sealed for k in sealed}:
        raise StaleVaultError


def _reseal_keys(
    vault: OpenVault, onto: OpenVault, sealed: Sequence[ProviderKey]
) -> tuple[dict[str, Sealed], list[str]]:
    """(id → sealed anew, ids that do not open)."""
    renewed: dict[str, Sealed] = {}
    unopened = []
    for key in sealed:
        try:
            renewed[key.id] = reseal(vault, onto, key)
        except CustodyError:
            unopened.append(key.id)
    return renewed, unopened


async def take_over(desk: Desk, actor: Actor) -> Secrets:
    """A new vault, key and recovery code: whoever saw the first ones has nothing any more.

    Every XAI API key of the tree ends, because a new root cannot be given to keys whose secrets
    are not known; provider keys are sealed anew.
    """
    async with change(desk, actor, Permission.VAULT_TAKE_OVER, actor.owner_id) as made:
        connection = made.connection
        owner = await owners.get_owner(connection, actor.owner_id)
        account = await owners.get_account(connection, actor.owner_id, actor.owner_id)
        assert owner is not None
        assert account is not None
        sealed: list[ProviderKey] = list(await provider_keys.list_all(connection, actor.owner_id))
        fresh = new_vault(actor.owner_id, actor.vault.epoch + 1)
        renewed, unopened = _reseal_keys(actor.vault, fresh, sealed)
        slots = await keys.list_slots(connection, actor.owner_id)
        await keys.drop_slots(connection, actor.owner_id, [slot.id for slot in slots])
        now = now_ms()
        for key in await keys.list_keys(connection, actor.owner_id):
            await keys.update_key(
                connection, actor.owner_id, key.id, status=KeyStatus.DELETED, deleted_at_ms=now
            )
        for key_id, blob in renewed.items():
            await provider_keys.update(
                connection, actor.owner_id, key_id, sealed=blob.sealed, fingerprint=blob.fingerprint
            )
        await owners.update_owner(
            connection,
            actor.owner_id,
            vault_epoch=fresh.epoch,
            vault_revision=owner.vault_revision + 1,
            seen_by_operator=False,
        )
        await successions.add(connection, succession(actor.vault, fresh))
        new_key, api_key = await add_key(
            connection, fresh, account, NewKey(OWNER_KEY_NAME, KeyScope.MANAGE)
        )
        code = await add_recovery_code(connection, fresh, account)
        made.detail = {"unopened": unopened}
    desk.room.witness.note(fresh)
    await desk.database.forget_deleted()
    return Secrets(account, new_key, api_key, code)


async def new_recovery_code(desk: Desk, actor: Actor) -> str:
    """A new recovery code; the old one works seven more days, so that a stolen key cannot lock
    its owner out."""
    async with change(desk, actor, Permission.VAULT_RECOVERY_CODE, actor.owner_id) as made:
        account = await owners.get_account(made.connection, actor.owner_id, actor.owner_id)
        assert account is not None
        ends = now_ms() + OLD_CODE_MS
        for slot in await keys.list_slots(made.connection, actor.owner_id):
            if slot.purpose == SlotPurpose.RECOVERY and (slot.expires_at_ms or ends) >= ends:
                await keys.put_slot(made.connection, replace(slot, expires_at_ms=ends))
        return await add_recovery_code(made.connection, actor.vault, account)


async def grant(desk: Desk, actor: Actor) -> SlotView:
    """Let unattended work of this installation open the vault with the automation secret."""
    async with change(desk, actor, Permission.VAULT_GRANT, actor.owner_id) as made:
        if not desk.automation_secret:
            raise ManageError(
                ErrorCode.INVALID_FIELD,
                "This installation has no automation secret.",
                {"XAIROUTER_AUTOMATION_SECRET": "is not set"},
            )
        handle = look_up_id(f"{desk.automation_secret}:{actor.owner_id}")
        if await keys.find_slot(made.connection, handle) is not None:
            raise ManageError(ErrorCode.CONFLICT, "The automation grant exists already.")
        place = Place(fresh_id("slot"), SlotPurpose.AUTOMATION, actor.owner_id, "automation")
        secret = desk.automation_secret.encode("utf-8")
        slot = issue(actor.vault, place, secret, handle)
        await keys.add_slot(made.connection, slot)
        made.target_id = slot.id
    return slot_view(slot, genuine=True)


@renews_vault
async def drop_slot(desk: Desk, actor: Actor, slot_id: str) -> None:
    """Remove a slot; the one of the key in use stays."""
    async with change(desk, actor, Permission.VAULT_DROP_SLOT, slot_id) as made:
        slots = {s.id: s for s in await keys.list_slots(made.connection, actor.owner_id)}
        slot = slots.get(slot_id)
        if slot is None:
            raise ManageError(ErrorCode.NOT_FOUND, f"There is no slot “{slot_id[:64]}” here.")
        if slot.key_id == actor.caller.key.id:
            raise ManageError(
                ErrorCode.INVALID_FIELD,
                "The slot of the key in use cannot be removed.",
                {"id": "is in use"},
            )
        await keys.drop_slots(made.connection, actor.owner_id, [slot_id])
        renewed = await renew_vault(made, actor)
    if renewed is not None:
        desk.room.witness.note(renewed)
    await desk.database.forget_deleted()
