"""Panic: everything that works in an account's subtree stops at once, but for the key in use.

XAI API keys are suspended, and undo brings back those that the same account's panic suspended, and
no others. Console sessions and invitations end for good: whoever needs them signs in, or is
invited, again. The recovery code and the automation grant are the owner's way back and stay.
"""

from xairouter.domain.accounts import KeyStatus
from xairouter.domain.permissions import Permission
from xairouter.domain.slots import SlotPurpose
from xairouter.manage.aligning import align_slots
from xairouter.manage.desk import Actor, Change, Desk, change
from xairouter.manage.sessions import end_sessions
from xairouter.storage import keys, owners


async def panic(desk: Desk, actor: Actor, *, session: bytes | None = None) -> int:
    """Suspend every XAI API key within reach except the one used, and end every session and
    invitation there except the session used, by its look-up id. Returns how many keys changed.
    """
    top = actor.caller.account.id
    async with change(desk, actor, Permission.PANIC, top) as made:
        reach = await _reach(made, actor)
        slots = [
            slot
            for slot in await keys.list_slots(made.connection, actor.owner_id)
            if slot.account_id in reach
            and slot.purpose in (SlotPurpose.SESSION, SlotPurpose.INVITATION)
            and slot.look_up_id != session
        ]
        await end_sessions(made.connection, actor.owner_id, slots)
        invitations = [slot.id for slot in slots if slot.purpose == SlotPurpose.INVITATION]
        await keys.drop_slots(made.connection, actor.owner_id, invitations)
        count = 0
        for key in await keys.list_keys(made.connection, actor.owner_id):
            if (
                key.account_id in reach
                and key.id != actor.caller.key.id
                and key.status == KeyStatus.ACTIVE
            ):
                await keys.update_key(
                    made.connection,
                    actor.owner_id,
                    key.id,
                    status=KeyStatus.SUSPENDED,
                    panic_of=top,
                )
                count += 1
        await align_slots(made.connection, actor.vault, actor.owner_id, top)
        made.detail = {
            "undo": False,
            "keys": count,
            "sessions": len(slots) - len(invitations),
            "invitations": len(invitations),
        }
    await desk.database.forget_deleted()
    return count


async def undo(desk: Desk, actor: Actor) -> int:
    """Bring back the keys that this account's panic suspended; returns how many."""
    top = actor.caller.account.id
    async with change(desk, actor, Permission.PANIC, top) as made:
        reach = await _reach(made, actor)
        count = 0
        for key in await keys.list_keys(made.connection, actor.owner_id):
            if (
                key.account_id in reach
                and key.status == KeyStatus.SUSPENDED
                and key.panic_of == top
            ):
                await keys.update_key(
                    made.connection, actor.owner_id, key.id, status=KeyStatus.ACTIVE, panic_of=None
                )
                count += 1
        await align_slots(made.connection, actor.vault, actor.owner_id, top)
        made.detail = {"undo": True, "keys": count}
    return count


async def _reach(made: Change, actor: Actor) -> set[str]:
    top = actor.caller.account.id
    return set(await owners.subtree_of(made.connection, actor.owner_id, top, deleted=False))
