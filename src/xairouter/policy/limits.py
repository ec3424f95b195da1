"""What a call must fit into: the demands it makes on every account of its path.

A call counts against its account and every one above, as a whole and for each model pattern that
matches the model it is mapped to. Before it is sent, an estimate is reserved; afterwards what was
really used takes its place.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from xairouter.accounting.cost import rates_now, standard_rates
from xairouter.accounting.models import own_searches
from xairouter.accounting.reservation import (
    Estimate,
    Load,
    estimate,
    expected_output,
    knows_searches,
    unknown_kinds,
)
from xairouter.domain.accounts import Account
from xairouter.domain.calls import PLAIN, Match, Multipliers, OperationKind, Peek, Refusal, Route
from xairouter.domain.prices import Price
from xairouter.errors import ErrorCode
from xairouter.policy.access import most_output
from xairouter.policy.interface import Caller, OwnerView
from xairouter.policy.patterns import matches
from xairouter.policy.rules import Compiled, compile_text
from xairouter.policy.windows import LONG, MONEY, REQUESTS, RUNNING, TOKENS, WINDOWS, Unit

MOST_REMEMBERED = 32
"""Models whose limits a caller remembers."""
WHOLE = ""
"""Stands for an account as a whole in place of a model pattern."""
Key = tuple[str, str, str]
"""A counter: account, model pattern or ``WHOLE``, name of the window."""


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
    def unit(self) -> Unit:
        return WINDOWS[self.name].unit


class ToReserve(msgspec.Struct, frozen=True):
    """A call as far as it says what it may use: ``given`` is its input, as estimated, ``reserve`` the
    tokens of output that are reserved for what declares none; ``reads`` – its provider may read more
    than its body; ``is_kept`` – every route's provider keeps to the output that it declares."""

    match: Match
    peek: Peek
    more: Multipliers
    given: int
    makes_output: bool
    routes: tuple[Route, ...]
    reserve: int
    reads: bool = False
    is_kept: bool = True


def demands_of(caller: Caller, model: str | None, estimate: Estimate) -> tuple[Demand, ...]:
    """Every limit and budget on the caller's path that this call counts against."""
    limits = caller.limits.get(model)
    if limits is None:
        if len(caller.limits) >= MOST_REMEMBERED:
            caller.limits.clear()
        limits = caller.limits[model] = tuple(zip(*_limits_of(caller.path, model), strict=True))
    if not limits:
        return ()
    amounts = {
        REQUESTS: 1,
        RUNNING: 1,
        TOKENS: estimate.tokens,
        MONEY: estimate.nano or 0,
    }
    keys, units, most, shares = limits
    return tuple(map(Demand, keys, most, map(amounts.__getitem__, units), shares))


def long_counters(path: Iterable[tuple[Account, Compiled]]) -> Iterator[Key]:
    """The counters of a day, a month and all time that a path's rules name for accounts as a whole."""
    for account, made in path:
        for name, _ in (*made.rules.limits.items(), *made.rules.budget.items()):
            if name in LONG:
                yield account.id, WHOLE, name


def counters_of(accounts: Iterable[Account], model: str | None) -> tuple[Key, ...]:
    """The counters of tokens and money that a call to a model, by the last of some accounts, counts
    against."""
    path = [(account, compile_text(account.rules)) for account in accounts]
    return tuple(key for key, unit, *_ in _limits_of(path, model) if unit in (TOKENS, MONEY))


def _limits_of(
    path: Iterable[tuple[Account, Compiled]], model: str | None
) -> Iterator[tuple[Key, str, int, float | None]]:
    """(counter, what it counts, limit, share at which somebody is told) of each that a call to a
    model counts against."""
    for account, made in path:
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


def models_of(routes: Iterable[Route], others: Sequence[str] = ()) -> list[tuple[str, str]]:
    """(provider, model) of each route once, for looking up prices; ``others`` are what the request
    names besides, to any of the providers."""
    found = [(r.key.provider, r.model) for r in routes if r.model is not None]
    if others:
        found += [(r.key.provider, other) for r in routes for other in others]
    return list(dict.fromkeys(found))


def load_of(asked: ToReserve, output: int) -> Load:
    """What a call may use: its input, the output of one answer, and whatever multiplies them in the
    request, or in what its models do by themselves."""
    given, answers, more = asked.given, asked.peek.choices, asked.more
    searches = more.searches
    for route in asked.routes:
        if route.model:
            searches = max(searches, own_searches(route.model))
    for model in asked.peek.other_models:
        searches = max(searches, own_searches(model))
    if more is PLAIN:
        return Load(given, output, answers, None, searches)
    if asked.match.operation.name == OperationKind.COMPLETIONS:
        answers *= more.prompts
    output += more.thinking
    if more.compacts:
        answers *= 2
    return Load(given + more.token_ids, output, answers, more.word, searches, more.kinds)


def estimate_of(
    view: OwnerView, caller: Caller, asked: ToReserve, prices: Sequence[Price | None], now_ms: int
) -> Estimate | Refusal:
    """What is reserved for a call; a refusal under a budget where nobody knows what it may cost."""
    output = 0
    if asked.makes_output:
        declared = asked.peek.max_output_tokens
        bound = most_output(caller)
        output = expected_output(declared, bound, asked.reserve, asked.is_kept)
    load = load_of(asked, output)
    must_know = view.settings.unpriced != "allow" and has_budget(caller)
    if asked.peek.background and must_know and (asked.reads or load.searches):
        return _UNBOUNDED
    if must_know and (asked.more is not PLAIN or load.searches):
        refusal = unknown_multiplier(asked.more, load, prices, now_ms)
        if refusal is not None:
            return refusal
    likely = estimate(load, prices, reserve=asked.reserve, now_ms=now_ms)
    if must_know and likely.nano is None:
        return unpriced(asked.peek.model)
    return likely


def bounds_output(caller: Caller, peek: Peek, is_kept: bool) -> bool:
    """Whether the rules, or a declaration that its providers keep to, bound the output."""
    return most_output(caller) is not None or (peek.max_output_tokens is not None and is_kept)


def unknown_multiplier(
    more: Multipliers, load: Load, prices: Iterable[Price | None], now_ms: int
) -> Refusal | None:
    """The refusal, by name, of what multiplies a cost under a budget by nobody knows how much."""
    if more.unknown:
        return of_unknown_cost(f"“{more.unknown[0]}” costs is not known.", more.unknown[0])
    if not (load.word or load.searches or load.kinds):
        return None
    for price in filter(None, prices):
        rates = standard_rates(price, now_ms)
        if rates_now(price, load.word, now_ms) is None:
            return of_unknown_cost(
                f"“{load.word}” costs is not known for this model.", more.asked_in
            )
        if load.searches and not knows_searches(rates):
            return of_unknown_cost("a search costs is not known for this model.", "tools")
        for kind in unknown_kinds(rates, load.kinds):
            return of_unknown_cost(f"output of {kind} costs is not known for this model.", kind)
    return None


_UNBOUNDED = Refusal(
    ErrorCode.MODEL_UNPRICED,
    "The account has a budget, and what a response in the background costs is not known where its "
    "input does not stand in the body: it could go unfetched, and uncounted.",
    "background",
)


def of_unknown_cost(what: str, name: str | None) -> Refusal:
    """The refusal, under a budget, of what nobody knows the cost of."""
    return Refusal(ErrorCode.MODEL_UNPRICED, f"The account has a budget, and what {what}", name)


def unpriced(model: str | None) -> Refusal:
    """The refusal of a call under a budget whose cost nobody could foretell."""
    return Refusal(
        ErrorCode.MODEL_UNPRICED,
        f"No price is known for “{(model or '')[:128]}”, and the account has a budget.",
        "model",
    )


_CODES = {
    RUNNING: ErrorCode.CONCURRENCY_LIMITED,
    REQUESTS: ErrorCode.RATE_LIMITED,
    TOKENS: ErrorCode.TOKEN_LIMITED,
    MONEY: ErrorCode.BUDGET_EXHAUSTED,
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
