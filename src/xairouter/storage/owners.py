"""Owners and the tree of accounts below them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.domain.accounts import Account, AccountStatus, OwnerSettings
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
    routing: Mapping[str, Any]
    webhook_secret: str | None = field(default=None, repr=False)


class OwnerColumns(TypedDict, total=False):
    """The columns of an owner's row that change; settings, prices and routing as values."""

    revision: int
    vault_epoch: int
    vault_revision: int
    seen_by_operator: bool
    settings: OwnerSettings
    prices: Mapping[str, object]
    routing: Mapping[str, object]
    webhook_secret: str | None


class AccountColumns(TypedDict, total=False):
    """The columns of an account that change."""

    parent_id: str
    name: str
    email: str | None
    status: AccountStatus
    suspended_by_operator: bool
    can_manage: bool
    rules: str
    deleted_at_ms: int


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
            rules=account.rules,
            created_at_ms=account.created_at_ms,
        )
    )


_OWNER = sa.select(owners).where(owners.c.id == sa.bindparam("owner"))
"""Statements that stand before every first call of a key are built once."""


async def get_owner(connection: AsyncConnection, owner_id: str) -> OwnerRow | None:
    row = (await connection.execute(_OWNER, {"owner": owner_id})).first()
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
        msgspec.json.decode(row.routing),
        row.webhook_secret,
    )


async def update_owner(
    connection: AsyncConnection, owner_id: str, **values: Unpack[OwnerColumns]
) -> None:
    """Change columns of an owner's row."""
    columns = {
        name: msgspec.json.encode(value).decode() if name in _AS_JSON else value
        for name, value in values.items()
    }
    await connection.execute(owners.update().where(owners.c.id == owner_id).values(**columns))


_AS_JSON = ("settings", "prices", "routing")


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
        status=AccountStatus(row.status),
        can_manage=row.can_manage,
        created_at_ms=row.created_at_ms,
        suspended_by_operator=row.suspended_by_operator,
        rules=row.rules,
    )


async def get_account(
    connection: AsyncConnection, owner_id: str, account_id: str, *, deleted: bool = False
) -> Account | None:
    """One account of an owner; tombstones only where ``deleted`` asks for them."""
    query = sa.select(accounts).where(accounts.c.owner_id == owner_id, accounts.c.id == account_id)
    if not deleted:
        query = query.where(accounts.c.status != AccountStatus.DELETED)
    row = (await connection.execute(query)).first()
    return _account(row) if row else None


def _path_upwards() -> sa.Select[Any]:
    """An account and all above it, in any order; UNION ends a circle."""
    alive = accounts.c.status != AccountStatus.DELETED, accounts.c.owner_id == sa.bindparam("owner")
    own = sa.select(accounts.c.id, accounts.c.parent_id).where(
        accounts.c.id == sa.bindparam("account"), *alive
    )
    path = own.cte("path", recursive=True)
    above = sa.select(accounts.c.id, accounts.c.parent_id).join(
        path, accounts.c.id == path.c.parent_id
    )
    path = path.union(above.where(*alive))
    return sa.select(accounts).join(path, accounts.c.id == path.c.id)


_PATH_UPWARDS = _path_upwards()


async def chain_of(
    connection: AsyncConnection, owner_id: str, account_id: str
) -> tuple[Account, ...]:
    """The accounts from the owner down to one account; empty if that does not exist."""
    asked = {"owner": owner_id, "account": account_id}
    known = {row.id: _account(row) for row in await connection.execute(_PATH_UPWARDS, asked)}
    found: list[Account] = []
    at: str | None = account_id
    while at is not None:
        account = known.pop(at, None)
        if account is None:
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
        query = query.where(accounts.c.status != AccountStatus.DELETED)
    return [_account(row) for row in await connection.execute(query)]


async def subtree_of(
    connection: AsyncConnection, owner_id: str, top: str, *, deleted: bool = True
) -> list[str]:
    """The ids of an account and everything below it, tombstones included unless told otherwise."""
    below = (
        sa.select(accounts.c.id)
        .where(accounts.c.owner_id == owner_id, accounts.c.id == top)
        .cte("below", recursive=True)
    )
    child = sa.select(accounts.c.id).where(
        accounts.c.owner_id == owner_id, accounts.c.parent_id == below.c.id
    )
    if not deleted:
        child = child.where(accounts.c.status != AccountStatus.DELETED)
    # UNION leaves out what was found already, so that it would end in a circle, too.
    found = await connection.execute(sa.select(below.union(child).c.id))
    return [row.id for row in found]


async def children_of(
    connection: AsyncConnection, owner_id: str, parent_id: str, *, after: str, limit: int
) -> Sequence[Account]:
    """A page of the accounts right below one, oldest first, those behind an id."""
    query = (
        sa.select(accounts)
        .where(
            accounts.c.owner_id == owner_id,
            accounts.c.parent_id == parent_id,
            accounts.c.status != AccountStatus.DELETED,
            accounts.c.id > after,
        )
        .order_by(accounts.c.id)
        .limit(limit)
    )
    return [_account(row) for row in await connection.execute(query)]


async def count_children(
    connection: AsyncConnection, owner_id: str, account_ids: Sequence[str]
) -> Mapping[str, int]:
    """How many accounts are right below each of some; those without any are left out."""
    query = (
        sa.select(accounts.c.parent_id, sa.func.count().label("count"))
        .where(
            accounts.c.owner_id == owner_id,
            accounts.c.parent_id.in_(account_ids),
            accounts.c.status != AccountStatus.DELETED,
        )
        .group_by(accounts.c.parent_id)
    )
    return {row[0]: int(row[1]) for row in await connection.execute(query)}


async def find_by_name(
    connection: AsyncConnection, owner_id: str, text: str, *, limit: int
) -> Sequence[Account]:
    """Accounts whose name, e-mail address or id holds some text, whatever its case."""
    wanted = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    query = (
        sa.select(accounts)
        .where(
            accounts.c.owner_id == owner_id,
            accounts.c.status != AccountStatus.DELETED,
            sa.or_(
                accounts.c.name.ilike(f"%{wanted}%", escape="\\"),
                accounts.c.email.ilike(f"%{wanted}%", escape="\\"),
                accounts.c.id == text,
            ),
        )
        .order_by(accounts.c.id)
        .limit(limit)
    )
    return [_account(row) for row in await connection.execute(query)]


async def with_limits(
    connection: AsyncConnection, owner_id: str, *, limit: int
) -> Sequence[Account]:
    """Accounts whose own rules say anything of limits or budgets."""
    query = (
        sa.select(accounts)
        .where(
            accounts.c.owner_id == owner_id,
            accounts.c.status != AccountStatus.DELETED,
            sa.or_(
                accounts.c.rules.like('%limits"%'),
                accounts.c.rules.like('%"budget"%'),
            ),
        )
        .order_by(accounts.c.id)
        .limit(limit)
    )
    return [_account(row) for row in await connection.execute(query)]


async def has_budget(connection: AsyncConnection, owner_id: str) -> bool:
    """Whether any account's own rules hold a budget."""
    query = sa.select(accounts.c.id).where(
        accounts.c.owner_id == owner_id,
        accounts.c.status != AccountStatus.DELETED,
        accounts.c.rules.like('%"budget":{"%'),
    )
    return (await connection.execute(query.limit(1))).first() is not None


async def parents_of(connection: AsyncConnection, owner_id: str) -> Mapping[str, str | None]:
    """The parent of each account of an owner, tombstones included."""
    query = sa.select(accounts.c.id, accounts.c.parent_id).where(accounts.c.owner_id == owner_id)
    return {row.id: row.parent_id for row in await connection.execute(query)}


async def names_of(
    connection: AsyncConnection, owner_id: str, account_ids: Sequence[str]
) -> Mapping[str, str]:
    """The names of accounts, of deleted ones too."""
    query = sa.select(accounts.c.id, accounts.c.name).where(
        accounts.c.owner_id == owner_id, accounts.c.id.in_(account_ids)
    )
    return {row.id: row.name for row in await connection.execute(query)}


async def list_owners(connection: AsyncConnection) -> Sequence[Account]:
    """The accounts at the top, for the operator."""
    query = sa.select(accounts).where(
        accounts.c.id == accounts.c.owner_id, accounts.c.status != AccountStatus.DELETED
    )
    return [_account(row) for row in await connection.execute(query.order_by(accounts.c.id))]


async def count_accounts(connection: AsyncConnection, owner_id: str) -> int:
    """How many accounts an owner's tree has, without deleted ones."""
    query = sa.select(sa.func.count()).where(
        accounts.c.owner_id == owner_id, accounts.c.status != AccountStatus.DELETED
    )
    return int((await connection.execute(query)).scalar_one())


async def record_days(connection: AsyncConnection) -> Sequence[tuple[str, int]]:
    """Each owner, and for how many days its usage records are kept."""
    found = [await get_owner(connection, one.id) for one in await list_owners(connection)]
    return [(owner.id, owner.settings.record_days) for owner in found if owner is not None]


async def update_account(
    connection: AsyncConnection,
    owner_id: str,
    account_id: str,
    **values: Unpack[AccountColumns],
) -> None:
    await connection.execute(
        accounts.update()
        .where(accounts.c.owner_id == owner_id, accounts.c.id == account_id)
        .values(**values)
    )
