"""The desk at which every verb is done: authorise, act, record, in one transaction.

A refused attempt is recorded too. After a commit the directory drops its picture of the owner, so
that this process sees the change at once; others follow the ``changes`` table.
"""

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.clock import fresh_id, now_ms
from xairouter.counters.interface import Counters
from xairouter.custody.intake import Sealed
from xairouter.custody.room import Strongroom
from xairouter.custody.vault import OpenVault
from xairouter.directory.directory import Directory
from xairouter.directory.health import Health
from xairouter.domain.accounts import Account, ProviderKey
from xairouter.domain.permissions import DONE, ActedBy, Permission, Reach, Result, SystemChange
from xairouter.domain.slots import Slot
from xairouter.errors import ErrorCode, ManageError
from xairouter.manage.attempts import AttemptLimits
from xairouter.manage.audits import Audits
from xairouter.manage.permissions import reach_of
from xairouter.manage.reads import LongReads
from xairouter.manage.rehearsals import Rehearsals
from xairouter.policy.interface import Caller
from xairouter.providers.prices import PriceList
from xairouter.storage import changes, keys, operations, owners
from xairouter.storage.database import Database
from xairouter.turns import Places
from xairouter.upstream.egress import Egress

MOST_RENEWALS = 4
"""Owners whose vaults are sealed anew at once."""
MOST_ID = 40
"""The length of an id in storage; what was asked for with a longer one is no id of ours."""


@dataclass(frozen=True, slots=True)
class Resealed:
    """What a vault holds, by id: as it was read, and sealed for the next epoch (None: it does not
    open)."""

    fresh: OpenVault = field(repr=False)
    slots: Mapping[str, tuple[Slot, Slot | None]]
    keys: Mapping[str, tuple[ProviderKey, Sealed | None]]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: the caller behind an accepted key, with the owner's vault open.

    ``resealed`` – for a change that renews the vault: what was sealed anew before it.
    """

    caller: Caller
    vault: OpenVault = field(repr=False)
    client_ip: str
    resealed: Resealed | None = field(default=None, repr=False)

    @property
    def owner_id(self) -> str:
        return self.caller.owner_id


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one owner may have, without what is deleted; ``api_keys`` with open invitations."""

    accounts: int = 20_000
    api_keys: int = 50_000


@dataclass(frozen=True, slots=True)
class Desk:
    """What verbs work with."""

    database: Database
    directory: Directory
    room: Strongroom
    egress: Egress
    prices: PriceList
    health: Health
    counters: Counters
    output_reserve: int
    automation_secret: str = field(default="", repr=False)
    attempts: AttemptLimits = field(default_factory=AttemptLimits)
    rehearsals: Rehearsals = field(default_factory=Rehearsals)
    audits: Audits = field(default_factory=Audits)
    renewals: Places = field(default_factory=lambda: Places(MOST_RENEWALS, 1))
    bounds: Bounds = Bounds()
    reads: LongReads = field(default_factory=LongReads)

    @asynccontextmanager
    async def long_read(self, owner_id: str) -> AsyncIterator[AsyncConnection]:
        """A snapshot for what may read much, in the owner's turn. Not within another one."""
        async with self.reads.turn(owner_id), self.database.snapshot() as connection:
            yield connection


class StaleVaultError(Exception):
    """The vault moved to another epoch since the actor's key was opened: open again and retry."""


@dataclass(slots=True)
class Change:
    """A change under way: its transaction, and what the operation log will say of it."""

    connection: AsyncConnection
    target_id: str | None = None
    detail: Mapping[str, object] | None = None


def changed_fields(before: object, values: Mapping[str, object]) -> dict[str, object]:
    """What a change did, for the operation log: the fields it set, before and after."""
    return {
        "before": {name: getattr(before, name, None) for name in values},
        "after": dict(values),
    }


@asynccontextmanager
async def change(
    desk: Desk, actor: Actor, verb: Permission, target_id: str | None = None
) -> AsyncIterator[Change]:
    """Do a verb: check the permission, run the body in a write transaction, log the operation.

    Whatever ManageError the body raises is logged as a refused attempt and raised on; a key that
    is refused again and again is answered 429 before anything is looked up.
    """
    key_id = actor.caller.key.id
    counted = desk.attempts.refused.start(key_id)
    refused: ManageError | None = None
    if reach_of(actor.caller, verb) is None:
        refused = ManageError(ErrorCode.FORBIDDEN, f"This XAI API key may not do {verb}.")
    else:
        try:
            async with desk.database.write(actor.owner_id) as connection:
                owner = await owners.get_owner(connection, actor.owner_id)
                if owner is None:
                    raise ManageError(ErrorCode.NOT_FOUND, "The owner is gone.")
                if owner.vault_epoch != actor.vault.epoch:
                    raise StaleVaultError
                made = Change(connection, target_id)
                yield made
                if verb in _ADDING:
                    await _refuse_more(connection, actor.owner_id, desk.bounds)
                await changes.announce(
                    connection, actor.owner_id, verb, made.target_id or actor.owner_id
                )
                await log_operation(connection, actor, verb, made.target_id, DONE, made.detail)
        except ManageError as error:
            refused = error
        except StaleVaultError:
            desk.attempts.refused.take_back(counted)
            raise
    if refused is None:
        desk.attempts.refused.take_back(counted)
        await desk.directory.changed(actor.owner_id)
        return
    await log_refused(desk, actor, verb, target_id, refused)
    raise refused


_ADDING = frozenset(
    {
        Permission.ACCOUNTS_CREATE,
        Permission.KEYS_CREATE,
        Permission.KEYS_INVITE,
        Permission.KEYS_ROTATE,
        Permission.PLAYGROUND_OPEN,
    }
)


async def _refuse_more(connection: AsyncConnection, owner_id: str, bounds: Bounds) -> None:
    """Refuse the change under way where it leaves an owner with more than there may be."""
    if await owners.count_accounts(connection, owner_id) > bounds.accounts:
        raise ManageError(
            ErrorCode.CONFLICT,
            f"An owner has at most {bounds.accounts} accounts here; delete some first.",
        )
    if await keys.count_issued(connection, owner_id) > bounds.api_keys:
        raise ManageError(
            ErrorCode.CONFLICT,
            f"An owner has at most {bounds.api_keys} XAI API keys and open invitations here; delete "
            "some first.",
        )


async def log_refused(
    desk: Desk, actor: Actor, verb: Permission, target_id: str | None, refused: ManageError
) -> None:
    """A refused attempt in the operation log, in a transaction of its own; at most 60 a minute of
    one key, so that asking costs no storage."""
    stored, key_id = desk.attempts.refused_stored, actor.caller.key.id
    if stored.wait(key_id):
        return
    stored.count(key_id)
    async with desk.database.write(actor.owner_id) as connection:
        await log_operation(connection, actor, verb, target_id, refused.code)


async def log_operation(
    connection: AsyncConnection,
    actor: Actor,
    verb: Permission,
    target_id: str | None,
    result: Result,
    detail: Mapping[str, object] | None = None,
) -> None:
    """One row of the operation log, by an actor."""
    await write_operation(
        connection,
        OperationEntry(
            owner_id=actor.owner_id,
            actor=ActedBy.KEY,
            verb=verb,
            target_id=target_id,
            result=result,
            detail=detail,
            actor_key_id=actor.caller.key.id,
            actor_account_id=actor.caller.account.id,
            client_ip=actor.client_ip,
        ),
    )


@dataclass(frozen=True, slots=True)
class OperationEntry:
    """A row of the operation log before it is written."""

    owner_id: str
    actor: ActedBy
    verb: Permission | SystemChange
    target_id: str | None = None
    result: Result = DONE
    detail: Mapping[str, object] | None = None
    actor_key_id: str | None = None
    actor_account_id: str | None = None
    client_ip: str | None = None


async def write_operation(connection: AsyncConnection, entry: OperationEntry) -> None:
    """One row of the operation log."""
    row: operations.OperationRow = {
        "id": fresh_id("op"),
        "owner_id": entry.owner_id,
        "at_ms": now_ms(),
        "actor_key_id": entry.actor_key_id,
        "actor_account_id": entry.actor_account_id,
        "actor": entry.actor,
        "verb": entry.verb,
        "target_id": entry.target_id and entry.target_id[:MOST_ID],
        "client_ip": entry.client_ip,
        "result": entry.result,
        "detail": msgspec.json.encode(entry.detail).decode() if entry.detail else None,
    }
    await operations.add(connection, row, secrets.token_bytes(16))


def require(actor: Actor, verb: Permission) -> Reach:
    """The reach of a verb that only reads; raises ManageError ``forbidden``."""
    reach = reach_of(actor.caller, verb)
    if reach is None:
        raise ManageError(ErrorCode.FORBIDDEN, f"This XAI API key may not do {verb}.")
    return reach


async def within_reach(
    connection: AsyncConnection, actor: Actor, verb: Permission, account_id: str
) -> tuple[Account, ...]:
    """The chain of an account that a verb may touch; foreign and unknown ids answer alike."""
    chain = await owners.chain_of(connection, actor.owner_id, account_id)
    own = actor.caller.account.id
    path = [account.id for account in chain]
    reach = reach_of(actor.caller, verb)
    allowed = bool(chain) and (
        reach == Reach.TREE
        or (reach == Reach.BELOW and own in path[:-1])
        or (reach in (Reach.SELF, Reach.BELOW) and path[-1] == own and verb in _ON_ONESELF)
    )
    if not allowed:
        raise ManageError(ErrorCode.NOT_FOUND, f"There is no account “{account_id[:64]}” here.")
    return chain


_ON_ONESELF = frozenset(
    {
        Permission.EXPLAIN,
        Permission.KEYS_READ,
        Permission.KEYS_ROTATE,
        Permission.USAGE_READ,
        Permission.ACCOUNTS_CREATE,
        Permission.ACCOUNTS_READ,
        Permission.RULES_READ,
    }
)
"""What a manager or member may do to its own account (creating means: below it)."""
