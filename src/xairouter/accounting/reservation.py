"""The most that a call can use, reserved before it is sent: tokens for limits, money for budgets."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from xairouter.accounting.cost import MILLION, rates_now, standard_rates
from xairouter.domain.prices import Price, Rate

BYTES_PER_TOKEN = 4
TOKENS_PER_IMAGE = 1600
TOKENS_PER_FILE = 30_000
"""For a document, film or sound that stands at an address: some ten pages, or under two minutes."""
_GIVEN = frozenset(
    {"input", "cache_write", "cache_write_1h", "input_audio", "input_image", "input_video"}
)
_MADE = frozenset({"output", "output_audio", "output_image", "output_video"})
"""Units of rates for what a model is given, and for what it makes."""


class Estimate(msgspec.Struct, frozen=True):
    """What is reserved for a call: tokens for limits of tokens, nano-dollars for budgets (None: no
    price is known), zero for what costs nothing; searches of the provider's, and how much of the
    nano-dollars is for them."""

    tokens: int = 0
    nano: int | None = 0
    searches: int = 0
    fees: int = 0


def expected_output(declared: int | None, bound: int | None, reserve: int, is_kept: bool) -> int:
    """Tokens of output that a call may make: as declared, else as the rules bound it, else what is
    reserved for the undeclared. A declaration that is not kept, as its provider does not know the
    field, bounds nothing; that of the rules stands where it is kept."""
    if declared is None or (bound is None and not is_kept):
        return max(declared or 0, reserve if bound is None else bound)
    return declared


class Load(msgspec.Struct, frozen=True):
    """What a call may use: tokens in, tokens out of each answer, how many answers; the word of the
    rates that it asks for, if any but the standard ones; searches of the provider's, and what else
    than text it asks for."""

    given: int
    output: int
    answers: int = 1
    word: str | None = None
    searches: int = 0
    kinds: tuple[str, ...] = ()


def estimate(load: Load, prices: Sequence[Price | None], *, reserve: int, now_ms: int) -> Estimate:
    """What is reserved for a call: limits of tokens reserve at most ``reserve`` of each answer,
    budgets all of it at the dearest of ``prices``."""
    tokens = load.given + min(load.output, reserve) * load.answers
    fees = _fees(prices, load, now_ms) if load.searches else 0
    return Estimate(tokens, dearest(prices, load, now_ms), load.searches, fees)


def _fees(prices: Iterable[Price | None], load: Load, now_ms: int) -> int:
    """The most that the searches alone can cost, in nano-dollars."""
    bare, most = msgspec.structs.replace(load, searches=0), 0
    for price in filter(None, prices):
        whole = reserved_cost(price, load, now_ms)
        rest = reserved_cost(price, bare, now_ms)
        if whole is not None and rest is not None:
            most = max(most, whole - rest)
    return most


def knows_searches(rates: Mapping[str, Rate]) -> bool:
    """Whether rates say what a search of the provider's costs; a fee for the request has it in it."""
    return "web_searches" in rates or "requests" in rates


def unknown_kinds(rates: Mapping[str, Rate], kinds: Iterable[str]) -> list[str]:
    """What is to be made and has no rate of its own; that of text is far below it."""
    return [kind for kind in kinds if f"output_{kind}" not in rates]


def reserved_cost(price: Price, load: Load, now_ms: int) -> int | None:
    """The most that a load can cost at a price, in nano-dollars; None where a rate that is needed is
    not known. Cache writes may cost more than input, and rates asked for by a word more than the
    standard ones, which hold where the provider has no room."""
    most = _cost_at(standard_rates(price, now_ms), load)
    if load.word is None or most is None:
        return most
    rates = rates_now(price, load.word, now_ms)
    asked = None if rates is None else _cost_at(rates, load)
    return None if asked is None else max(most, asked)


def _cost_at(rates: Mapping[str, Rate], load: Load) -> int | None:
    given, made, fees = 0, None, 0
    has_input = False
    for unit, rate in rates.items():
        at = rate.at(load.given) if rate.tiers else rate.base
        if unit in _MADE:
            made = at if made is None else max(made, at)
        elif unit in _GIVEN:
            given, has_input = max(given, rate.base, at), True
        elif unit == "requests":
            fees += at
        elif unit == "web_searches":
            fees += at * load.searches
    if not has_input or (load.output and made is None):
        return None
    if load.searches and not knows_searches(rates):
        return None
    if load.kinds and unknown_kinds(rates, load.kinds):
        return None
    tokens = load.given * given + load.output * load.answers * (made or 0)
    return -(-(tokens + fees) // MILLION)


def dearest(prices: Iterable[Price | None], load: Load, now_ms: int) -> int | None:
    """The most that the call can cost on any of its routes, None if one has no known price."""
    most = 0
    for price in prices:
        cost = None if price is None else reserved_cost(price, load, now_ms)
        if cost is None:
            return None
        most = max(most, cost)
    return most
