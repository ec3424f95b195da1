"""The price list (package ``genai-prices``), compiled once into integer rows.

The package's own calculator stays off the path; a property test holds this compilation to it.
Units per thousand become units per million, so that every rate has one scale.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from decimal import Decimal
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec
from typing import Any

from genai_prices import types as listed

from xairouter.accounting.words import joined
from xairouter.domain.prices import FEES, Condition, Price, Rate, Rates
from xairouter.providers.table import PROVIDERS

NANO = 10**9

_UNITS = {
    "input_mtok": ("input", 1),
    "cache_read_mtok": ("cached_input", 1),
    "cache_write_mtok": ("cache_write", 1),
    "cache_write_1h_mtok": ("cache_write_1h", 1),
    "output_mtok": ("output", 1),
    "input_audio_mtok": ("input_audio", 1),
    "cache_audio_read_mtok": ("cached_audio", 1),
    "output_audio_mtok": ("output_audio", 1),
    "input_image_mtok": ("input_image", 1),
    "cache_image_read_mtok": ("cached_image", 1),
    "output_image_mtok": ("output_image", 1),
    "input_video_mtok": ("input_video", 1),
    "output_video_mtok": ("output_video", 1),
    "web_searches_kcount": ("web_searches", 1000),
    "storage_searches_kcount": ("storage_searches", 1000),
    "requests_kcount": ("requests", 1000),
}
_LEFT_OUT = (
    (re.compile(r"search-(?:preview|api)|sonar.*-search$|:online$"), ("web_searches", "requests")),
    (re.compile(r"audio(?!.*transcri)"), ("output_audio",)),
)
"""Models by name, and the units of which one is billed for each call. Where the list has none of them,
what a call costs is not known. Source: platform.openai.com/docs/pricing."""
_SPEAKS = re.compile(r"\btts\b")
"""Models whose price of output is that of sound, which is all they make."""
_US_OF_1000 = 1100
"""What Anthropic charges for inference in the US alone, by thousandths of any rate of tokens; where
it is not offered, usage does not say ``us``. Source: platform.claude.com/docs, data residency."""


@dataclass(frozen=True, slots=True)
class _Entry:
    matches: Any
    price: Price | None
    """None where the list leaves out something that the model bills."""


class PriceList:
    """Prices by the list's provider name and a model's name; look-ups are remembered (bounded)."""

    MEMORY = 10_000

    def __init__(self, entries: Mapping[str, tuple[_Entry, ...]], version: str) -> None:
        self._entries = entries
        self._found: dict[tuple[str, str], Price | None] = {}
        self._dearest: dict[str, Price | None] = {}
        self.version = version

    def find(self, provider: str | None, model: str) -> Price | None:
        """The price of a model at a provider, None if the list does not know it."""
        if provider is None:
            return None
        key = (provider, model)
        if key in self._found:
            return self._found[key]
        name = model.lower()
        entries = self._entries.get(provider, ())
        price = next((entry.price for entry in entries if entry.matches.is_match(name)), None)
        if len(self._found) >= self.MEMORY:
            self._found.clear()
        self._found[key] = price
        return price

    def dearest(self, provider: str | None) -> Price | None:
        """The highest rate of each unit that any model of a provider has, tiers included: a bound
        for a model that the list does not know. None where the list does not know the provider."""
        if provider is None or provider not in self._entries:
            return None
        if provider not in self._dearest:
            self._dearest[provider] = _highest(self._entries[provider], self.version)
        return self._dearest[provider]


def _highest(entries: Iterable["_Entry"], label: str) -> Price | None:
    most: dict[str, int] = {}
    for price in filter(None, (entry.price for entry in entries)):
        for rates in price.standard:
            for unit, rate in rates.rates.items():
                top = max(rate.base, *(at for _, at in rate.tiers), 0)
                most[unit] = max(most.get(unit, 0), top)
    if not most:
        return None
    return Price(label, (Rates({unit: Rate(top) for unit, top in most.items()}),))


def compile_price_list() -> PriceList:
    """Read the installed package's data for the providers of our table; takes about a tenth of a second,
    once at start."""
    label = f"genai-prices {version('genai-prices')}"
    rows = _listed_providers()
    own = {row.id: _entries(row, label) for row in rows}
    served = {row.price_list for row in PROVIDERS.values()}
    compiled = {}
    for row in rows:
        if row.id in served:
            compiled[row.id] = own[row.id]
            # A cloud that resells others' models: theirs apply where it has no price of its own.
            for other in row.fallback_model_providers or ():
                compiled[row.id] += tuple(
                    entry for entry in own.get(other, ()) if entry not in compiled[row.id]
                )
    return PriceList(compiled, label)


def _listed_providers() -> list[listed.Provider]:
    """The package's data, as its module ``data`` makes it; not imported, since an imported module
    stays, and with it some 4 MB of prices as decimals."""
    spec = find_spec("genai_prices.data")
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError("The installed genai-prices has no module `data`.")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    found: list[listed.Provider] = module.providers
    return found


@cache
def _rate(base: int, tiers: tuple[tuple[int, int], ...] = ()) -> Rate:
    """Of some thousands only a few hundred differ: equal ones are one."""
    return Rate(base, tiers)


def _entries(provider: listed.Provider, label: str) -> tuple[_Entry, ...]:
    entries = []
    for model in provider.models:
        rows = (
            model.prices
            if isinstance(model.prices, list)
            else [listed.ConditionalPrice(prices=model.prices)]
        )
        standard = tuple(
            Rates(_rates(row.prices, model.id), _condition(row.constraint)) for row in rows
        )
        overrides = tuple(
            Rates(_rates(variant.prices, model.id), _condition(variant.constraint), word)
            for variant in model.price_variants or ()
            for word in [_word(variant.when)]
            if word is not None
        )
        if provider.id == "anthropic":
            overrides += tuple(_in_the_us(standard, overrides))
        is_whole = all(_is_whole(row.prices) for row in rows) and _names_fees(model.id, standard)
        price = Price(label, standard, overrides) if is_whole else None
        if standard:
            entries.append(_Entry(model.match, price))
    return _with_searches(entries)


def _with_searches(entries: Iterable[_Entry]) -> tuple[_Entry, ...]:
    """A provider that states the same fee for a search wherever it states one bills it whatever the
    model is: the list leaves it out of many rows. Source: the pricing pages of OpenAI ("web search,
    all models") and Anthropic."""
    prices = [entry.price for entry in entries if entry.price is not None]
    fees = {
        rates.rates["web_searches"]
        for price in prices
        for rates in price.standard
        if "web_searches" in rates.rates
    }
    if len(fees) != 1 or any("requests" in price.standard[0].rates for price in prices):
        return tuple(entries)
    fee = {"web_searches": fees.pop()}
    return tuple(
        entry
        if entry.price is None
        else replace(
            entry,
            price=replace(
                entry.price,
                standard=tuple(
                    rates
                    if fee.keys() <= rates.rates.keys()
                    else replace(rates, rates={**rates.rates, **fee})
                    for rates in entry.price.standard
                ),
            ),
        )
        for entry in entries
    )


def _word(when: Mapping[str, str]) -> str | None:
    """The word of a variant's rates; None of those that no reply tells."""
    [(name, value), *more] = when.items()
    return joined([value]) if name in ("service_tier", "speed", "processing") and not more else None


def _in_the_us(standard: tuple[Rates, ...], overrides: tuple[Rates, ...]) -> Iterator[Rates]:
    """Anthropic's rates of tokens for inference in the US alone."""
    # Of standard rates a later one wins, of the others the first.
    for rates in (*reversed(standard), *overrides):
        raised = {
            unit: _rate(
                rate.base * _US_OF_1000 // 1000,
                tuple((start, at * _US_OF_1000 // 1000) for start, at in rate.tiers),
            )
            for unit, rate in rates.rates.items()
            if unit not in FEES
        }
        yield Rates(raised, rates.condition, joined(["us", *(rates.tier or "").split("+")]))


def _is_whole(prices: listed.ModelPrice) -> bool:
    """Whether everything that a price names can be counted here."""
    return all(name in _UNITS for name, value in vars(prices).items() if value is not None)


def _names_fees(model: str, standard: tuple[Rates, ...]) -> bool:
    """Whether a price has the rates without which no call of a model can be priced."""
    return not any(
        pattern.search(model.lower()) and not any(unit in standard[0].rates for unit in units)
        for pattern, units in _LEFT_OUT
    )


def _rates(prices: listed.ModelPrice, model: str) -> Mapping[str, Rate]:
    rates = {}
    for name, value in vars(prices).items():
        if value is None or name not in _UNITS:
            continue
        unit, scale = _UNITS[name]
        if isinstance(value, listed.TieredPrices):
            tiers = tuple((tier.start, _integer(tier.price, scale)) for tier in value.tiers)
            rates[unit] = _rate(_integer(value.base, scale), tiers)
        else:
            rates[unit] = _rate(_integer(value, scale))
    if "output" in rates and _SPEAKS.search(model):
        rates.setdefault("output_audio", rates["output"])
    return rates


def _integer(price: Decimal, scale: int) -> int:
    """Dollars per (million / scale) units as nano-dollars per million units."""
    return int((Decimal(price) * scale * NANO).to_integral_value())


def _condition(constraint: object) -> Condition | None:
    if isinstance(constraint, listed.StartDateConstraint):
        midnight = datetime.combine(constraint.start_date, time(), UTC)
        return Condition(from_ms=int(midnight.timestamp() * 1000))
    if isinstance(constraint, listed.TimeOfDateConstraint):
        return Condition(
            day_from_ms=_of_day(constraint.start_time), day_until_ms=_of_day(constraint.end_time)
        )
    return None


def _of_day(moment: time) -> int:
    """A time of day as milliseconds of the UTC day; a naive one is UTC already."""
    offset = moment.utcoffset()
    seconds = moment.hour * 3600 + moment.minute * 60 + moment.second
    if offset is not None:
        seconds -= int(offset.total_seconds())
    return seconds % 86_400 * 1000
