"""XAI API keys: issue, list, rotate with overlap, change, delete."""

from dataclasses import replace
from typing import TypedDict

from xairouter.clock import now_ms
from xairouter.domain.accounts import ApiKey, KeyScope, KeyStatus
from xairouter.domain.permissions import Permission
from xairouter.domain.slots import SlotPurpose
from xairouter.errors import ErrorCode, ManageError
from xairouter.manage.aligning import align_slots
from xairouter.manage.desk import Actor, Change, Desk, change, changed_fields, require, within_reach
from xairouter.manage.owners import NewKey, Secrets, add_key, checked_name
from xairouter.manage.sessions import end_sessions_of_keys
from xairouter.manage.vault import renew_vault, renews_vault
from xairouter.storage import keys

MOST_OVERLAP_SECONDS = 90 * 86_400


async def create_key(
    desk: Desk, actor: Actor, account_id: str, name: str, scope: KeyScope, expires_at_ms: int | None
) -> Secrets:
    """A further key for an account."""
    _check_expiry(expires_at_ms)
    async with change(desk, actor, Permission.KEYS_CREATE, account_id) as made:
        chain = await within_reach(made.connection, actor, Permission.KEYS_CREATE, account_id)
        if scope == KeyScope.MANAGE and actor.caller.key.scope == KeyScope.CALL:
            raise ManageError(ErrorCode.FORBIDDEN, "A key of scope “call” issues no keys.")
        key, api_key = await add_key(
            made.connection,
            actor.vault,
            chain[-1],
            NewKey(checked_name(name), scope, expires_at_ms),
        )
        made.target_id = key.id
    return Secrets(chain[-1], key, api_key)


async def list_keys(desk: Desk, actor: Actor, account_id: str) -> list[ApiKey]:
    require(actor, Permission.KEYS_READ)
    async with desk.database.read() as connection:
        await within_reach(connection, actor, Permission.KEYS_READ, account_id)
        return list(await keys.list_keys(connection, actor.owner_id, account_id))


async def rotate_key(
    desk: Desk, actor: Actor, account_id: str, key_id: str, overlap_seconds: int
) -> Secrets:
    """A new key in the old one's place; the old one works ``overlap_seconds`` longer."""
    if not 0 <= overlap_seconds <= MOST_OVERLAP_SECONDS:
        raise ManageError(
            ErrorCode.INVALID_FIELD,
            "An overlap lasts at most 90 days.",
            {"overlap_seconds": "0 to 7776000"},
        )
    async with change(desk, actor, Permission.KEYS_ROTATE, key_id) as made:
        chain = await within_reach(made.connection, actor, Permission.KEYS_ROTATE, account_id)
        old = await _key_of(made, actor, account_id, key_id)
        if old.replaced_by is not None:
            raise ManageError(ErrorCode.CONFLICT, "This key was rotated already.")
        new, api_key = await add_key(
            made.connection,
            actor.vault,
            chain[-1],
            # What was issued for a session ends with it, however often it is rotated.
            NewKey(old.name, old.scope, old.expires_at_ms, old.session_id),
        )
        ends = now_ms() + overlap_seconds * 1000
        if old.expires_at_ms is not None:
            ends = min(ends, old.expires_at_ms)
        await keys.update_key(
            made.connection, actor.owner_id, old.id, expires_at_ms=ends, replaced_by=new.id
        )
        await _move_expiry(made, actor, old.id, ends)
        made.detail = {"replaced_by": new.id, "overlap_seconds": overlap_seconds}
    return Secrets(chain[-1], new, api_key)


class KeyChange(TypedDict, total=False):
    """What is to change about a key; no end (None) is for ever."""

    name: str
    status: KeyStatus
    expires_at_ms: int | None


async def change_key(
    desk: Desk, actor: Actor, account_id: str, key_id: str, values: KeyChange
) -> ApiKey:
    """Change a key's name, expiry or status."""
    async with change(desk, actor, Permission.KEYS_CHANGE, key_id) as made:
        await within_reach(made.connection, actor, Permission.KEYS_CHANGE, account_id)
        key = await _key_of(made, actor, account_id, key_id)
        if "name" in values:
            values["name"] = checked_name(values["name"])
        if values.get("status") is not None and key.id == actor.caller.key.id:
            raise ManageError(
                ErrorCode.INVALID_FIELD,
                "A key cannot suspend itself.",
                {"status": "not on the key in use"},
            )
        if "expires_at_ms" in values:
            _check_expiry(values["expires_at_ms"])
            if key.session_id is not None:
                values["expires_at_ms"] = _sooner(key.expires_at_ms, values["expires_at_ms"])
            await _move_expiry(made, actor, key.id, values["expires_at_ms"])
        if values:
            await keys.update_key(made.connection, actor.owner_id, key.id, **values)
        if "status" in values:
            await keys.update_key(made.connection, actor.owner_id, key.id, panic_of=None)
        if values.get("status") == KeyStatus.SUSPENDED:
            await end_sessions_of_keys(made.connection, actor.owner_id, [key.id])
        if "status" in values:
            await align_slots(made.connection, actor.vault, actor.owner_id, account_id)
        made.detail = changed_fields(key, values)
    return replace(key, **values)


@renews_vault
async def delete_key(desk: Desk, actor: Actor, account_id: str, key_id: str) -> None:
    """Delete a key: its slot goes entirely, its name stays for the records."""
    async with change(desk, actor, Permission.KEYS_DELETE, key_id) as made:
        await within_reach(made.connection, actor, Permission.KEYS_DELETE, account_id)
        key = await _key_of(made, actor, account_id, key_id)
        await end_sessions_of_keys(made.connection, actor.owner_id, [key.id])
        await keys.bury_keys(made.connection, actor.owner_id, [key.id], now_ms())
        renewed = await renew_vault(made, actor)
    if renewed is not None:
        desk.room.witness.note(renewed)
    await desk.database.forget_deleted()


async def _key_of(made: Change, actor: Actor, account_id: str, key_id: str) -> ApiKey:
    key = await keys.get_key(made.connection, actor.owner_id, key_id)
    if key is None or key.account_id != account_id:
        raise ManageError(ErrorCode.NOT_FOUND, f"There is no key “{key_id[:64]}” here.")
    return key


async def _move_expiry(made: Change, actor: Actor, key_id: str, at_ms: int | None) -> None:
    """The key's own slot ends with it; what else it opened, its sessions, only ever ends sooner."""
    for slot in await keys.list_slots(made.connection, actor.owner_id):
        if slot.key_id == key_id:
            ends = (
                at_ms if slot.purpose == SlotPurpose.API_KEY else _sooner(slot.expires_at_ms, at_ms)
            )
            await keys.put_slot(made.connection, replace(slot, expires_at_ms=ends))


def _sooner(one: int | None, other: int | None) -> int | None:
    """The earlier of two ends; None is no end."""
    return min((at for at in (one, other) if at is not None), default=None)


def _check_expiry(at_ms: int | None) -> None:
    if at_ms is not None and at_ms <= now_ms():
        raise ManageError(
            ErrorCode.INVALID_FIELD,
            "A key's expiry lies in the future.",
            {"expires_at": "must be in the future"},
        )
