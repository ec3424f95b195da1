"""Console sessions: a short-lived vault slot of their own, opened by an XAI API key.

A session ends 30 minutes after its last use (the owner's ``session_minutes``), at most 12 hours
after it began, and with the key that opened it. Its token is 256 random bits in a cookie. What was
issued for it, the playground's key, ends with it.
"""

from collections.abc import Iterable

from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.clock import fresh_id, made_at_ms, now_ms
from xairouter.custody.formats import look_up_id, new_link_token
from xairouter.custody.slots import Place, issue
from xairouter.domain.accounts import KeyScope
from xairouter.domain.permissions import Permission, SystemChange
from xairouter.domain.slots import LIVES_MS, Slot, SlotPurpose
from xairouter.errors import ErrorCode, ManageError
from xairouter.manage.desk import Actor, Desk, change
from xairouter.manage.owners import NewKey, Secrets, add_key
from xairouter.storage import changes, keys

PLAYGROUND_MS = 3_600_000
PLAYGROUND = "playground"
MOST_PLAYGROUND_KEYS = 10
"""Living keys of one session: a page that is loaded anew asks for one anew."""
MOST_SESSIONS = 100
"""Open sessions of one key; a further one ends the oldest."""
_RENEW_MS = 60_000


async def open_session(desk: Desk, actor: Actor) -> str:
    """A new session for the actor; returns its token."""
    token = new_link_token()
    view = await desk.directory.owner(actor.owner_id)
    ends = now_ms() + view.settings.session_minutes * 60_000
    async with change(desk, actor, Permission.SESSION_OPEN) as made:
        caller = actor.caller
        place = Place(fresh_id("slot"), SlotPurpose.SESSION, caller.account.id, caller.key.id, ends)
        slot = issue(actor.vault, place, token.encode("ascii"), look_up_id(token))
        await keys.add_slot(made.connection, slot)
        is_open = await keys.sessions_of(made.connection, actor.owner_id, caller.key.id)
        await end_sessions(made.connection, actor.owner_id, is_open[:-MOST_SESSIONS])
        made.target_id = slot.id
    return token


async def keep_alive(desk: Desk, token: str) -> None:
    """Move the session's idle end; written at most once a minute."""
    known = await desk.directory.resolve(look_up_id(token))
    if known is None or known.slot.purpose != SlotPurpose.SESSION:
        return
    slot = known.slot
    view = await desk.directory.owner(slot.owner_id)
    ends = now_ms() + view.settings.session_minutes * 60_000
    ends = min(ends, made_at_ms(slot.id) + LIVES_MS[SlotPurpose.SESSION])
    if known.caller.key.expires_at_ms is not None:
        ends = min(ends, known.caller.key.expires_at_ms)
    if slot.expires_at_ms is not None and ends - slot.expires_at_ms < _RENEW_MS:
        return
    async with desk.database.write(slot.owner_id) as connection:
        await keys.move_slot_expiry(connection, slot.owner_id, slot.id, ends)
        await changes.announce(connection, slot.owner_id, SystemChange.SESSION_KEPT, slot.id)
    await desk.directory.changed(slot.owner_id)


async def close_session(desk: Desk, actor: Actor, token: str, *, everywhere: bool) -> None:
    """End a session, or every session of the key that opened it."""
    async with change(desk, actor, Permission.SESSION_CLOSE) as made:
        slots = [
            slot
            for slot in await keys.list_slots(made.connection, actor.owner_id)
            if slot.purpose == SlotPurpose.SESSION
            and (
                slot.look_up_id == look_up_id(token)
                or (everywhere and slot.key_id == actor.caller.key.id)
            )
        ]
        await end_sessions(made.connection, actor.owner_id, slots)
        made.detail = {"sessions": len(slots)}
    await desk.database.forget_deleted()


async def end_sessions(connection: AsyncConnection, owner_id: str, slots: Iterable[Slot]) -> None:
    """Remove session slots, and the keys that were issued for those sessions, in the caller's
    transaction."""
    ended = {slot.id for slot in slots if slot.purpose == SlotPurpose.SESSION}
    if not ended:
        return
    issued = [
        key.id for key in await keys.list_keys(connection, owner_id) if key.session_id in ended
    ]
    await keys.bury_keys(connection, owner_id, issued, now_ms())
    await keys.drop_slots(connection, owner_id, ended)


async def end_sessions_of_keys(
    connection: AsyncConnection, owner_id: str, key_ids: Iterable[str]
) -> None:
    """The same for every session that some keys opened."""
    opened_by = set(key_ids)
    slots = await keys.list_slots(connection, owner_id)
    await end_sessions(connection, owner_id, [slot for slot in slots if slot.key_id in opened_by])


async def open_playground(desk: Desk, actor: Actor, token: str) -> Secrets:
    """A key of scope ``call`` for the playground of this session: it lives an hour, and ends with
    the session. The page holds it in its memory only, so that no cookie ever opens the data plane.
    """
    async with change(desk, actor, Permission.PLAYGROUND_OPEN) as made:
        slots = await keys.list_slots(made.connection, actor.owner_id)
        session = next((slot for slot in slots if slot.look_up_id == look_up_id(token)), None)
        if session is None or session.purpose != SlotPurpose.SESSION:
            raise ManageError(
                ErrorCode.FORBIDDEN, "The playground opens in a console session only."
            )
        account = actor.caller.account
        living = [
            key
            for key in await keys.list_keys(made.connection, actor.owner_id, account.id)
            if key.session_id == session.id
        ]
        oldest = living[: max(0, len(living) + 1 - MOST_PLAYGROUND_KEYS)]
        await keys.bury_keys(made.connection, actor.owner_id, [old.id for old in oldest], now_ms())
        key, api_key = await add_key(
            made.connection,
            actor.vault,
            account,
            NewKey(PLAYGROUND, KeyScope.CALL, now_ms() + PLAYGROUND_MS, session.id),
        )
        made.target_id = key.id
    return Secrets(account, key, api_key)
