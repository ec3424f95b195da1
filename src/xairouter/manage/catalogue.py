"""What there is to choose from: the models of an owner, and the known providers."""

from collections.abc import Generator, Mapping
from itertools import islice
from typing import TypedDict

import msgspec

from xairouter.accounting.cost import standard_rates
from xairouter.clock import now_ms
from xairouter.directory.prices import price_of
from xairouter.domain.accounts import ProviderKey
from xairouter.domain.permissions import Permission
from xairouter.manage.desk import Actor, Desk, require
from xairouter.manage.views import NANO
from xairouter.policy.interface import OwnerView
from xairouter.policy.routing import usable_in_steps
from xairouter.providers.prices import PriceList
from xairouter.providers.table import PROVIDERS
from xairouter.storage import owners
from xairouter.turns import in_slices

_LOOKS_AT_ONCE = 4096
"""Price patterns and keys looked at in one step."""
_LOOKS_A_NAME = 64
"""What a model takes beside these: its look-up in the price list."""
_ITEMS_AT_ONCE = 512


class ModelView(TypedDict):
    """A model that an account may use: where it goes, and its price in USD per million tokens."""

    id: str
    level: int
    providers: list[str]
    dialects: list[str]
    price: dict[str, float] | None


class ProviderView(TypedDict):
    """A row of the provider table; ``local`` is a server of one's own."""

    name: str
    title: str
    endpoints: dict[str, str]
    keys_url: str | None
    usage_url: str | None
    price_url: str | None
    docs: str | None
    local: bool


async def list_models(desk: Desk, actor: Actor, most: int | None = None) -> list[ModelView]:
    """Each model the account may use; of many the first ``most``."""
    require(actor, Permission.MODELS_READ)
    view = await desk.directory.owner(actor.owner_id)
    usable = await in_slices(usable_in_steps(view, actor.caller), actor.owner_id)
    return await in_slices(_items(view, desk.prices, usable, most), actor.owner_id)


async def encoded_models(desk: Desk, actor: Actor) -> bytes:
    """The same as the JSON of a whole page; there may be a hundred thousand."""
    items = await list_models(desk, actor)
    return await in_slices(_encoded(items), actor.owner_id)


def _items(
    view: OwnerView,
    listed: PriceList,
    usable: Mapping[str, tuple[ProviderKey, ...]],
    most: int | None,
) -> Generator[None, None, list[ModelView]]:
    items: list[ModelView] = []
    looks = 0
    now = now_ms()
    for name, keys in islice(usable.items(), most):
        price = price_of(view, listed, keys[0].provider, name)
        rates = standard_rates(price, now) if price else {}
        items.append(
            {
                "id": name,
                "level": min(key.level for key in keys),
                "providers": sorted({key.provider for key in keys}),
                "dialects": sorted({dialect for key in keys for dialect in key.endpoints}),
                "price": {unit: rate.base / NANO for unit, rate in rates.items()}
                if price
                else None,
            }
        )
        looks += _LOOKS_A_NAME + len(view.prices.patterns) + len(keys)
        if looks >= _LOOKS_AT_ONCE:
            looks = 0
            yield
    return items


def _encoded(items: list[ModelView]) -> Generator[None, None, bytes]:
    parts: list[msgspec.Raw] = []
    for item in items:
        parts.append(msgspec.Raw(msgspec.json.encode(item)))
        if len(parts) % _ITEMS_AT_ONCE == 0:
            yield
    return msgspec.json.encode({"items": parts, "next_cursor": None})


def list_providers(actor: Actor) -> list[ProviderView]:
    """The rows of the provider table."""
    require(actor, Permission.PROVIDERS_READ)
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
