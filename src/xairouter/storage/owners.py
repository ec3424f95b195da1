"""Owners and the tree of accounts below them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.domain.accounts import DELETED, Account, OwnerSettings
from xairouter.storage.tables import accounts, owners


@dataclass(frozen=True, slots=True)
class OwnerRow:
    """An owner's own row: revision, vault state, settings and own prices."""

    id: str
    revision: int
    vault_epoch: int
    vault_revision: int
    seen_by_operator: bool
    settings: OwnerSettings
    prices: Mapping[str, Any]


async def add_owner(
    connection: AsyncConnection, account: Account, *, seen_by_operator: bool
) -> None:
    """A new owner and the account at the top of its tree."""
    await connection.execute(
        owners.insert().values(
            id=account.id,
            revision=1,
            vault_epoch=1,
            vault_revision=1,
            seen_by_operator=seen_by_operator,
        )
    )
    await add_account(connection, account)


async def add_account(connection: AsyncConnection, account: Account) -> None:
    await connection.execute(
        accounts.insert().values(
            id=account.id,
            owner_id=account.owner_id,
            parent_id=account.parent_id,
            name=account.name,
            email=account.email,
            status=account.status,
            can_manage=account.can_manage,
            created_at_ms=account.created_at_ms,
        )
    )


async def get_owner(connection: AsyncConnection, owner_id: str) -> OwnerRow | None:
    row = (await connection.execute(sa.select(owners).where(owners.c.id == owner_id))).first()
    if row is None:
        return None
    return OwnerRow(
        row.id,
        row.revision,
        row.vault_epoch,
        row.vault_revision,
        row.seen_by_operator,
        msgspec.json.decode(row.settings, type=OwnerSettings),
        msgspec.json.decode(row.prices),
    )


async def update_owner(connection: AsyncConnection, owner_id: str, **values: Any) -> None:
    """Change columns of an owner's row; settings and prices are given as values, not text."""
    for name in ("settings", "prices"):
        if name in values:
            values[name] = msgspec.json.encode(values[name]).decode()
    await connection.execute(owners.update().where(owners.c.id == owner_id).values(**values))


async def advance_vault(
    connection: AsyncConnection, owner_id: str, *, expected_revision: int, epoch: int
) -> bool:
    """Compare-and-set of the vault's revision; False if somebody else was faster."""
    result = await connection.execute(
        owners.update()
        .where(owners.c.id == owner_id, owners.c.vault_revision == expected_revision)
        .values(vault_revision=expected_revision + 1, vault_epoch=epoch)
    )
    return result.rowcount == 1


def _account(row: sa.Row[Any]) -> Account:
    return Account(
        id=row.id,
        owner_id=row.owner_id,
        parent_id=row.parent_id,
        name=row.name,
        email=row.email,
        status=row.status,
        can_manage=row.can_manage,
        created_at_ms=row.created_at_ms,
        suspended_by_operator=row.suspended_by_operator,
    )


async def get_account(
    connection: AsyncConnection, owner_id: str, account_id: str, *, deleted: bool = False
) -> Account | None:
    """One account of an owner; tombstones only where ``deleted`` asks for them."""
    query = sa.select(accounts).where(accounts.c.owner_id == owner_id, accounts.c.id == account_id)
    if not deleted:
        query = query.where(accounts.c.status != DELETED)
    row = (await connection.execute(query)).first()
    return _account(row) if row else None


async def chain_of(
    connection: AsyncConnection, owner_id: str, account_id: str
) -> tuple[Account, ...]:
    """The accounts from the owner down to one account; empty if that does not exist."""
    found: list[Account] = []
    at: str | None = account_id
    while at is not None:
        account = await get_account(connection, owner_id, at)
        if account is None or account in found:
            return ()
        found.append(account)
        at = account.parent_id
    return tuple(reversed(found))


async def tree_of(
    connection: AsyncConnection, owner_id: str, *, deleted: bool = False
) -> Sequence[Account]:
    """All accounts of an owner, parents before children."""
    query = sa.select(accounts).where(accounts.c.owner_id == owner_id).order_by(accounts.c.id)
    if not deleted:
        query = query.where(accounts.c.status != DELETED)
    return [_account(row) for row in await connection.execute(query)]


async def list_owners(connection: AsyncConnection) -> Sequence[Account]:
    """The accounts at the top, for the operator."""
    query = sa.select(accounts).where(
        accounts.c.id == accounts.c.owner_id, accounts.c.status != DELETED
    )
    return [_account(row) for row in await connection.execute(query.order_by(accounts.c.id))]


async def update_account(
    connection: AsyncConnection, owner_id: str, account_id: str, **values: Any
) -> None:
    await connection.execute(
        accounts.update()
        .where(accounts.c.owner_id == owner_id, accounts.c.id == account_id)
        .values(**values)
    )
