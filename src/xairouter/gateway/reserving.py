"""Before a call is sent: what it may use is reserved on every account of its path; and afterwards
what it did use takes its place."""

from collections.abc import Sequence

import msgspec

from xairouter.accounting.counts import Counts, counts_of
from xairouter.accounting.reservation import Estimate
from xairouter.clock import now_ms
from xairouter.counters.interface import Counted, Exceeded, Held
from xairouter.dialects.elsewhere import (
    has_address_in_steps,
    holds_media,
    holds_media_in_steps,
    reads_elsewhere,
)
from xairouter.dialects.media import input_tokens_of
from xairouter.dialects.multipliers import multipliers_in_steps, multipliers_of
from xairouter.dialects.paths import makes_output
from xairouter.directory.prices import prices_to_reserve
from xairouter.domain.calls import Plan, Refusal
from xairouter.domain.prices import Price
from xairouter.domain.records import UsageRecord
from xairouter.errors import ErrorCode, StorageError
from xairouter.gateway.work import Parts, Work
from xairouter.policy.limits import (
    ToReserve,
    counts_anything,
    demands_of,
    estimate_of,
    exceeded,
    may_think_on,
)
from xairouter.policy.windows import MONEY, TOKENS
from xairouter.providers.table import keep_maximum
from xairouter.turns import in_slices


async def reserve(parts: Parts, work: Work, plan: Plan) -> Refusal | None:
    """Reserve what the call may use; a refusal where a limit or a budget has no room for it."""
    caller, view = work.identity.caller, work.identity.view
    if not counts_anything(caller):
        return None
    prices = prices_to_reserve(view, parts.prices, plan.routes, work.peek.other_models)
    likely = await estimated(parts, work, plan, prices)
    if isinstance(likely, Refusal):
        return likely
    work.reserved_tokens, work.reserved_nano = likely.tokens, likely.nano
    model = plan.routes[0].model
    demands = demands_of(caller, model, likely)
    if work.reads or likely.searches:
        work.reserved_fees = likely.fees
    if work.reads or likely.searches or await _is_open(work, plan):
        # Only the provider's final statement says what such a call used.
        work.finishes = any(demand.unit in (TOKENS, MONEY) for demand in demands)
    call = Counted(
        work.talk.call_id,
        caller.owner_id,
        tuple(account.id for account in caller.chain),
        model,
        work.began_ms,
        view.zone,
    )
    try:
        answer = await parts.counters.reserve(call, demands)
    except StorageError as error:
        # Who has limits is not let through uncounted.
        return Refusal(ErrorCode.STORAGE_UNAVAILABLE, error.public, retry_after=1)
    if isinstance(answer, Exceeded):
        return exceeded(caller, answer.demand, answer.retry_after)
    work.held = answer
    work.talk.limits = limit_headers(answer)
    return None


async def _is_open(work: Work, plan: Plan) -> bool:
    """Whether a call may use more than was reserved, and the client none the wiser: media that hold
    more than their bytes, thoughts that nothing bounds."""
    operation = work.match.operation
    if not operation.metered:
        return False
    if makes_output(work.match) and may_think_on(
        work.identity.caller, work.peek, plan.routes, work.keeps_output
    ):
        return True
    if work.look is None:
        return holds_media(work.body)
    return await in_slices(holds_media_in_steps(work.body), work.identity.caller.owner_id)


async def reserve_again(parts: Parts, work: Work) -> Refusal | None:
    """Before another request: one that broke off may be billed, and what was reserved for it is not
    there for the next. Tokens and money are reserved once more; a refusal where there is no room."""
    held = work.held
    if held is None:
        return None
    demands = [demand for demand in held.demands if demand.unit in (TOKENS, MONEY)]
    while demands and len(work.held_again) < work.unsettled:
        call_id = f"{held.call.call_id}.{len(work.held_again) + 1}"
        call = msgspec.structs.replace(held.call, call_id=call_id)
        try:
            answer = await parts.counters.reserve(call, demands)
        except StorageError as error:
            return Refusal(ErrorCode.STORAGE_UNAVAILABLE, error.public, retry_after=1)
        if isinstance(answer, Exceeded):
            return exceeded(work.identity.caller, answer.demand, answer.retry_after)
        work.held_again.append(answer)
    return None


async def estimated(
    parts: Parts, work: Work, plan: Plan, prices: Sequence[Price | None]
) -> Estimate | Refusal:
    """What the call may use; a refusal under a budget where that is not known."""
    if not work.match.operation.metered:
        return Estimate(0, 0)
    if work.look is None:
        more = multipliers_of(work.body)
    else:
        steps = multipliers_in_steps(work.look.top)
        more = await in_slices(steps, work.identity.caller.owner_id)
    if isinstance(more, Refusal):
        return more
    if work.given_tokens is None:
        work.given_tokens = input_tokens_of(work.body)
    work.reads = reads_elsewhere(work.peek, more, work.body if work.look is None else b"")
    if work.look is not None and not work.reads:
        addresses = has_address_in_steps(work.body)
        work.reads = await in_slices(addresses, work.identity.caller.owner_id)
    declared = work.peek.declared
    work.keeps_output = not declared or keep_maximum(plan.routes, declared)
    asked = ToReserve(
        work.match,
        work.peek,
        more,
        work.given_tokens,
        makes_output(work.match),
        plan.routes,
        parts.output_reserve,
        work.reads,
        work.keeps_output,
    )
    work.pays_tools = bool(more.unknown or more.searches)
    if more.token_ids:
        work.given_tokens += more.token_ids
    return estimate_of(work.identity.view, work.identity.caller, asked, prices, now_ms())


def limit_headers(held: Held) -> list[tuple[bytes, bytes]]:
    """``x-ratelimit-…`` of the tightest limit of requests and of tokens."""
    found: list[tuple[bytes, bytes]] = []
    for name, left in (("requests", held.requests), ("tokens", held.tokens)):
        if left is not None:
            found += [
                (f"x-ratelimit-limit-{name}".encode(), b"%d" % left.limit),
                (f"x-ratelimit-remaining-{name}".encode(), b"%d" % left.remaining),
                (f"x-ratelimit-reset-{name}".encode(), b"%ds" % left.reset_seconds),
            ]
    return found


def settle(parts: Parts, work: Work, record: UsageRecord) -> None:
    """Count what the call's record says in the place of what was reserved."""
    if work.held is None:
        return
    used = counts_of(record)
    over = used.nano - (work.reserved_nano or 0) * (1 + len(work.held_again))
    if over > 0 and work.reserved_nano is not None:
        parts.metrics.beyond_reservation.inc(over / 10**9)
    parts.counters.settle(work.held, used)
    release_again(parts, work)


def release_again(parts: Parts, work: Work) -> None:
    """The call's own count has in it what was reserved for requests that broke off."""
    for held in work.held_again:
        parts.counters.settle(held, Counts())
    work.held_again.clear()
