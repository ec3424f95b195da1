"""XAI API keys and the slots that their secrets open."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, TypedDict, Unpack

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.domain.accounts import ApiKey, KeyScope, KeyStatus
from xairouter.domain.slots import Slot, SlotPurpose
from xairouter.storage.tables import api_keys, slots


def _key(row: sa.Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        owner_id=row.owner_id,
        account_id=row.account_id,
        name=row.name,
        scope=KeyScope(row.scope),
        status=KeyStatus(row.status),
        created_at_ms=row.created_at_ms,
        expires_at_ms=row.expires_at_ms,
        replaced_by=row.replaced_by,
        session_id=row.session_id,
        panic_of=row.panic_of,
    )


def _slot(row: sa.Row[Any]) -> Slot:
    values = {name: getattr(row, name) for name in Slot.__dataclass_fields__}
    return Slot(**{**values, "purpose": SlotPurpose(row.purpose)})


async def add_key(connection: AsyncConnection, key: ApiKey) -> None:
    await connection.execute(api_keys.insert().values(**asdict(key)))


_KEY = sa.select(api_keys).where(
    api_keys.c.owner_id == sa.bindparam("owner"),
    api_keys.c.id == sa.bindparam("key"),
    api_keys.c.status != KeyStatus.DELETED,
)
"""Statements that stand before every first call of a key are built once."""


async def get_key(connection: AsyncConnection, owner_id: str, key_id: str) -> ApiKey | None:
    """One key that is not deleted."""
    row = (await connection.execute(_KEY, {"owner": owner_id, "key": key_id})).first()
    return _key(row) if row else None


async def list_keys(
    connection: AsyncConnection, owner_id: str, account_id: str | None = None
) -> Sequence[ApiKey]:
    """Keys of an owner, or of one account, oldest first, without deleted ones."""
    query = sa.select(api_keys).where(
        api_keys.c.owner_id == owner_id, api_keys.c.status != KeyStatus.DELETED
    )
    if account_id is not None:
        query = query.where(api_keys.c.account_id == account_id)
    return [_key(row) for row in await connection.execute(query.order_by(api_keys.c.id))]


async def names_of(
    connection: AsyncConnection, owner_id: str, key_ids: Sequence[str]
) -> dict[str, str]:
    """The names of keys, of deleted ones too."""
    query = sa.select(api_keys.c.id, api_keys.c.name).where(
        api_keys.c.owner_id == owner_id, api_keys.c.id.in_(key_ids)
    )
    return {row.id: row.name for row in await connection.execute(query)}


class KeyColumns(TypedDict, total=False):
    """The columns of an XAI API key that change."""

    name: str
    status: KeyStatus
    expires_at_ms: int | None
    replaced_by: str | None
    deleted_at_ms: int
    panic_of: str | None


async def update_key(
    connection: AsyncConnection, owner_id: str, key_id: str, **values: Unpack[KeyColumns]
) -> None:
    await connection.execute(
        api_keys.update()
        .where(api_keys.c.owner_id == owner_id, api_keys.c.id == key_id)
        .values(**values)
    )


async def bury_keys(
    connection: AsyncConnection, owner_id: str, key_ids: Iterable[str], at_ms: int
) -> None:
    """Keys become tombstones, and every slot that one of them opened or stands for goes."""
    ids = list(key_ids)
    await connection.execute(
        api_keys.update()
        .where(api_keys.c.owner_id == owner_id, api_keys.c.id.in_(ids))
        .values(status=KeyStatus.DELETED, deleted_at_ms=at_ms)
    )
    await connection.execute(
        slots.delete().where(slots.c.owner_id == owner_id, slots.c.key_id.in_(ids))
    )


async def add_slot(connection: AsyncConnection, slot: Slot) -> None:
    await connection.execute(slots.insert().values(**asdict(slot)))


async def put_slot(connection: AsyncConnection, slot: Slot) -> None:
    """Replace a slot's sealed part (suspend, resume, re-key)."""
    await connection.execute(
        slots.update()
        .where(slots.c.owner_id == slot.owner_id, slots.c.id == slot.id)
        .values(
            epoch=slot.epoch,
            ciphertext=slot.ciphertext,
            seal_tag=slot.seal_tag,
            expires_at_ms=slot.expires_at_ms,
        )
    )


_PUT = (
    slots.update()
    .where(slots.c.owner_id == sa.bindparam("of_owner"), slots.c.id == sa.bindparam("of_slot"))
    .values(
        epoch=sa.bindparam("new_epoch"),
        ciphertext=sa.bindparam("new_ciphertext"),
        seal_tag=sa.bindparam("new_seal_tag"),
    )
)


async def put_sealed_slots(connection: AsyncConnection, sealed: Sequence[Slot]) -> None:
    """Replace the sealed parts of many slots, in one statement."""
    rows = [
        {
            "of_owner": slot.owner_id,
            "of_slot": slot.id,
            "new_epoch": slot.epoch,
            "new_ciphertext": slot.ciphertext,
            "new_seal_tag": slot.seal_tag,
        }
        for slot in sealed
    ]
    if rows:
        await connection.execute(_PUT, rows)


async def move_slot_expiry(
    connection: AsyncConnection, owner_id: str, slot_id: str, expires_at_ms: int
) -> None:
    """Move a slot's end and leave its sealed part, which may have been renewed meanwhile."""
    await connection.execute(
        slots.update()
        .where(slots.c.owner_id == owner_id, slots.c.id == slot_id)
        .values(expires_at_ms=expires_at_ms)
    )


_SLOT = sa.select(slots).where(slots.c.look_up_id == sa.bindparam("look_up_id"))


async def find_slot(connection: AsyncConnection, look_up_id: bytes) -> Slot | None:
    """The slot of a presented secret, whoever owns it: the one query that has no owner yet."""
    row = (await connection.execute(_SLOT, {"look_up_id": look_up_id})).first()
    return _slot(row) if row else None


async def find_grant(connection: AsyncConnection, owner_id: str) -> Slot | None:
    """An owner's automation grant."""
    query = sa.select(slots).where(
        slots.c.owner_id == owner_id, slots.c.purpose == SlotPurpose.AUTOMATION
    )
    row = (await connection.execute(query)).first()
    return _slot(row) if row else None


async def list_slots(connection: AsyncConnection, owner_id: str) -> Sequence[Slot]:
    query = sa.select(slots).where(slots.c.owner_id == owner_id).order_by(slots.c.id)
    return [_slot(row) for row in await connection.execute(query)]


async def count_issued(connection: AsyncConnection, owner_id: str) -> int:
    """How many XAI API keys and invitations of an owner there are."""
    query = sa.select(sa.func.count()).where(
        slots.c.owner_id == owner_id,
        slots.c.purpose.in_((SlotPurpose.API_KEY, SlotPurpose.INVITATION)),
    )
    return int((await connection.execute(query)).scalar_one())


async def sessions_of(connection: AsyncConnection, owner_id: str, key_id: str) -> Sequence[Slot]:
    """The sessions that a key opened, the oldest first."""
    query = sa.select(slots).where(
        slots.c.owner_id == owner_id,
        slots.c.key_id == key_id,
        slots.c.purpose == SlotPurpose.SESSION,
    )
    return [_slot(row) for row in await connection.execute(query.order_by(slots.c.id))]


async def drop_slots(connection: AsyncConnection, owner_id: str, slot_ids: Iterable[str]) -> None:
    await connection.execute(
        slots.delete().where(slots.c.owner_id == owner_id, slots.c.id.in_(list(slot_ids)))
    )


async def expired_slots(
    connection: AsyncConnection,
    now_ms: int,
    purpose: SlotPurpose | None = None,
    latest_ms: int | None = None,
) -> Sequence[Slot]:
    """Slots, of any owner, whose time is over, or ends after the latest instant that is possible; of
    one purpose, or of any."""
    is_over = slots.c.expires_at_ms <= now_ms
    if latest_ms is not None:
        is_over = sa.or_(is_over, slots.c.expires_at_ms > latest_ms)
    query = sa.select(slots).where(is_over)
    if purpose is not None:
        query = query.where(slots.c.purpose == purpose)
    return [_slot(row) for row in await connection.execute(query)]
