"""What a model costs for one owner: the owner's own price over the price list."""

from collections.abc import Iterable, Sequence

from xairouter.accounting.cost import UNKNOWN, cost_of
from xairouter.accounting.counts import settled, with_cost
from xairouter.directory.directory import Directory
from xairouter.domain.calls import Route, Usage
from xairouter.domain.prices import Price
from xairouter.domain.records import Settlement, UsageRecord
from xairouter.errors import StorageError
from xairouter.policy.interface import OwnerView
from xairouter.policy.limits import models_of
from xairouter.providers.prices import PriceList
from xairouter.providers.table import provider_row


def price_of(view: OwnerView, listed: PriceList, provider: str, model: str) -> Price | None:
    """The price of a model at a provider (a name of the provider table), None if unknown."""
    own = view.prices.find(model)
    return own or listed.find(provider_row(provider).price_list, model)


def prices_to_reserve(
    view: OwnerView, listed: PriceList, routes: Iterable[Route], others: Sequence[str] = ()
) -> list[Price | None]:
    """A price for each model that a plan may use; ``others`` are what the request names besides, any
    of which its provider may take. Where the owner's setting is to estimate unknown
    ones, the provider's highest listed rates stand in; None where there is none either."""
    found: list[Price | None] = []
    for provider, model in models_of(routes, others):
        price = price_of(view, listed, provider, model)
        if price is None and view.settings.unpriced == "estimate":
            price = listed.dearest(provider_row(provider).price_list)
        found.append(price)
    return found


def is_unpriced(
    view: OwnerView, listed: PriceList, routes: Iterable[Route], others: Sequence[str] = ()
) -> bool:
    """Whether a model that a plan may use has no known price."""
    return any(
        price_of(view, listed, provider, model) is None
        for provider, model in models_of(routes, others)
    )


async def priced(directory: Directory, listed: PriceList, record: UsageRecord) -> UsageRecord:
    """A record that was never finished, with the cost of what is known of it at its owner's prices;
    as it is where there are none."""
    if record.provider is None or record.model_used is None:
        return record
    try:
        view = await directory.owner(record.owner_id)
    except StorageError:
        return record
    price = price_of(view, listed, record.provider, record.model_used)
    if price is None:
        return record
    usage = Usage(
        input_tokens=record.input_tokens,
        cached_input_tokens=record.cached_input_tokens,
        cache_write_tokens=record.cache_write_tokens,
        output_tokens=record.output_tokens,
        detail=record.usage_detail or {},
        service_tier=record.service_tier,
    )
    return with_cost(record, cost_of(price, usage, record.started_at_ms), price.version)


async def settled_at_price(
    directory: Directory, listed: PriceList, record: UsageRecord, settlement: Settlement
) -> UsageRecord:
    """A record as a later statement settles it, with the cost at its owner's prices: by the name asked
    of the provider, else the name told."""
    usage = settlement.usage
    try:
        view = await directory.owner(record.owner_id)
    except StorageError:  # An owner that is gone has no prices.
        return settled(record, usage, UNKNOWN, None)
    for model in (record.model_used, usage.model):
        if record.provider is None or model is None:
            continue
        price = price_of(view, listed, record.provider, model)
        if price is not None:
            cost = cost_of(price, usage, record.started_at_ms)
            return settled(record, usage, cost, price.version)
    return settled(record, usage, UNKNOWN, None)
