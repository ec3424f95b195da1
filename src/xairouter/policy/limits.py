"""What a call must fit into: the demands it makes on every account of its path.

A call counts against its account and every one above, as a whole and for each model pattern that
matches the model it is mapped to. Before it is sent, an estimate is reserved; afterwards what was
really used takes its place.
"""

import re
from collections.abc import Iterable, Iterator

import msgspec

from xairouter.domain.calls import Refusal, Route
from xairouter.domain.prices import Price
from xairouter.policy.interface import Caller
from xairouter.policy.patterns import matches
from xairouter.policy.pricing import rates_now
from xairouter.policy.windows import MONEY, REQUESTS, RUNNING, TOKENS, WINDOWS

BYTES_PER_TOKEN = 4
TOKENS_PER_IMAGE = 1600
MILLION = 10**6
MOST_REMEMBERED = 32
"""Models whose limits a caller remembers."""
WHOLE = ""
"""Stands for an account as a whole in place of a model pattern."""
Key = tuple[str, str, str]
"""A counter: account, model pattern or ``WHOLE``, name of the window."""

_ENCODED = re.compile(rb"(?:base64,|\")([A-Za-z0-9+/_\-]{1024,}={0,2})\"")
_LINKED = re.compile(rb'"(?:image_url|input_image|fileData|file_data)"\s*:|"type"\s*:\s*"image"')


class Estimate(msgspec.Struct, frozen=True):
    """What is reserved for a call: tokens for limits of tokens, nano-dollars for budgets (None: no
    price is known), zero for what costs nothing."""

    tokens: int = 0
    nano: int | None = 0


class Demand(msgspec.Struct, frozen=True):
    """One limit that a call must fit into: ``key`` is the counter that it is held against,
    ``amount`` what is reserved; at the share ``notify_at`` somebody is told."""

    key: Key
    limit: int
    amount: int
    notify_at: float | None = None

    @property
    def account_id(self) -> str:
        return self.key[0]

    @property
    def pattern(self) -> str:
        """A model pattern or ``WHOLE``."""
        return self.key[1]

    @property
    def name(self) -> str:
        """The window's."""
        return self.key[2]

    @property
    def unit(self) -> str:
        return WINDOWS[self.name].unit


def demands_of(caller: Caller, model: str | None, estimate: Estimate) -> tuple[Demand, ...]:
    """Every limit and budget on the caller's path that this call counts against."""
    limits = caller.limits.get(model)
    if limits is None:
        if len(caller.limits) >= MOST_REMEMBERED:
            caller.limits.clear()
        limits = caller.limits[model] = tuple(_limits_of(caller, model))
    amounts = {
        REQUESTS: 1,
        RUNNING: 1,
        TOKENS: estimate.tokens,
        MONEY: estimate.nano or 0,
    }
    return tuple(
        [Demand(key, most, amounts[unit], notify_at) for key, unit, most, notify_at in limits]
    )


def _limits_of(caller: Caller, model: str | None) -> Iterator[tuple[Key, str, int, float | None]]:
    """(counter, what it counts, limit, share at which somebody is told) of each that a call to a
    model counts against."""
    for account, made in caller.path:
        rules = made.rules
        chosen = [(WHOLE, rules.limits)]
        if model is not None:
            chosen += [one for one in rules.model_limits.items() if matches(one[0], model)]
        for pattern, some in chosen:
            for name, most in some.items():
                yield (account.id, pattern, name), WINDOWS[name].unit, most, None
        for name, most in rules.budget.items():
            yield (account.id, WHOLE, name), MONEY, most, rules.budget.notify_at


def has_budget(caller: Caller) -> bool:
    """Whether money is counted anywhere on the path."""
    return any(made.has_budget for _, made in caller.path)


def counts_anything(caller: Caller) -> bool:
    """Whether the path has any limit or budget; most have none, and then nothing is estimated."""
    return any(made.counts for _, made in caller.path)


def input_tokens_of(body: bytes) -> int:
    """An estimate of a request's input: a token for four bytes outside encoded data, and so many
    for each image or file."""
    encoded = 0
    attached = 0
    if len(body) > 2048:
        for found in _ENCODED.finditer(body):
            encoded += len(found.group(1))
            attached += 1
    attached = max(attached, sum(1 for _ in _LINKED.finditer(body)))
    return -(-(len(body) - encoded) // BYTES_PER_TOKEN) + TOKENS_PER_IMAGE * attached


def expected_output(declared: int | None, bound: int | None, reserve: int) -> int:
    """Tokens of output that a call may make: as declared, else as the rules bound it, else what is
    reserved for the undeclared."""
    return next((one for one in (declared, bound) if one is not None), reserve)


def estimate(
    given: int,
    output: int,
    prices: Iterable[Price | None],
    *,
    reserve: int,
    now_ms: int,
    choices: int = 1,
) -> Estimate:
    """What is reserved for so many tokens in, and out for each choice: limits of tokens reserve at
    most ``reserve`` of the output, budgets all of it at the dearest of ``prices``."""
    tokens = given + min(output, reserve) * choices
    return Estimate(tokens, dearest(prices, given, output * choices, now_ms))


def reserved_cost(price: Price, input_tokens: int, output_tokens: int, now_ms: int) -> int | None:
    """The most that so many tokens can cost at a price, in nano-dollars; None where a rate that is
    needed is not known. Cache writes may cost more than input, and a tier more than the base."""
    rates = rates_now(price, None, now_ms)
    given = [
        max(rate.base, rate.at(input_tokens))
        for unit, rate in rates.items()
        if unit in ("input", "cache_write", "cache_write_1h", "input_audio")
    ]
    made = [rates[unit].at(input_tokens) for unit in ("output", "output_audio") if unit in rates]
    if not given or (output_tokens and not made):
        return None
    requests = rates["requests"].base if "requests" in rates else 0
    total = input_tokens * max(given) + output_tokens * max(made, default=0) + requests
    return -(-total // MILLION)


def dearest(
    prices: Iterable[Price | None], input_tokens: int, output: int, now_ms: int
) -> int | None:
    """The most that the call can cost on any of its routes, None if one has no known price."""
    most = 0
    for price in prices:
        cost = None if price is None else reserved_cost(price, input_tokens, output, now_ms)
        if cost is None:
            return None
        most = max(most, cost)
    return most


def models_of(routes: Iterable[Route]) -> list[tuple[str, str]]:
    """(provider, model) of each route once, for looking up prices."""
    return list(dict.fromkeys((r.key.provider, r.model) for r in routes if r.model is not None))


def unpriced(model: str | None) -> Refusal:
    """The refusal of a call under a budget whose cost nobody could foretell."""
    return Refusal(
        "model_unpriced",
        f"No price is known for “{(model or '')[:128]}”, and the account has a budget.",
        "model",
    )


_CODES = {
    RUNNING: "concurrency_limited",
    REQUESTS: "rate_limited",
    TOKENS: "token_limited",
    MONEY: "budget_exhausted",
}
_WORDS = {
    "concurrency": "calls at one time",
    "rpm": "requests per minute",
    "rph": "requests per hour",
    "rpd": "requests per day",
    "tpm": "tokens per minute",
    "tph": "tokens per hour",
    "tpd": "tokens per day",
    "day": "US dollars per day",
    "month": "US dollars per month",
    "total": "US dollars in total",
}


def exceeded(caller: Caller, demand: Demand, retry_after: int | None) -> Refusal:
    """The refusal for a demand that does not fit."""
    name = next((a.name for a in caller.chain if a.id == demand.account_id), demand.account_id)
    limit = f"{demand.limit / 10**9:g}" if demand.unit == MONEY else f"{demand.limit}"
    what = f"{limit} {_WORDS[demand.name]}"
    if demand.pattern != WHOLE:
        what += f" for {demand.pattern[:64]}"
    message = f"The account “{name}” has used up its limit of {what}."
    if demand.amount > demand.limit and demand.unit in (TOKENS, MONEY):
        message = f"This call alone may need more than the account “{name}” may use: {what}."
    return Refusal(_CODES[demand.unit], message, retry_after=retry_after)
