"""An owner's own prices: from the management document to integer rates.

The document maps a model pattern to USD per million tokens, and per thousand of what is no token, by
unit. ``service_tiers`` of a pattern maps words (``accounting/words.py``) to such units again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from xairouter.accounting.cost import NANO
from xairouter.accounting.words import joined
from xairouter.domain.prices import FEES, Price, Rate, Rates
from xairouter.policy.patterns import matches

UNITS = ("input", "cached_input", "cache_write", "output")
"""Those that every model has."""
ALL_UNITS = (
    *UNITS,
    "cache_write_1h",
    "input_audio",
    "cached_audio",
    "output_audio",
    "input_image",
    "cached_image",
    "output_image",
    "input_video",
    "output_video",
    *sorted(FEES),
)
TIERS = "service_tiers"
MOST_TIERS = 16
MOST = Decimal(1_000_000)
MOST_REMEMBERED = 1024
"""Models whose price an owner's own list has found out and remembers."""


@dataclass(frozen=True, slots=True)
class OwnerPrices:
    """An owner's own prices over the price list: pattern → price; exact, then longest pattern."""

    by_pattern: Mapping[str, Price] = field(default_factory=dict)
    patterns: tuple[str, ...] = field(default=(), init=False, compare=False, repr=False)
    """Those with a star, the longest first: what a look-up may have to try."""
    _found: dict[str, Price | None] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def __post_init__(self) -> None:
        patterns = sorted((one for one in self.by_pattern if "*" in one), key=len, reverse=True)
        object.__setattr__(self, "patterns", tuple(patterns))

    def find(self, model: str) -> Price | None:
        exact = self.by_pattern.get(model)
        if exact is not None or not self.patterns:
            return exact
        if model in self._found:
            return self._found[model]
        hit = next((pattern for pattern in self.patterns if matches(pattern, model)), None)
        found = self.by_pattern[hit] if hit is not None else None
        if len(self._found) >= MOST_REMEMBERED:
            self._found.clear()
        self._found[model] = found
        return found


def read_prices(document: Mapping[str, Any]) -> OwnerPrices:
    """Compile a stored document; it was checked when it was written."""
    return OwnerPrices(
        {
            pattern: Price(
                "owner",
                (Rates(_rates(rates)),),
                tuple(
                    Rates(_rates(of_word), None, joined(word.split("+")))
                    for word, of_word in rates.get(TIERS, {}).items()
                ),
            )
            for pattern, rates in document.items()
        }
    )


def _rates(document: Mapping[str, Any]) -> Mapping[str, Rate]:
    return {
        unit: Rate(nano(value) * (1000 if unit in FEES else 1))
        for unit, value in document.items()
        if unit != TIERS
    }


def faults_of(rates: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, str, bool]]:
    """(where, what is wrong, whether it is no field at all) of a pattern's rates."""
    for unit, value in rates.items():
        where = f"{place}{unit[:32]}"
        if unit == TIERS and not place:
            yield from _faults_of_tiers(value)
        elif unit not in ALL_UNITS:
            yield where, f"units are {', '.join(ALL_UNITS)}", True
        else:
            try:
                nano(value)
            except ValueError as error:
                yield where, str(error), False


def _faults_of_tiers(tiers: object) -> Iterator[tuple[str, str, bool]]:
    if not isinstance(tiers, Mapping) or len(tiers) > MOST_TIERS:
        yield TIERS, f"words, at most {MOST_TIERS}, with an object of units each", False
        return
    for word, rates in tiers.items():
        where = f"{TIERS}.{word[:32]}"
        if len(word) > 64 or joined(word.split("+")) is None:
            yield where, "a word of other rates than the standard ones", False
        elif not isinstance(rates, Mapping):
            yield where, "a price is an object of units", False
        else:
            yield from faults_of(rates, f"{where}.")


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
