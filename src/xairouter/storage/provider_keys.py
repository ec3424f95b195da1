"""Provider keys: sealed, with the metadata that is in view."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.domain.accounts import KeyHealth, ProviderKey, ProviderKeyStatus
from xairouter.storage.tables import provider_keys

_AS_JSON = ("endpoints", "auth", "models", "discovered")


class ProviderKeyChange(TypedDict, total=False):
    """The columns of a provider key that change."""

    name: str
    provider: str
    endpoints: Mapping[str, str]
    auth: Mapping[str, str]
    level: int
    weight: int
    models: tuple[str, ...] | None
    discovered: tuple[str, ...] | None
    status: ProviderKeyStatus
    revision: int
    sealed: bytes
    last4: str | None
    fingerprint: str
    health: KeyHealth
    health_why: str | None


def _columns(values: Mapping[str, object]) -> dict[str, object]:
    return {
        name: msgspec.json.encode(value).decode()
        if name in _AS_JSON and value is not None
        else value
        for name, value in values.items()
    }


def _provider_key(row: sa.Row[Any]) -> ProviderKey:
    values = {name: getattr(row, name) for name in ProviderKey.__dataclass_fields__}
    for name in _AS_JSON:
        if values[name] is not None:
            values[name] = msgspec.json.decode(values[name])
    for name in ("models", "discovered"):
        if values[name] is not None:
            values[name] = tuple(values[name])
    values["status"] = ProviderKeyStatus(row.status)
    values["health"] = KeyHealth(row.health)
    return ProviderKey(**values)


async def add(connection: AsyncConnection, key: ProviderKey) -> None:
    values = {name: getattr(key, name) for name in ProviderKey.__dataclass_fields__}
    await connection.execute(provider_keys.insert().values(**_columns(values)))


async def get(connection: AsyncConnection, owner_id: str, key_id: str) -> ProviderKey | None:
    row = (
        await connection.execute(
            sa.select(provider_keys).where(
                provider_keys.c.owner_id == owner_id, provider_keys.c.id == key_id
            )
        )
    ).first()
    return _provider_key(row) if row else None


async def list_all(connection: AsyncConnection, owner_id: str) -> Sequence[ProviderKey]:
    query = sa.select(provider_keys).where(provider_keys.c.owner_id == owner_id)
    return [
        _provider_key(row) for row in await connection.execute(query.order_by(provider_keys.c.id))
    ]


async def count(connection: AsyncConnection, owner_id: str) -> int:
    query = sa.select(sa.func.count()).where(provider_keys.c.owner_id == owner_id)
    return int((await connection.execute(query)).scalar_one())


async def update(
    connection: AsyncConnection, owner_id: str, key_id: str, **values: Unpack[ProviderKeyChange]
) -> None:
    await connection.execute(
        provider_keys.update()
        .where(provider_keys.c.owner_id == owner_id, provider_keys.c.id == key_id)
        .values(**_columns(values))
    )


_PUT = (
    provider_keys.update()
    .where(
        provider_keys.c.owner_id == sa.bindparam("of_owner"),
        provider_keys.c.id == sa.bindparam("of_key"),
    )
    .values(sealed=sa.bindparam("new_sealed"))
)


async def put_sealed(
    connection: AsyncConnection, owner_id: str, sealed: Mapping[str, bytes]
) -> None:
    """Replace what is sealed in many rows, by id, in one statement."""
    rows = [
        {"of_owner": owner_id, "of_key": key_id, "new_sealed": blob}
        for key_id, blob in sealed.items()
    ]
    if rows:
        await connection.execute(_PUT, rows)


async def delete(connection: AsyncConnection, owner_id: str, key_id: str) -> None:
    """Remove the row; ``secure_delete`` overwrites it, ``Database.forget_deleted`` empties the log."""
    await connection.execute(
        provider_keys.delete().where(
            provider_keys.c.owner_id == owner_id, provider_keys.c.id == key_id
        )
    )
