"""What there is to choose from: the models of an owner, and the known providers."""

from typing import Any

from xairouter.clock import now_ms
from xairouter.directory.prices import price_of
from xairouter.manage.desk import Actor, Desk, require
from xairouter.manage.views import usd
from xairouter.policy.pricing import rates_now
from xairouter.policy.routing import usable_models
from xairouter.providers.table import PROVIDERS
from xairouter.storage import owners


async def list_models(desk: Desk, actor: Actor) -> list[dict[str, Any]]:
    """Each model the account may use: where it goes, and its price in USD per million tokens."""
    require(actor, "models.read")
    view = await desk.directory.owner(actor.owner_id)
    items = []
    for name, keys in usable_models(view, actor.caller).items():
        price = price_of(view, desk.prices, keys[0].provider, name)
        rates = rates_now(price, None, now_ms()) if price else {}
        items.append(
            {
                "id": name,
                "level": min(key.level for key in keys),
                "providers": sorted({key.provider for key in keys}),
                "dialects": sorted({dialect for key in keys for dialect in key.endpoints}),
                "price": {unit: usd(rate.base) for unit, rate in rates.items()} if price else None,
            }
        )
    return items


def list_providers(actor: Actor) -> list[dict[str, Any]]:
    """The rows of the provider table."""
    require(actor, "providers.read")
    return [
        {
            "name": row.name,
            "title": row.title,
            "endpoints": dict(row.endpoints),
            "keys_url": row.keys_url,
            "usage_url": row.usage_url,
            "price_url": row.price_url,
            "docs": row.docs,
            "local": row.is_local,
        }
        for row in PROVIDERS.values()
    ]


async def seen_by_operator(desk: Desk, actor: Actor) -> bool:
    """Whether the operator saw the owner's first secrets, until the owner takes over."""
    async with desk.database.read() as connection:
        owner = await owners.get_owner(connection, actor.owner_id)
    return owner is not None and owner.seen_by_operator
