"""What hangs on a provider key: what was called with it, and what would stop without it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict

from xairouter.clock import now_ms
from xairouter.domain.accounts import ProviderKey
from xairouter.domain.permissions import Permission
from xairouter.domain.steps import Steps
from xairouter.manage.desk import Actor, Desk, require
from xairouter.manage.provider_keys import get_provider_key, list_provider_keys
from xairouter.manage.usage import known_cost
from xairouter.policy.catalogue import (
    catalogue_in_steps,
    listed_in_steps,
    read_name,
    serving_in_steps,
)
from xairouter.storage import rollups
from xairouter.turns import in_slices

DAY_MS = 86_400_000
IMPACT_DAYS = 7
_LOOKS_AT_ONCE = 4096
"""Keys and patterns looked at in one step."""
_LOOKS_A_NAME = 64


class KeyUse(TypedDict):
    """What was called with a provider key, its cost where a price was known."""

    calls: int
    errors: int
    cost_usd: float | None


class Impact(TypedDict):
    """What stops working without a key: accounts that used it and their calls of so many days, and
    models that no other active key serves."""

    days: int
    accounts: int
    calls: int
    models: list[str]


async def use_of_keys(desk: Desk, actor: Actor, since_ms: int) -> Mapping[str, KeyUse]:
    """Provider-key id → its use since an instant."""
    require(actor, Permission.PROVIDER_KEYS_READ)
    filters = rollups.Filters(from_ms=since_ms)
    async with desk.long_read(actor.owner_id) as connection:
        rows = await rollups.totals(connection, actor.owner_id, filters, "provider_key")
    return {
        row["group"]: {
            "calls": row["calls"],
            "errors": row["errors"] or 0,
            "cost_usd": known_cost(row),
        }
        for row in rows
        if isinstance(row["group"], str) and row["group"]
    }


async def last_uses(desk: Desk, actor: Actor, key_ids: Sequence[str]) -> Mapping[str, int]:
    """Provider-key id → when its last recorded call began, in milliseconds since 1970."""
    require(actor, Permission.PROVIDER_KEYS_READ)
    async with desk.long_read(actor.owner_id) as connection:
        return await rollups.last_uses(connection, actor.owner_id, "provider_key", key_ids)


async def impact(desk: Desk, actor: Actor, key_id: str) -> Impact:
    """What would stop working without a key."""
    require(actor, Permission.PROVIDER_KEYS_READ)
    key = await get_provider_key(desk, actor, key_id)
    filters = rollups.Filters(
        from_ms=now_ms() - IMPACT_DAYS * DAY_MS, equal={"provider_key_id": key_id}
    )
    async with desk.long_read(actor.owner_id) as connection:
        used = await rollups.totals(connection, actor.owner_id, filters, "account")
    stored = await list_provider_keys(desk, actor)
    lost = await in_slices(_lost(stored, key), actor.owner_id)
    return {
        "days": IMPACT_DAYS,
        "accounts": len(used),
        "calls": sum(row["calls"] for row in used),
        "models": lost,
    }


def _lost(stored: Iterable[ProviderKey], key: ProviderKey) -> Steps[list[str]]:
    """The models that no other active key serves; there may be a hundred thousand."""
    with_it = yield from catalogue_in_steps(stored)
    without = yield from catalogue_in_steps(one for one in stored if one.id != key.id)
    listed = yield from listed_in_steps(with_it)
    lost, looks, each = [], 0, _LOOKS_A_NAME + sum(map(len, without.globs.values()))
    for model, keys in listed.items():
        looks += len(keys)
        if any(one.id == key.id for one in keys):
            looks += each * len(key.endpoints)
            is_served = False
            for dialect in key.endpoints:
                named = read_name(without, dialect, model)
                is_served |= bool((yield from serving_in_steps(without, dialect, named)))
            if not is_served:
                lost.append(model)
        if looks >= _LOOKS_AT_ONCE:
            looks = 0
            yield
    return lost
