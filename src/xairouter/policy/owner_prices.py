"""An owner's own prices: from the management document to integer rates.

The document maps a model pattern to USD per million tokens: ``input``, ``cached_input``,
``cache_write``, ``output``.
"""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from xairouter.domain.prices import Price, Rate, Rates
from xairouter.policy.pricing import NANO, OwnerPrices

UNITS = ("input", "cached_input", "cache_write", "output")
MOST = Decimal(1_000_000)


def read_prices(document: Mapping[str, Any]) -> OwnerPrices:
    """Compile a stored document; it was checked when it was written."""
    return OwnerPrices(
        {
            pattern: Price(
                "owner",
                (Rates({unit: Rate(nano(value)) for unit, value in rates.items()}),),
            )
            for pattern, rates in document.items()
        }
    )


def nano(value: object) -> int:
    """USD per million tokens as nano-dollars; raises ValueError if it is no sensible price."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise ValueError("a price must be a number")
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        raise ValueError("a price must be a number") from None
    if not amount.is_finite() or not 0 <= amount <= MOST:
        raise ValueError("a price must be between 0 and 1,000,000 USD per million tokens")
    return int((amount * NANO).to_integral_value())
