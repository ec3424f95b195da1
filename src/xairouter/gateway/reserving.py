"""Before a call is sent: what it may use is reserved on every account of its path; and afterwards
what it did use takes its place."""

import msgspec

from xairouter.accounting.counts import Counts, counts_of
from xairouter.accounting.left_open import LeftOpen, may_think_on
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
from xairouter.domain.records import UsageRecord
from xairouter.errors import ErrorCode, StorageError
from xairouter.gateway.work import Parts, Work
from xairouter.policy.limits import (
    ToReserve,
    bounds_output,
    counts_anything,
    demands_of,
    estimate_of,
    exceeded,
)
from xairouter.policy.windows import MONEY, TOKENS
from xairouter.providers.table import keep_maximum, think_beside
from xairouter.turns import in_slices


async def reserve(parts: Parts, work: Work, plan: Plan) -> Refusal | None:
    """Reserve what the call may use; a refusal where a limit or a budget has no room for it."""
    caller, view = work.identity.caller, work.identity.view
    if not counts_anything(caller):
        return None
    likely = Estimate(0, 0)
    if work.match.operation.metered:
        estimated = await _estimate(parts, work, plan)
        if isinstance(estimated, Refusal):
            return estimated
        likely = estimated
    work.reserved_tokens, work.reserved_nano = likely.tokens, likely.nano
    model = plan.routes[0].model
    demands = demands_of(caller, model, likely)
    if work.left_open.beyond:
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


async def _estimate(parts: Parts, work: Work, plan: Plan) -> Estimate | Refusal:
    """What the call may use, and what that leaves open; a refusal under a budget where it is not
    known."""
    view, caller = work.identity.view, work.identity.caller
    asked = await _asked(parts, work, plan)
    if isinstance(asked, Refusal):
        return asked
    prices = prices_to_reserve(view, parts.prices, plan.routes, work.peek.other_models)
    likely = estimate_of(view, caller, asked, prices, now_ms())
    if isinstance(likely, Estimate):
        more = asked.more
        work.left_open = LeftOpen(
            beyond=bool(asked.reads or likely.searches) or await _is_beyond(work, asked),
            uses=bool(more.unknown or more.searches),
            fees=likely.fees,
        )
    return likely


async def _asked(parts: Parts, work: Work, plan: Plan) -> ToReserve | Refusal:
    """The call as far as it says what it may use."""
    peek, owner_id = work.peek, work.identity.caller.owner_id
    if work.look is None:
        more = multipliers_of(work.body)
    else:
        more = await in_slices(multipliers_in_steps(work.look.top), owner_id)
    if isinstance(more, Refusal):
        return more
    if work.given_tokens is None:
        work.given_tokens = input_tokens_of(work.body)
    given = work.given_tokens
    reads = reads_elsewhere(peek, more, work.body if work.look is None else b"")
    if work.look is not None and not reads:
        reads = await in_slices(has_address_in_steps(work.body), owner_id)
    if more.token_ids:
        work.given_tokens += more.token_ids
    return ToReserve(
        work.match,
        peek,
        more,
        given,
        makes_output(work.match),
        plan.routes,
        parts.output_reserve,
        reads,
        not peek.declared or keep_maximum(plan.routes, peek.declared),
    )


async def _is_beyond(work: Work, asked: ToReserve) -> bool:
    """Whether a call may use more than was reserved by thoughts, or by media in its body."""
    caller = work.identity.caller
    if asked.makes_output:
        is_bounded = bounds_output(caller, work.peek, asked.is_kept)
        is_bounded = is_bounded and not think_beside(asked.routes)
        if may_think_on((route.model for route in asked.routes), is_bounded=is_bounded):
            return True
    if work.look is None:
        return holds_media(work.body)
    return await in_slices(holds_media_in_steps(work.body), caller.owner_id)


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
