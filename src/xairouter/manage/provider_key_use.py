"""What hangs on a provider key: what was called with it, and what would stop without it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from xairouter.clock import now_ms
from xairouter.domain.accounts import DISABLED
from xairouter.manage.desk import Actor, Desk, require
from xairouter.manage.provider_keys import get_provider_key, list_provider_keys
from xairouter.manage.usage import known_cost
from xairouter.policy.catalogue import compile_catalogue, listed_models, read_name, serving
from xairouter.storage import rollups

DAY_MS = 86_400_000
IMPACT_DAYS = 7


async def use_of_keys(desk: Desk, actor: Actor, since_ms: int) -> Mapping[str, Mapping[str, Any]]:
    """Provider-key id → ``calls``, ``errors``, ``cost_usd`` since an instant."""
    require(actor, "provider_keys.read")
    filters = rollups.Filters(from_ms=since_ms)
    async with desk.database.read() as connection:
        rows = await rollups.totals(connection, actor.owner_id, filters, "provider_key")
    return {
        row["group"]: {
            "calls": row["calls"],
            "errors": row["errors"] or 0,
            "cost_usd": known_cost(row),
        }
        for row in rows
        if row["group"]
    }


async def last_uses(desk: Desk, actor: Actor, key_ids: Sequence[str]) -> Mapping[str, int]:
    """Provider-key id → when its last recorded call began, in milliseconds since 1970."""
    require(actor, "provider_keys.read")
    async with desk.database.read() as connection:
        return await rollups.last_uses(connection, actor.owner_id, "provider_key", key_ids)


async def impact(desk: Desk, actor: Actor, key_id: str) -> dict[str, Any]:
    """What stops working without a key: ``accounts`` that used it and their ``calls`` of the last
    seven days, and the ``models`` that no other active key serves."""
    require(actor, "provider_keys.read")
    key = await get_provider_key(desk, actor, key_id)
    filters = rollups.Filters(
        from_ms=now_ms() - IMPACT_DAYS * DAY_MS, equal={"provider_key_id": key_id}
    )
    async with desk.database.read() as connection:
        used = await rollups.totals(connection, actor.owner_id, filters, "account")
    stored = await list_provider_keys(desk, actor)
    with_it = compile_catalogue(stored)
    without = compile_catalogue(
        replace(one, status=DISABLED) if one.id == key.id else one for one in stored
    )
    lost = []
    for model, keys in listed_models(with_it).items():
        if any(one.id == key.id for one in keys) and not any(
            serving(without, dialect, read_name(without, dialect, model))
            for dialect in key.endpoints
        ):
            lost.append(model)
    return {
        "days": IMPACT_DAYS,
        "accounts": len(used),
        "calls": sum(row["calls"] for row in used),
        "models": lost,
    }
