"""From tokens to money, in integers.

A rate is nano-dollars per million units (so $2.50 per million tokens is 2 500 000 000); a cost is
nano-dollars. A missing rate for something that was used makes the part fall back to its broader
rate (cached input to input), and no rate at all makes the cost unknown: never zero.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from xairouter.domain.calls import Usage
from xairouter.domain.prices import Price, Rate
from xairouter.policy.patterns import matches

NANO = 10**9
MILLION = 10**6
MOST_REMEMBERED = 1024
"""Models whose price an owner's own list has found out and remembers."""


@dataclass(frozen=True, slots=True)
class OwnerPrices:
    """An owner's own prices over the price list: pattern → price; exact, then longest pattern."""

    by_pattern: Mapping[str, Price] = field(default_factory=dict)
    _found: dict[str, Price | None] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    def find(self, model: str) -> Price | None:
        exact = self.by_pattern.get(model)
        if exact is not None or not self.by_pattern:
            return exact
        if model in self._found:
            return self._found[model]
        hits = [pattern for pattern in self.by_pattern if matches(pattern, model)]
        found = self.by_pattern[max(hits, key=len)] if hits else None
        if len(self._found) >= MOST_REMEMBERED:
            self._found.clear()
        self._found[model] = found
        return found


def rates_now(price: Price, tier: str | None, now_ms: int) -> Mapping[str, Rate]:
    """The rates that hold now for a service tier."""
    chosen = price.standard[0].rates
    for entry in price.standard:
        if entry.condition is None or entry.condition.holds(now_ms):
            chosen = entry.rates
    extra: dict[str, Rate] = {}
    for entry in price.overrides:
        if entry.tier == tier and (entry.condition is None or entry.condition.holds(now_ms)):
            for unit, rate in entry.rates.items():
                extra.setdefault(unit, rate)
    return {**chosen, **extra} if extra else chosen


class Cost(msgspec.Struct, frozen=True):
    """What a call cost in nano-dollars, None where unknown, and the rates that were applied."""

    nano: int | None
    rates: Mapping[str, int]


def cost_of(price: Price, usage: Usage, now_ms: int) -> Cost:
    """The cost of reported usage; unknown where usage, or a rate that is needed, is unknown."""
    if not usage.is_reported:
        return Cost(None, {})
    rates = rates_now(price, usage.service_tier, now_ms)
    given = usage.input_tokens or 0
    total, applied = 0, {}
    for unit, amount in _parts(usage, rates).items():
        if amount == 0:
            continue
        rate = rates.get(unit)
        if rate is None:
            return Cost(None, {})
        applied[unit] = rate.at(given)
        total += amount * applied[unit]
    # Half up; all factors are non-negative.
    return Cost((total + MILLION // 2) // MILLION, applied)


def _parts(usage: Usage, rates: Mapping[str, Rate]) -> dict[str, int]:
    """Split input and output into disjoint parts, each under the narrowest unit with a rate."""
    detail = usage.detail
    parts = {"input": usage.input_tokens or 0, "output": usage.output_tokens or 0}

    def move(unit: str, amount: int, source: str) -> None:
        moved = min(max(amount, 0), parts.get(source, 0))
        if moved and unit in rates:
            parts[source] -= moved
            parts[unit] = parts.get(unit, 0) + moved

    if usage.cached_input_tokens:
        move("cached_input", usage.cached_input_tokens, "input")
    if usage.cache_write_tokens:
        move("cache_write", usage.cache_write_tokens, "input")
    if detail:
        _move_detail(detail, move)
    # Rates per thousand are compiled to rates per million units.
    if "web_searches" in rates:
        parts["web_searches"] = _whole(detail, "server_tool_use.web_search_requests")
    if "requests" in rates:
        parts["requests"] = 1
    return parts


def _move_detail(
    detail: Mapping[str, int | float | str], move: Callable[[str, int, str], None]
) -> None:
    """What only single providers tell apart."""
    move(
        "cache_write_1h", _whole(detail, "cache_creation.ephemeral_1h_input_tokens"), "cache_write"
    )
    move(
        "input_audio",
        _whole(
            detail,
            "prompt_tokens_details.audio_tokens",
            "input_tokens_details.audio_tokens",
            "promptTokensDetails.AUDIO",
        ),
        "input",
    )
    move("cached_audio", _whole(detail, "cacheTokensDetails.AUDIO"), "cached_input")
    move(
        "output_audio",
        _whole(
            detail,
            "completion_tokens_details.audio_tokens",
            "output_tokens_details.audio_tokens",
            "candidatesTokensDetails.AUDIO",
        ),
        "output",
    )


def _whole(detail: Mapping[str, int | float | str], *names: str) -> int:
    for name in names:
        value = detail.get(name)
        if isinstance(value, int):
            return value
    return 0
