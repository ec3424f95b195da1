"""What a model costs for one owner: the owner's own price over the price list."""

from collections.abc import Iterable

from xairouter.domain.calls import Route
from xairouter.domain.prices import Price
from xairouter.policy.interface import OwnerView
from xairouter.policy.limits import models_of
from xairouter.providers.prices import PriceList
from xairouter.providers.table import provider_row


def price_of(view: OwnerView, listed: PriceList, provider: str, model: str) -> Price | None:
    """The price of a model at a provider (a name of the provider table), None if unknown."""
    own = view.prices.find(model)
    return own or listed.find(provider_row(provider).price_list, model)


def prices_to_reserve(
    view: OwnerView, listed: PriceList, routes: Iterable[Route]
) -> list[Price | None]:
    """A price for each model that a plan may use. Where the owner's setting is to estimate unknown
    ones, the provider's highest listed rates stand in; None where there is none either."""
    found: list[Price | None] = []
    for provider, model in models_of(routes):
        price = price_of(view, listed, provider, model)
        if price is None and view.settings.unpriced == "estimate":
            price = listed.dearest(provider_row(provider).price_list)
        found.append(price)
    return found


def is_unpriced(view: OwnerView, listed: PriceList, routes: Iterable[Route]) -> bool:
    """Whether a model that a plan may use has no known price."""
    return any(
        price_of(view, listed, provider, model) is None for provider, model in models_of(routes)
    )
