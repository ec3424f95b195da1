"""Slots follow the status of their keys and accounts."""

import asyncio
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.custody.slots import erased, is_current, seal_to
from xairouter.custody.vault import OpenVault
from xairouter.domain.accounts import Account, AccountStatus, KeyStatus
from xairouter.domain.slots import Slot, SlotPurpose
from xairouter.storage import keys, owners


async def align_slots(
    connection: AsyncConnection, vault: OpenVault, owner_id: str, top: str
) -> None:
    """Make the slots of a subtree's keys follow their status.

    A slot is sealed exactly while its key and every account above it are active: suspending
    erases the ciphertext, resuming seals anew to a slot that is proven ours. A few statements,
    however many slots there are, because everybody's changes wait for them.
    """
    accounts = set(await owners.subtree_of(connection, owner_id, top))
    statuses = {
        key.id: key.status
        for key in await keys.list_keys(connection, owner_id)
        if key.account_id in accounts
    }
    active = _active(await owners.tree_of(connection, owner_id))
    resumed, suspended = [], []
    for slot in await keys.list_slots(connection, owner_id):
        if slot.purpose != SlotPurpose.API_KEY or slot.key_id not in statuses:
            continue
        is_live = slot.account_id in active and statuses[slot.key_id] == KeyStatus.ACTIVE
        if is_live and slot.ciphertext is None:
            resumed.append(slot)
        elif not is_live and slot.ciphertext is not None:
            suspended.append(slot)
    if resumed or suspended:
        changed = await asyncio.to_thread(_changed, vault, resumed, suspended)
        await keys.put_sealed_slots(connection, changed)


def _changed(vault: OpenVault, resumed: Sequence[Slot], suspended: Sequence[Slot]) -> list[Slot]:
    sealed = [seal_to(vault, slot) for slot in resumed if is_current(vault, slot)]
    return sealed + [erased(vault, slot) for slot in suspended]


def _active(tree: Sequence[Account]) -> set[str]:
    """The accounts that are active, with all above them."""
    left = {account.id: account for account in tree}
    known: dict[str | None, bool] = {None: True}
    for account in tree:
        way: list[Account] = []
        at: str | None = account.id
        # What somebody has written in a circle is not active, and has an end here.
        while at not in known and at is not None and (one := left.pop(at, None)) is not None:
            way.append(one)
            at = one.parent_id
        is_active = known.get(at, False)
        for one in reversed(way):
            is_active = is_active and one.status == AccountStatus.ACTIVE
            known[one.id] = is_active
    return {account.id for account in tree if known[account.id]}
