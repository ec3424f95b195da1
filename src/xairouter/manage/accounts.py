"""Sub-accounts: create, read, change, move, suspend, delete."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict

from xairouter.clock import fresh_id, now_ms
from xairouter.domain.accounts import Account, AccountStatus, KeyScope, KeyStatus
from xairouter.domain.permissions import Permission
from xairouter.errors import ErrorCode, ManageError
from xairouter.manage.aligning import align_slots
from xairouter.manage.desk import Actor, Change, Desk, change, changed_fields, require, within_reach
from xairouter.manage.owners import NewKey, Secrets, add_key, checked_name
from xairouter.manage.rules import checked, prove_ahead, refuse_wider, stored_text
from xairouter.manage.vault import renew_vault, renews_vault
from xairouter.manage.versions import refuse_stale
from xairouter.manage.views import account_view
from xairouter.policy.rules import compile_text
from xairouter.storage import keys, owners


@dataclass(frozen=True, slots=True)
class NewAccount:
    """What a new sub-account is to be; ``parent`` defaults to the actor's own account."""

    name: str
    email: str | None = None
    parent: str | None = None
    can_manage: bool = False
    rules: Mapping[str, object] = field(default_factory=dict)


class AccountChange(TypedDict, total=False):
    """What is to change about an account; ``parent`` is the account to move below."""

    name: str
    email: str | None
    status: AccountStatus
    can_manage: bool
    parent: str


async def create_account(desk: Desk, actor: Actor, wanted: NewAccount) -> Secrets:
    """A sub-account and its first key: scope ``manage`` if it may manage, else ``call``."""
    await prove_place(desk, actor, wanted)
    async with change(desk, actor, Permission.ACCOUNTS_CREATE) as made:
        account = await place_account(made, actor, wanted)
        scope = KeyScope.MANAGE if wanted.can_manage else KeyScope.CALL
        key, api_key = await add_key(made.connection, actor.vault, account, NewKey("first", scope))
    return Secrets(account, key, api_key)


async def prove_place(desk: Desk, actor: Actor, wanted: NewAccount) -> None:
    """Find out before the change whether the new account's rules fit below its parent."""
    if wanted.rules:
        parent = wanted.parent or actor.caller.account.id
        await prove_ahead(
            desk,
            actor,
            Permission.ACCOUNTS_CREATE,
            parent,
            lambda chain: (checked(wanted.rules), chain),
        )


async def _prove_move(desk: Desk, actor: Actor, account_id: str, parent: str) -> None:
    """The same for an account that moves below another one."""
    async with desk.database.read() as connection:
        account = await owners.get_account(connection, actor.owner_id, account_id)
    if account is not None:
        rules = compile_text(account.rules).rules
        await prove_ahead(
            desk, actor, Permission.ACCOUNTS_CREATE, parent, lambda chain: (rules, chain)
        )


async def place_account(made: Change, actor: Actor, wanted: NewAccount) -> Account:
    """Put a new account into the tree, without any key, in a change under way."""
    name, rules = checked_name(wanted.name), checked(wanted.rules)
    parent = wanted.parent or actor.caller.account.id
    chain = await within_reach(made.connection, actor, Permission.ACCOUNTS_CREATE, parent)
    refuse_wider(rules, chain)
    account = Account(
        fresh_id("acc"),
        actor.owner_id,
        chain[-1].id,
        name,
        wanted.email,
        AccountStatus.ACTIVE,
        wanted.can_manage,
        now_ms(),
        rules=stored_text(rules),
    )
    made.target_id = account.id
    await owners.add_account(made.connection, account)
    return account


async def list_accounts(desk: Desk, actor: Actor, scope: str) -> list[Account]:
    """Direct children, or all descendants, of the actor's account."""
    require(actor, Permission.ACCOUNTS_READ)
    own = actor.caller.account.id
    async with desk.database.read() as connection:
        tree = await owners.tree_of(connection, actor.owner_id)
        if scope == "children":
            return [account for account in tree if account.parent_id == own]
        below = set(await owners.subtree_of(connection, actor.owner_id, own)) - {own}
        return [account for account in tree if account.id in below]


async def get_account(desk: Desk, actor: Actor, account_id: str) -> Account:
    require(actor, Permission.ACCOUNTS_READ)
    async with desk.database.read() as connection:
        return (await within_reach(connection, actor, Permission.ACCOUNTS_READ, account_id))[-1]


async def change_account(
    desk: Desk,
    actor: Actor,
    account_id: str,
    values: AccountChange,
    expected: str | None = None,
) -> Account:
    """Change name, email, status, ``can_manage`` or ``parent`` of an account below one's own."""
    if "parent" in values:
        await _prove_move(desk, actor, account_id, values["parent"])
    async with change(desk, actor, Permission.ACCOUNTS_CHANGE, account_id) as made:
        chain = await within_reach(made.connection, actor, Permission.ACCOUNTS_CHANGE, account_id)
        refuse_stale(expected, account_view(chain[-1]))
        columns: owners.AccountColumns = {}
        if "name" in values:
            columns["name"] = checked_name(values["name"])
        if "email" in values:
            columns["email"] = values["email"]
        if "can_manage" in values:
            columns["can_manage"] = values["can_manage"]
        if "status" in values:
            columns["status"] = values["status"]
        if "status" in columns and account_id in (actor.owner_id, actor.caller.account.id):
            raise ManageError(
                ErrorCode.INVALID_FIELD,
                "An account cannot suspend itself.",
                {"status": "not on one's own account"},
            )
        if "parent" in values:
            columns["parent_id"] = await _new_parent(made, actor, chain[-1], values["parent"])
        made.detail = changed_fields(chain[-1], columns)
        if columns:
            await owners.update_account(made.connection, actor.owner_id, account_id, **columns)
        if "status" in columns or "parent_id" in columns:
            await align_slots(made.connection, actor.vault, actor.owner_id, account_id)
        found = await owners.get_account(made.connection, actor.owner_id, account_id)
    assert found is not None
    if "parent_id" in columns:
        # What the accounts above have used moves along.
        desk.counters.forget(actor.owner_id)
    return found


async def _new_parent(made: Change, actor: Actor, account: Account, wanted: str) -> str:
    """Where an account moves to: within the actor's reach, and not below itself."""
    if account.is_owner:
        raise ManageError(
            ErrorCode.INVALID_FIELD,
            "This account cannot be moved there.",
            {"parent": "must be an account of the tree"},
        )
    chain = await within_reach(made.connection, actor, Permission.ACCOUNTS_CREATE, wanted)
    if account.id in [above.id for above in chain]:
        raise ManageError(
            ErrorCode.INVALID_FIELD,
            "An account cannot be moved below itself.",
            {"parent": "is the account itself or below it"},
        )
    # Its own rules must fit there; what is below it was held to them already.
    refuse_wider(compile_text(account.rules).rules, chain)
    return wanted


@renews_vault
async def delete_account(desk: Desk, actor: Actor, account_id: str, *, recursive: bool) -> None:
    """Delete an account; tombstones stay so that records remain readable."""
    async with change(desk, actor, Permission.ACCOUNTS_DELETE, account_id) as made:
        await within_reach(made.connection, actor, Permission.ACCOUNTS_DELETE, account_id)
        if account_id in (actor.owner_id, actor.caller.account.id):
            raise ManageError(
                ErrorCode.INVALID_FIELD,
                "An account cannot delete itself.",
                {"id": "is one's own account"},
            )
        doomed = await owners.subtree_of(made.connection, actor.owner_id, account_id, deleted=False)
        if len(doomed) > 1 and not recursive:
            raise ManageError(
                ErrorCode.HAS_CHILDREN, f"The account has {len(doomed) - 1} sub-accounts below it."
            )
        now = now_ms()
        for one in doomed:
            for key in await keys.list_keys(made.connection, actor.owner_id, one):
                await keys.update_key(
                    made.connection,
                    actor.owner_id,
                    key.id,
                    status=KeyStatus.DELETED,
                    deleted_at_ms=now,
                )
            await owners.update_account(
                made.connection,
                actor.owner_id,
                one,
                status=AccountStatus.DELETED,
                deleted_at_ms=now,
            )
        slots = await keys.list_slots(made.connection, actor.owner_id)
        await keys.drop_slots(
            made.connection,
            actor.owner_id,
            [slot.id for slot in slots if slot.account_id in doomed],
        )
        made.detail = {"accounts": len(doomed)}
        renewed = await renew_vault(made, actor)
    if renewed is not None:
        desk.room.witness.note(renewed)
    await desk.database.forget_deleted()
