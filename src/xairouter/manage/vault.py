"""The owner's vault: what is in it, re-key, take-over, a new recovery code, grants, slots."""

import asyncio
from dataclasses import replace
from typing import Any

from xairouter.clock import fresh_id, now_ms
from xairouter.custody.formats import look_up_id
from xairouter.custody.intake import Sealed, reseal
from xairouter.custody.slots import Place, is_ours, issue, reseal_all
from xairouter.custody.vault import OpenVault, new_vault, next_epoch
from xairouter.custody.witness import succession
from xairouter.domain.accounts import DELETED, MANAGE, ProviderKey
from xairouter.domain.slots import AUTOMATION, RECOVERY, Slot
from xairouter.errors import CustodyError, ManageError
from xairouter.manage.desk import Actor, Change, Desk, StaleVaultError, change, require
from xairouter.manage.owners import OWNER_KEY_NAME, Secrets, add_key, add_recovery_code
from xairouter.manage.views import instant
from xairouter.storage import keys, owners, provider_keys, successions

OLD_CODE_MS = 7 * 86_400_000


async def show_vault(desk: Desk, actor: Actor) -> dict[str, Any]:
    """Epoch, whether the operator saw the first secrets, and every slot."""
    require(actor, "vault.read")
    async with desk.database.read() as connection:
        owner = await owners.get_owner(connection, actor.owner_id)
        slots = await keys.list_slots(connection, actor.owner_id)
    assert owner is not None
    return {
        "epoch": owner.vault_epoch,
        "seen_by_operator": owner.seen_by_operator,
        "slots": [slot_view(slot, genuine=is_ours(actor.vault, slot)) for slot in slots],
    }


def slot_view(slot: Slot, *, genuine: bool) -> dict[str, Any]:
    return {
        "id": slot.id,
        "purpose": slot.purpose,
        "account_id": slot.account_id,
        "key_id": slot.key_id if slot.purpose not in (RECOVERY, AUTOMATION) else None,
        "sealed": slot.ciphertext is not None,
        "genuine": genuine,
        "expires_at": instant(slot.expires_at_ms),
    }


async def rekey(desk: Desk, actor: Actor) -> dict[str, Any]:
    """A new vault key: every genuine slot and every provider key is sealed anew.

    Computed off the loop and outside the transaction, committed only if the vault has not moved
    meanwhile (else StaleVaultError: open it anew and repeat). Slots that were not issued by this
    vault are left out, removed and reported.
    """
    require(actor, "vault.rekey")
    async with desk.database.read() as connection:
        owner = await owners.get_owner(connection, actor.owner_id)
        slots = await keys.list_slots(connection, actor.owner_id)
        sealed = await provider_keys.list_all(connection, actor.owner_id)
    assert owner is not None
    vault, fresh = actor.vault, next_epoch(actor.vault)
    moved, foreign = await asyncio.to_thread(reseal_all, fresh, slots)
    renewed, unopened = await asyncio.to_thread(_reseal_keys, vault, fresh, sealed)
    async with change(desk, actor, "vault.rekey", actor.owner_id) as made:
        if not await owners.advance_vault(
            made.connection,
            actor.owner_id,
            expected_revision=owner.vault_revision,
            epoch=fresh.epoch,
        ):
            raise StaleVaultError
        await _same_as_read(made, actor, slots, sealed)
        for slot in moved:
            await keys.put_slot(made.connection, slot)
        await keys.drop_slots(made.connection, actor.owner_id, [slot.id for slot in foreign])
        for key_id, blob in renewed.items():
            await provider_keys.update(made.connection, actor.owner_id, key_id, sealed=blob.sealed)
        made.detail = {"epoch": fresh.epoch, "foreign_slots": len(foreign)}
    await desk.database.forget_deleted()
    return {
        "epoch": fresh.epoch,
        "slots": len(moved),
        "provider_keys": len(renewed),
        "left_out": [slot.id for slot in foreign] + unopened,
    }


async def _same_as_read(made: Change, actor: Actor, slots: Any, sealed: Any) -> None:
    """What was sealed anew outside must be what stands in the database now."""
    now_slots = await keys.list_slots(made.connection, actor.owner_id)
    now_keys = await provider_keys.list_all(made.connection, actor.owner_id)
    if {s.id: s.seal_tag for s in now_slots} != {s.id: s.seal_tag for s in slots} or {
        k.id: k.sealed for k in now_keys
    } != {k.id: k.sealed for k in sealed}:
        raise StaleVaultError


def _reseal_keys(
    vault: OpenVault, onto: OpenVault, sealed: Any
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
    async with change(desk, actor, "vault.take_over", actor.owner_id) as made:
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
                connection, actor.owner_id, key.id, status=DELETED, deleted_at_ms=now
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
        new_key, api_key = await add_key(connection, fresh, account, OWNER_KEY_NAME, MANAGE)
        code = await add_recovery_code(connection, fresh, account)
        made.detail = {"unopened": unopened}
    desk.room.witness.note(fresh)
    await desk.database.forget_deleted()
    return Secrets(account, new_key, api_key, code)


async def new_recovery_code(desk: Desk, actor: Actor) -> str:
    """A new recovery code; the old one works seven more days, so that a stolen key cannot lock
    its owner out."""
    async with change(desk, actor, "vault.recovery_code", actor.owner_id) as made:
        account = await owners.get_account(made.connection, actor.owner_id, actor.owner_id)
        assert account is not None
        ends = now_ms() + OLD_CODE_MS
        for slot in await keys.list_slots(made.connection, actor.owner_id):
            if slot.purpose == RECOVERY and (slot.expires_at_ms or ends) >= ends:
                await keys.put_slot(made.connection, replace(slot, expires_at_ms=ends))
        return await add_recovery_code(made.connection, actor.vault, account)


async def grant(desk: Desk, actor: Actor) -> dict[str, Any]:
    """Let unattended work of this installation open the vault with the automation secret."""
    async with change(desk, actor, "vault.grant", actor.owner_id) as made:
        if not desk.automation_secret:
            raise ManageError(
                "invalid_field",
                "This installation has no automation secret.",
                {"XAIROUTER_AUTOMATION_SECRET": "is not set"},
            )
        handle = look_up_id(f"{desk.automation_secret}:{actor.owner_id}")
        if await keys.find_slot(made.connection, handle) is not None:
            raise ManageError("conflict", "The automation grant exists already.")
        place = Place(fresh_id("slot"), AUTOMATION, actor.owner_id, "automation")
        secret = desk.automation_secret.encode("utf-8")
        slot = issue(actor.vault, place, secret, handle)
        await keys.add_slot(made.connection, slot)
        made.target_id = slot.id
    return slot_view(slot, genuine=True)


async def drop_slot(desk: Desk, actor: Actor, slot_id: str) -> None:
    """Remove a slot; the one of the key in use stays."""
    async with change(desk, actor, "vault.drop_slot", slot_id) as made:
        slots = {s.id: s for s in await keys.list_slots(made.connection, actor.owner_id)}
        slot = slots.get(slot_id)
        if slot is None:
            raise ManageError("not_found", f"There is no slot “{slot_id[:64]}” here.")
        if slot.key_id == actor.caller.key.id:
            raise ManageError(
                "invalid_field",
                "The slot of the key in use cannot be removed.",
                {"id": "is in use"},
            )
        await keys.drop_slots(made.connection, actor.owner_id, [slot_id])
    await desk.database.forget_deleted()
