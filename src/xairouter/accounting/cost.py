"""From tokens to money, in integers.

A rate is nano-dollars per million units (so $2.50 per million tokens is 2 500 000 000); a cost is
nano-dollars. A missing rate for a part of the input makes it fall back to its broader rate (cached
input to input). Where what was made, or a fee, has no rate, or the reply says that it was served at
rates that nobody knows, the cost is unknown: never zero, never the standard one.
"""

from collections.abc import Callable, Mapping

import msgspec

from xairouter.accounting.words import NO_DEARER, rate_word
from xairouter.domain.calls import Usage
from xairouter.domain.prices import FEES, Price, Rate

NANO = 10**9
MILLION = 10**6
_OF_XAI = "server_side_tool_usage_details."
SEARCHES = (
    ("server_tool_use.web_search_requests",),
    ("web_search_calls",),
    ("num_search_queries",),
    ("num_sources_used",),
    (_OF_XAI + "web_search_calls", _OF_XAI + "x_search_calls"),
)
"""Where a usage says how often its provider searched: each a sum, of which the largest holds."""
_USUAL = frozenset({None, "default", "standard"})
"""Service tiers of nearly all replies, of which there is nothing to find out."""
_UNPRICED = (
    "code_interpreter_calls",
    _OF_XAI + "code_interpreter_calls",
    "image_generation_calls",
    "other_iterations",
)
"""What a provider bills besides, at rates that no price list has."""
_MOVES = (
    ("cache_write_1h", "cache_write", ("cache_creation.ephemeral_1h_input_tokens",)),
    (
        "input_audio",
        "input",
        (
            "prompt_tokens_details.audio_tokens",
            "input_tokens_details.audio_tokens",
            "promptTokensDetails.AUDIO",
        ),
    ),
    (
        "input_image",
        "input",
        (
            "prompt_tokens_details.image_tokens",
            "input_tokens_details.image_tokens",
            "promptTokensDetails.IMAGE",
        ),
    ),
    ("input_video", "input", ("promptTokensDetails.VIDEO",)),
    ("cached_audio", "cached_input", ("cacheTokensDetails.AUDIO",)),
    ("cached_image", "cached_input", ("cacheTokensDetails.IMAGE",)),
)
"""Parts of the input that some rates tell apart: unit, broader unit, where usage says how much."""
_MADE = (
    (
        "output_audio",
        (
            "completion_tokens_details.audio_tokens",
            "output_tokens_details.audio_tokens",
            "candidatesTokensDetails.AUDIO",
        ),
    ),
    (
        "output_image",
        (
            "completion_tokens_details.image_tokens",
            "output_tokens_details.image_tokens",
            "candidatesTokensDetails.IMAGE",
        ),
    ),
    ("output_video", ("candidatesTokensDetails.VIDEO",)),
)
"""Parts of the output: many times as dear as text, so that its rate never stands in for theirs."""


def standard_rates(price: Price, now_ms: int) -> Mapping[str, Rate]:
    """The standard rates that hold now."""
    if len(price.standard) == 1:
        return price.standard[0].rates
    chosen = price.standard[0].rates
    for entry in price.standard:
        if entry.condition is None or entry.condition.holds(now_ms):
            chosen = entry.rates
    return chosen


def rates_now(price: Price, word: str | None, now_ms: int) -> Mapping[str, Rate] | None:
    """The rates that hold now, for a word that says which (None: the standard ones); None where they
    are not known."""
    chosen = standard_rates(price, now_ms)
    if word is None:
        return chosen
    own: dict[str, Rate] = {}
    for entry in price.overrides:
        if entry.tier == word and (entry.condition is None or entry.condition.holds(now_ms)):
            for unit, rate in entry.rates.items():
                own.setdefault(unit, rate)
    if own:
        return {unit: rate for unit, rate in chosen.items() if unit in FEES} | own
    return chosen if word in NO_DEARER else None


class Cost(msgspec.Struct, frozen=True):
    """What a call cost in nano-dollars, None where unknown, and the rates that were applied; what it
    cost at least."""

    nano: int | None
    rates: Mapping[str, int]
    at_least: int = 0


NOTHING, UNKNOWN = Cost(0, {}), Cost(None, {})
"""The cost of what no provider was asked, and of what nobody has a price for."""


def cost_of(price: Price, usage: Usage, now_ms: int) -> Cost:
    """The cost of reported usage; unknown where usage, or a rate that is needed, is unknown."""
    if not usage.is_reported:
        return UNKNOWN
    rates, is_known = standard_rates(price, now_ms), True
    if usage.detail or usage.service_tier not in _USUAL:
        word = rate_word(usage)
        own = None if word is None else rates_now(price, word, now_ms)
        is_known = word is None or own is not None
        rates = rates if own is None else own
    given = usage.input_tokens or 0
    total, applied = 0, {}
    for unit, amount in _parts(usage, rates).items():
        if amount == 0:
            continue
        rate = rates.get(unit)
        if rate is None:
            is_known = False
            continue
        applied[unit] = at = rate.at(given) if rate.tiers else rate.base
        total += amount * at
    # Half up; all factors are non-negative.
    nano = (total + MILLION // 2) // MILLION
    return Cost(nano, applied, nano) if is_known else Cost(None, {}, nano)


def _parts(usage: Usage, rates: Mapping[str, Rate]) -> dict[str, int]:
    """Split input and output into disjoint parts, each under the narrowest unit with a rate."""
    detail = usage.detail
    parts = {"input": usage.input_tokens or 0, "output": usage.output_tokens or 0}
    if "requests" in rates:
        parts["requests"] = 1
    if not (usage.cached_input_tokens or usage.cache_write_tokens or detail):
        return parts

    def move(unit: str, amount: int, source: str) -> None:
        moved = min(max(amount, 0), parts.get(source, 0))
        if moved:
            parts[source] -= moved
            parts[unit] = parts.get(unit, 0) + moved

    if usage.cached_input_tokens and "cached_input" in rates:
        move("cached_input", usage.cached_input_tokens, "input")
    if usage.cache_write_tokens and "cache_write" in rates:
        move("cache_write", usage.cache_write_tokens, "input")
    if detail:
        _split_by_detail(detail, rates, move)
        parts |= _fees(detail, rates)
    return parts


def _split_by_detail(
    detail: Mapping[str, int | float | str],
    rates: Mapping[str, Rate],
    move: Callable[[str, int, str], None],
) -> None:
    """What only single providers tell apart."""
    for unit, source, names in _MOVES:
        if unit in rates:
            move(unit, _whole(detail, *names), source)
    for unit, names in _MADE:
        move(unit, _whole(detail, *names), "output")


def _fees(detail: Mapping[str, int | float | str], rates: Mapping[str, Rate]) -> dict[str, int]:
    """How often what is no token was used; a fee for the request has the searches in it."""
    found = {name: _whole(detail, name) for name in _UNPRICED}
    found["storage_searches"] = _whole(detail, "file_search_calls", _OF_XAI + "file_search_calls")
    if "requests" not in rates:
        found["web_searches"] = max(
            sum(_whole(detail, name) for name in names) for names in SEARCHES
        )
    return found


def _whole(detail: Mapping[str, int | float | str], *names: str) -> int:
    for name in names:
        value = detail.get(name)
        if isinstance(value, int):
            return value
    return 0
