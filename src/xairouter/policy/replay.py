"""Recorded calls against other rules and routing: what would have been refused, or gone elsewhere.

Pure: records come in the order in which they began, as tuples of ``FIELDS``. Access and routing are
decided once for each combination that occurs; limits and budgets are played through in time, with
what each call counted for, and what was reserved for it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from xairouter.accounting.cost import cost_of, rates_now
from xairouter.accounting.reservation import Estimate
from xairouter.accounting.words import rate_word
from xairouter.domain.accounts import Account, ApiKey, KeyScope, KeyStatus
from xairouter.domain.calls import Plan, Refusal, Usage
from xairouter.domain.prices import Price
from xairouter.domain.records import Outcome
from xairouter.policy import access
from xairouter.policy.interface import Caller, OwnerView, Question
from xairouter.policy.limits import (
    WHOLE,
    Demand,
    demands_of,
    exceeded,
    has_budget,
    models_of,
    of_unknown_cost,
    unpriced,
)
from xairouter.policy.replay_meter import Meter
from xairouter.policy.routing import choose, find_ways
from xairouter.policy.windows import (
    EVER,
    MONEY,
    REQUESTS,
    RUNNING,
    TOKENS,
    WINDOWS,
)

FIELDS = (
    "call_id",
    "account_id",
    "client_ip",
    "path",
    "dialect",
    "model_asked",
    "max_output_tokens",
    "outcome",
    "attempts",
    "started_at_ms",
    "total_ms",
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "cost_nano",
    "service_tier",
    "usage_detail",
    "reserved_tokens",
    "reserved_nano",
    "counted_tokens",
    "counted_nano",
)
MOST_EXAMPLES = 20
MOST_REMEMBERED = 200_000
FindPrice = Callable[[str, str], Price | None]
"""(provider, model) → its price."""


@dataclass(frozen=True, slots=True)
class World:
    """Rules and routing as they are, or as they would be.

    Each part of a decision is remembered for what it depends on: addresses vary from call to call,
    models and paths hardly.
    """

    view: OwnerView
    accounts: Mapping[str, Account]
    find_price: FindPrice
    _callers: dict[str, Caller | None] = field(default_factory=dict)
    _addresses: dict[tuple[str, str], Refusal | None] = field(default_factory=dict)
    _outputs: dict[tuple[str, int], Refusal | None] = field(default_factory=dict)
    _routes: dict[tuple[str, str, str, str], "_Verdict"] = field(default_factory=dict)

    def decide(self, row: Sequence[Any]) -> "_Verdict":
        """What access and routing say of a recorded call."""
        account_id, address, path, dialect, asked, declared = row[1:7]
        key = (account_id, address)
        if key not in self._addresses:
            _make_room(self._addresses)
            self._addresses[key] = self._address(account_id, address)
        refusal = self._addresses[key]
        if refusal is not None:
            return _Verdict(refusal)
        place = (account_id, path, dialect, asked)
        verdict = self._routes.get(place)
        if verdict is None:
            _make_room(self._routes)
            verdict = self._routes[place] = self._route(*place)
        if declared is None or verdict.refusal is not None:
            return verdict
        most = (account_id, declared)
        if most not in self._outputs:
            _make_room(self._outputs)
            self._outputs[most] = self._output(account_id, declared)
        refusal = self._outputs[most]
        return verdict if refusal is None else _Verdict(refusal)

    def _address(self, account_id: str, address: str) -> Refusal | None:
        caller = self.caller(account_id)
        if caller is None:
            return None
        return access.address_is_allowed(Question(caller, 0, address))

    def _output(self, account_id: str, declared: int) -> Refusal | None:
        caller = self.caller(account_id)
        if caller is None:
            return None
        return access.output_is_allowed(Question(caller, 0, "", max_output_tokens=declared))

    def _route(self, account_id: str, path: str, dialect: str, asked: str | None) -> "_Verdict":
        caller = self.caller(account_id)
        if caller is None:
            return _Verdict(None)
        refusal = access.path_is_allowed(Question(caller, 0, "", path))
        if refusal is not None or not asked:
            return _Verdict(refusal)
        ways = find_ways(self.view, caller, dialect, asked)
        wanted = ways.wanted
        question = Question(caller, 0, "", path, wanted.asked.model, wanted.mapped.model)
        refusal = access.model_is_allowed(question)
        if refusal is not None:
            return _Verdict(refusal)
        plan = choose(ways, dialect, draw=0)
        if isinstance(plan, Refusal):
            return _Verdict(plan)
        first = plan.routes[0]
        model = first.model or ""
        goes = (first.key.level, model, first.key.provider)
        demands = demands_of(caller, model, Estimate())
        must_know = has_budget(caller) and self.view.settings.unpriced != "allow"
        return _Verdict(None, goes, caller, demands, self._is_unpriced(caller, plan), must_know)

    def _is_unpriced(self, caller: Caller, plan: Plan) -> bool:
        return (
            self.view.settings.unpriced == "refuse"
            and has_budget(caller)
            and any(self.find_price(*place) is None for place in models_of(plan.routes))
        )

    def caller(self, account_id: str) -> Caller | None:
        """Somebody of an account that still exists, with a key that nothing speaks against."""
        if account_id not in self._callers:
            self._callers[account_id] = self._caller(account_id)
        return self._callers[account_id]

    def _caller(self, account_id: str) -> Caller | None:
        chain: list[Account] = []
        at: str | None = account_id
        while at is not None:
            account = self.accounts.get(at)
            if account is None:
                return None
            chain.append(account)
            at = account.parent_id
        key = ApiKey(
            "",
            self.view.owner_id,
            account_id,
            "any",
            KeyScope.CALL,
            KeyStatus.ACTIVE,
            0,
            None,
            None,
        )
        return Caller.of(key, tuple(reversed(chain)), self.view.revision)


@dataclass(slots=True)
class Found:
    """What a replay found; money is nano-dollars."""

    calls: int = 0
    refused: int = 0
    refused_nano: int = 0
    by_code: Counter[str] = field(default_factory=Counter)
    by_account: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, str]] = field(default_factory=list)
    admitted: int = 0
    rerouted: int = 0
    reroutes: Counter[tuple[str, str]] = field(default_factory=Counter)
    rerouted_nano: int = 0
    unpriced: int = 0
    recorded_nano: int = 0


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What a world says of a combination: a refusal, or where it goes and what counts."""

    refusal: Refusal | None
    goes: tuple[int, str, str] | None = None
    caller: Caller | None = None
    demands: tuple[Demand, ...] = ()
    is_unpriced: bool = False
    must_know: bool = False


class Player:
    """Plays recorded calls through two worlds, part by part.

    ``spent_before`` is what each account with a total budget had spent before the first call, in
    nano-dollars.
    """

    def __init__(
        self,
        before: World,
        after: World,
        spent_before: Mapping[str, int],
    ) -> None:
        self.found = Found()
        self._before = before
        self._after = after
        self._meters = _Meters(after.view.zone, spent_before)

    def play(self, rows: Iterable[Sequence[Any]]) -> None:
        """The next calls, in the order in which they began."""
        for row in rows:
            verdicts = self._before.decide(row), self._after.decide(row)
            _take(self.found, row, verdicts, self._meters, self._after.find_price)


def _take(
    found: Found,
    row: Sequence[Any],
    verdicts: tuple[_Verdict, _Verdict],
    meters: "_Meters",
    find_price: FindPrice,
) -> None:
    old, new = verdicts
    was_refused, attempts, cost = row[7] == Outcome.REFUSED, row[8], row[15]
    found.calls += 1
    refusal = new.refusal
    if was_refused:
        # Whether a limit of then would still refuse it is not known: access alone decides here.
        if old.refusal is not None and refusal is None:
            found.admitted += 1
        return
    # Counting tokens costs nothing, whatever the model.
    if refusal is None and attempts and new.is_unpriced and cost != 0:
        refusal = unpriced(row[5])
    if refusal is None and attempts and new.must_know and new.goes is not None:
        refusal = _of_unknown_rates(row, new.goes, find_price)
    if refusal is None and attempts and new.demands:
        refusal = meters.take(new, row)
    found.recorded_nano += cost or 0
    if refusal is not None:
        found.refused += 1
        found.refused_nano += cost or 0
        found.by_code[refusal.code] += 1
        found.by_account[row[1]] += 1
        if len(found.examples) < MOST_EXAMPLES:
            found.examples.append(
                {"call_id": row[0], "code": refusal.code, "message": refusal.message}
            )
        return
    if old.goes is not None and new.goes is not None and old.goes != new.goes:
        found.rerouted += 1
        found.reroutes[(_place(old.goes), _place(new.goes))] += 1
        if cost is not None and new.goes[1] != old.goes[1]:
            other = _cost(row, new.goes, find_price)
            if other is None:
                found.unpriced += 1
            else:
                found.rerouted_nano += other - cost


def _place(goes: tuple[int, str, str]) -> str:
    return f"{goes[1]} at level {goes[0]}"


def _cost(row: Sequence[Any], goes: tuple[int, str, str], find_price: FindPrice) -> int | None:
    price = find_price(goes[2], goes[1])
    return None if price is None else cost_of(price, _usage(row), row[9]).nano


def _usage(row: Sequence[Any]) -> Usage:
    return Usage(
        input_tokens=row[11],
        cached_input_tokens=row[12],
        cache_write_tokens=row[13],
        output_tokens=row[14],
        service_tier=row[16],
        detail=msgspec.json.decode(row[17]) if row[17] else {},
    )


def _of_unknown_rates(
    row: Sequence[Any], goes: tuple[int, str, str], find_price: FindPrice
) -> Refusal | None:
    """The refusal, under a budget, of a call that was served at rates which the price does not have:
    most likely it asked for them."""
    if row[16] is None and not row[17]:
        return None
    price, word = find_price(goes[2], goes[1]), rate_word(_usage(row))
    if price is None or rates_now(price, word, row[9]) is not None:
        return None
    return of_unknown_cost(f"“{word}” costs is not known for this model.", word)


def _make_room(known: dict[Any, Any]) -> None:
    if len(known) >= MOST_REMEMBERED:
        known.clear()


class _Meters:
    """Every limit that the calls meet, as it stands while time goes by."""

    def __init__(self, zone: ZoneInfo, spent_before: Mapping[str, int]) -> None:
        self._zone = zone
        self._spent = spent_before
        self._meters: dict[tuple[str, str, str], Meter] = {}
        self._of: dict[int, tuple[_Verdict, list[tuple[Meter, Demand]]]] = {}

    def take(self, verdict: _Verdict, row: Sequence[Any]) -> Refusal | None:
        """Count a call that fits everywhere; a refusal, and nothing counted, if it does not."""
        known = self._of.get(id(verdict))
        if known is None or known[0] is not verdict:
            _make_room(self._of)
            known = self._of[id(verdict)] = (verdict, [self._meter(d) for d in verdict.demands])
        at = row[9]
        tokens, nano = row[20], row[21]
        if tokens is None:
            tokens = (row[11] or 0) + (row[14] or 0)
        if nano is None:
            nano = row[15] or 0
        amounts = {REQUESTS: 1, RUNNING: 1, TOKENS: tokens, MONEY: nano}
        # What was reserved for it must have had room, too.
        room = {**amounts, TOKENS: max(tokens, row[18] or 0), MONEY: max(nano, row[19] or 0)}
        for meter, demand in known[1]:
            if meter.at(at) + room[meter.unit] > demand.limit:
                assert verdict.caller is not None
                return exceeded(verdict.caller, demand, None)
        ends = at + (row[10] or 0)
        for meter, _ in known[1]:
            meter.add(at, amounts[meter.unit], ends)
        return None

    def _meter(self, demand: Demand) -> "tuple[Meter, Demand]":
        meter = self._meters.get(demand.key)
        if meter is None:
            meter = self._meters[demand.key] = Meter(demand, self._zone)
            if WINDOWS[demand.name].kind == EVER and demand.pattern == WHOLE:
                meter.total = self._spent.get(demand.account_id, 0)
        return meter, demand
