"""Invitations: a one-time link at which a sub-account's user, and nobody else, sees a new key.

The link's token opens a vault slot of its own purpose, which opens nothing but this: within 72
hours, once, a key is issued that nobody saw before. Looking at the page uses nothing up.
"""

from dataclasses import dataclass

from xairouter.clock import fresh_id, now_ms
from xairouter.custody.formats import look_up_id, new_link_token
from xairouter.custody.slots import Place, issue, open_slot
from xairouter.custody.vault import OpenVault
from xairouter.directory.identity import is_living
from xairouter.domain.accounts import Account, AccountStatus, KeyScope
from xairouter.domain.permissions import ActedBy, Permission, SystemChange
from xairouter.domain.slots import LIVES_MS, Slot, SlotPurpose
from xairouter.errors import CustodyError, ErrorCode, ManageError
from xairouter.manage.accounts import NewAccount, place_account, prove_place
from xairouter.manage.desk import (
    Actor,
    Change,
    Desk,
    OperationEntry,
    change,
    within_reach,
    write_operation,
)
from xairouter.manage.owners import NewKey, Secrets, add_key
from xairouter.manage.permissions import reach_of
from xairouter.storage import changes, keys, owners

_GONE = "This invitation was used already, was withdrawn, or is too old."


@dataclass(frozen=True, slots=True)
class Invitation:
    """A link that was made: its token, shown once, and until when it works."""

    account: Account
    token: str
    expires_at_ms: int


async def invite(desk: Desk, actor: Actor, account_id: str) -> Invitation:
    """A link for an account's user; the one before stops working."""
    async with change(desk, actor, Permission.KEYS_INVITE, account_id) as made:
        chain = await within_reach(made.connection, actor, Permission.KEYS_INVITE, account_id)
        slots = await keys.list_slots(made.connection, actor.owner_id)
        before = [
            s.id
            for s in slots
            if s.purpose == SlotPurpose.INVITATION and s.account_id == account_id
        ]
        await keys.drop_slots(made.connection, actor.owner_id, before)
        token, ends = await _add_slot(made, actor, account_id)
    return Invitation(chain[-1], token, ends)


async def invite_new(desk: Desk, actor: Actor, wanted: NewAccount) -> Invitation:
    """A new sub-account without any key, and the link at which its user gets the first one."""
    if reach_of(actor.caller, Permission.KEYS_INVITE) is None:
        raise ManageError(ErrorCode.FORBIDDEN, "This XAI API key may not do keys.invite.")
    await prove_place(desk, actor, wanted)
    async with change(desk, actor, Permission.ACCOUNTS_CREATE) as made:
        account = await place_account(made, actor, wanted)
        token, ends = await _add_slot(made, actor, account.id)
    return Invitation(account, token, ends)


async def _add_slot(made: Change, actor: Actor, account_id: str) -> tuple[str, int]:
    """(token, until when it works) of a fresh slot."""
    token = new_link_token()
    ends = now_ms() + LIVES_MS[SlotPurpose.INVITATION]
    place = Place(
        fresh_id("slot"), SlotPurpose.INVITATION, account_id, SlotPurpose.INVITATION, ends
    )
    slot = issue(actor.vault, place, token.encode("ascii"), look_up_id(token))
    await keys.add_slot(made.connection, slot)
    return token, ends


async def find_invitation(desk: Desk, token: str) -> Account | None:
    """Whom an invitation is for, None if it is none, used or too old. Uses nothing up."""
    async with desk.database.read() as connection:
        slot = await keys.find_slot(connection, look_up_id(token))
        if slot is None or not _is_living(slot):
            return None
        chain = await owners.chain_of(connection, slot.owner_id, slot.account_id)
    is_open = bool(chain) and all(
        account.status == AccountStatus.ACTIVE and not account.suspended_by_operator
        for account in chain
    )
    return chain[-1] if is_open else None


async def accept(desk: Desk, token: str, client_ip: str) -> Secrets:
    """Use an invitation up: a new key of the account, seen by whoever asks and by nobody before."""
    account = await find_invitation(desk, token)
    if account is None:
        raise ManageError(ErrorCode.NOT_FOUND, _GONE)
    async with desk.database.write(account.owner_id) as connection:
        slot = await keys.find_slot(connection, look_up_id(token))
        vault = _opened(slot, token) if slot is not None and _is_living(slot) else None
        if slot is None or vault is None:
            raise ManageError(ErrorCode.NOT_FOUND, _GONE)
        await keys.drop_slots(connection, slot.owner_id, [slot.id])
        scope = KeyScope.MANAGE if account.can_manage else KeyScope.CALL
        key, api_key = await add_key(connection, vault, account, NewKey("invited", scope))
        await changes.announce(connection, slot.owner_id, SystemChange.INVITATION_ACCEPT, key.id)
        await write_operation(
            connection,
            OperationEntry(
                owner_id=slot.owner_id,
                actor=ActedBy.INVITATION,
                verb=SystemChange.INVITATION_ACCEPT,
                target_id=key.id,
                actor_account_id=account.id,
                client_ip=client_ip,
            ),
        )
    await desk.database.forget_deleted()
    await desk.directory.changed(account.owner_id)
    return Secrets(account, key, api_key)


def _is_living(slot: Slot) -> bool:
    return slot.purpose == SlotPurpose.INVITATION and is_living(slot, now_ms())


def _opened(slot: Slot, token: str) -> OpenVault | None:
    try:
        return open_slot(slot, token.encode("ascii"))
    except (CustodyError, UnicodeEncodeError):
        return None
