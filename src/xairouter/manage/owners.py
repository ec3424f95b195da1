"""The operator's verbs over owners, and the owner's way back in with a recovery code."""

from dataclasses import dataclass, field, replace

from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.clock import fresh_id, now_ms
from xairouter.custody.formats import (
    look_up_id,
    new_api_key,
    new_recovery_code,
    normalise_recovery_code,
)
from xairouter.custody.slots import Place, issue, open_slot
from xairouter.custody.vault import OpenVault, new_vault
from xairouter.custody.witness import Witness
from xairouter.domain.accounts import Account, AccountStatus, ApiKey, KeyScope, KeyStatus
from xairouter.domain.permissions import ActedBy, SystemChange
from xairouter.domain.slots import SlotPurpose
from xairouter.errors import CustodyError, ErrorCode, ManageError
from xairouter.manage.desk import Desk, OperationEntry, write_operation
from xairouter.storage import changes, keys, owners, provider_keys
from xairouter.storage.database import Database

OWNER_KEY_NAME = "owner"


@dataclass(frozen=True, slots=True)
class Secrets:
    """Shown once to whoever asked for them, then never again."""

    account: Account
    key: ApiKey
    api_key: str = field(repr=False)
    recovery_code: str | None = field(repr=False, default=None)


@dataclass(frozen=True, slots=True)
class NewKey:
    """What an XAI API key is to be. A key with a ``session_id`` ends with that session."""

    name: str
    scope: KeyScope
    expires_at_ms: int | None = None
    session_id: str | None = None


async def create_owner(
    database: Database,
    witness: Witness,
    name: str,
    email: str | None,
    *,
    seen_by_operator: bool,
) -> Secrets:
    """A new owner with its vault, its first key (scope ``manage``) and its recovery code."""
    async with database.write() as connection:
        made, vault = await store_owner(
            connection,
            fresh_id("acc"),
            checked_name(name),
            email,
            seen_by_operator=seen_by_operator,
        )
    witness.note(vault)
    return made


async def store_owner(
    connection: AsyncConnection,
    account_id: str,
    name: str,
    email: str | None,
    *,
    seen_by_operator: bool,
) -> tuple[Secrets, OpenVault]:
    """The same in the caller's transaction; the caller notes the vault with the witness."""
    account = Account(
        account_id, account_id, None, name, email, AccountStatus.ACTIVE, True, now_ms()
    )
    vault = new_vault(account_id)
    for other in await owners.list_owners(connection):
        if other.name == name:
            raise ManageError(ErrorCode.CONFLICT, f"There is an owner called “{name}” already.")
    await owners.add_owner(connection, account, seen_by_operator=seen_by_operator)
    key, api_key = await add_key(
        connection, vault, account, NewKey(OWNER_KEY_NAME, KeyScope.MANAGE)
    )
    code = await add_recovery_code(connection, vault, account)
    await changes.announce(connection, account_id, SystemChange.OWNER_CREATE, account_id)
    await write_operation(
        connection,
        OperationEntry(
            owner_id=account_id,
            actor=ActedBy.OPERATOR if seen_by_operator else ActedBy.LINK,
            verb=SystemChange.OWNER_CREATE,
            target_id=account_id,
        ),
    )
    return Secrets(account, key, api_key, code), vault


def checked_name(name: object) -> str:
    """A name of 1 to 128 visible characters; raises ManageError."""
    if not isinstance(name, str) or not name.strip() or len(name) > 128 or not name.isprintable():
        raise ManageError(
            ErrorCode.INVALID_FIELD,
            "A name has 1 to 128 visible characters.",
            {"name": "1 to 128 visible characters"},
        )
    return name.strip()


async def add_key(
    connection: AsyncConnection, vault: OpenVault, account: Account, wanted: NewKey
) -> tuple[ApiKey, str]:
    """Issue an XAI API key: its row, and the slot through which it opens the vault."""
    key = ApiKey(
        fresh_id("key"),
        account.owner_id,
        account.id,
        wanted.name,
        wanted.scope,
        KeyStatus.ACTIVE,
        now_ms(),
        wanted.expires_at_ms,
        None,
        wanted.session_id,
    )
    secret = new_api_key()
    place = Place(fresh_id("slot"), SlotPurpose.API_KEY, account.id, key.id, wanted.expires_at_ms)
    slot = issue(vault, place, secret.encode("ascii"), look_up_id(secret))
    await keys.add_key(connection, key)
    await keys.add_slot(connection, slot)
    return key, secret


async def add_recovery_code(connection: AsyncConnection, vault: OpenVault, account: Account) -> str:
    """Issue a recovery code for an owner."""
    code = new_recovery_code()
    place = Place(fresh_id("slot"), SlotPurpose.RECOVERY, account.id, "recovery")
    slot = issue(vault, place, code.encode("ascii"), look_up_id(code))
    await keys.add_slot(connection, slot)
    return code


async def recover(desk: Desk, typed_code: str, client_ip: str) -> Secrets:
    """A new key and a new code against the recovery code, which is used up.

    Raises ManageError ``invalid_api_key`` for anything that is not a living code.
    """
    code = normalise_recovery_code(typed_code)
    refused = ManageError(ErrorCode.INVALID_API_KEY, "This is not a valid recovery code.")
    if code is None:
        raise refused
    vault: OpenVault | None = None
    # Whose it is, the code has yet to show.
    async with desk.database.write("recovery") as connection:
        slot = await keys.find_slot(connection, look_up_id(code))
        if slot is None or slot.purpose != SlotPurpose.RECOVERY:
            raise refused
        if slot.expires_at_ms is not None and slot.expires_at_ms <= now_ms():
            raise refused
        try:
            vault = open_slot(slot, code.encode("ascii"))
        except CustodyError:
            vault = None
        account = await owners.get_account(connection, slot.owner_id, slot.owner_id)
        if vault is None or account is None:
            raise refused
        await keys.drop_slots(connection, slot.owner_id, [slot.id])
        key, api_key = await add_key(
            connection, vault, account, NewKey("recovered", KeyScope.MANAGE)
        )
        new_code = await add_recovery_code(connection, vault, account)
        await changes.announce(connection, account.id, SystemChange.RECOVER, key.id)
        await write_operation(
            connection,
            OperationEntry(
                owner_id=account.id,
                actor=ActedBy.RECOVERY,
                verb=SystemChange.RECOVER,
                target_id=key.id,
                client_ip=client_ip,
            ),
        )
    await desk.directory.changed(account.id)
    return Secrets(account, key, api_key, new_code)


async def find_owner(connection: AsyncConnection, wanted: str) -> Account:
    """An owner by id or name; raises ManageError ``not_found``."""
    for account in await owners.list_owners(connection):
        if wanted in (account.id, account.name):
            return account
    raise ManageError(ErrorCode.NOT_FOUND, f"There is no owner “{wanted[:64]}”.")


async def list_owners(database: Database) -> list[Account]:
    async with database.read() as connection:
        return list(await owners.list_owners(connection))


async def suspend_owner(database: Database, wanted: str, *, suspended: bool) -> Account:
    """The operator's suspension: policy only, the vault is not touched."""
    async with database.write() as connection:
        account = await find_owner(connection, wanted)
        await owners.update_account(
            connection, account.id, account.id, suspended_by_operator=suspended
        )
        verb = SystemChange.OWNER_SUSPEND if suspended else SystemChange.OWNER_RESUME
        await changes.announce(connection, account.id, verb, account.id)
        await write_operation(
            connection,
            OperationEntry(
                owner_id=account.id, actor=ActedBy.OPERATOR, verb=verb, target_id=account.id
            ),
        )
    return replace(account, suspended_by_operator=suspended)


async def delete_owner(database: Database, wanted: str) -> Account:
    """Delete an owner: every slot and sealed key goes, names and records stay as tombstones."""
    async with database.write() as connection:
        account = await find_owner(connection, wanted)
        now = now_ms()
        for member in await owners.tree_of(connection, account.id):
            await owners.update_account(
                connection, account.id, member.id, status=AccountStatus.DELETED, deleted_at_ms=now
            )
        for key in await keys.list_keys(connection, account.id):
            await keys.update_key(
                connection, account.id, key.id, status=KeyStatus.DELETED, deleted_at_ms=now
            )
        slots = await keys.list_slots(connection, account.id)
        await keys.drop_slots(connection, account.id, [slot.id for slot in slots])
        for sealed in await provider_keys.list_all(connection, account.id):
            await provider_keys.delete(connection, account.id, sealed.id)
        await changes.announce(connection, account.id, SystemChange.OWNER_DELETE, account.id)
        await write_operation(
            connection,
            OperationEntry(
                owner_id=account.id,
                actor=ActedBy.OPERATOR,
                verb=SystemChange.OWNER_DELETE,
                target_id=account.id,
            ),
        )
    await database.forget_deleted()
    return account
