"""Console sessions: a short-lived vault slot of their own, opened by an XAI API key.

A session ends 30 minutes after its last use (the owner's ``session_minutes``), at most 12 hours
after it began, and with the key that opened it. Its token is 256 random bits in a cookie.
"""

from dataclasses import replace

from xairouter.clock import fresh_id, made_at_ms, now_ms
from xairouter.custody.formats import look_up_id, new_link_token
from xairouter.custody.slots import Place, issue
from xairouter.domain.slots import SESSION
from xairouter.manage.desk import Actor, Desk, change
from xairouter.storage import changes, keys

ABSOLUTE_MS = 12 * 3_600_000
_RENEW_MS = 60_000


async def open_session(desk: Desk, actor: Actor) -> str:
    """A new session for the actor; returns its token."""
    token = new_link_token()
    view = await desk.directory.owner(actor.owner_id)
    ends = now_ms() + view.settings.session_minutes * 60_000
    async with change(desk, actor, "session.open") as made:
        caller = actor.caller
        place = Place(fresh_id("slot"), SESSION, caller.account.id, caller.key.id, ends)
        slot = issue(actor.vault, place, token.encode("ascii"), look_up_id(token))
        await keys.add_slot(made.connection, slot)
        made.target_id = slot.id
    return token


async def keep_alive(desk: Desk, token: str) -> None:
    """Move the session's idle end; written at most once a minute."""
    known = await desk.directory.resolve(look_up_id(token))
    if known is None or known.slot.purpose != SESSION:
        return
    slot = known.slot
    view = await desk.directory.owner(slot.owner_id)
    ends = now_ms() + view.settings.session_minutes * 60_000
    ends = min(ends, made_at_ms(slot.id) + ABSOLUTE_MS)
    if slot.expires_at_ms is not None and ends - slot.expires_at_ms < _RENEW_MS:
        return
    async with desk.database.write() as connection:
        await keys.put_slot(connection, replace(slot, expires_at_ms=ends))
        await changes.announce(connection, slot.owner_id, "session.kept", slot.id)
    await desk.directory.changed(slot.owner_id)


async def close_session(desk: Desk, actor: Actor, token: str, *, everywhere: bool) -> None:
    """End a session, or every session of the key that opened it."""
    async with change(desk, actor, "session.close") as made:
        slots = [
            slot
            for slot in await keys.list_slots(made.connection, actor.owner_id)
            if slot.purpose == SESSION
            and (
                slot.look_up_id == look_up_id(token)
                or (everywhere and slot.key_id == actor.caller.key.id)
            )
        ]
        await keys.drop_slots(made.connection, actor.owner_id, [slot.id for slot in slots])
        made.detail = {"sessions": len(slots)}
