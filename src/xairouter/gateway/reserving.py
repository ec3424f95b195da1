"""Before a call is sent: what it may use is reserved on every account of its path; and afterwards
what it did use takes its place."""

from xairouter.clock import now_ms
from xairouter.counters.interface import Counted, Exceeded, Held, Tally
from xairouter.dialects.paths import makes_output
from xairouter.directory.prices import prices_to_reserve
from xairouter.domain.calls import Plan, Refusal
from xairouter.domain.records import REPORTED, UsageRecord
from xairouter.errors import StorageError
from xairouter.gateway.work import Parts, Work
from xairouter.policy.access import most_output
from xairouter.policy.limits import (
    Estimate,
    counts_anything,
    demands_of,
    estimate,
    exceeded,
    expected_output,
    has_budget,
    input_tokens_of,
    unpriced,
)


async def reserve(parts: Parts, work: Work, plan: Plan) -> Refusal | None:
    """Reserve what the call may use; a refusal where a limit or a budget has no room for it."""
    caller, view = work.identity.caller, work.identity.view
    if not counts_anything(caller):
        return None
    likely = estimate_of(parts, work, plan)
    if likely.nano is None and has_budget(caller) and view.settings.unpriced != "allow":
        return unpriced(work.peek.model)
    work.reserved_tokens, work.reserved_nano = likely.tokens, likely.nano
    model = plan.routes[0].model
    demands = demands_of(caller, model, likely)
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
        return Refusal("storage_unavailable", str(error), retry_after=1)
    if isinstance(answer, Exceeded):
        return exceeded(caller, answer.demand, answer.retry_after)
    work.held = answer
    work.talk.limits = limit_headers(answer)
    return None


def estimate_of(parts: Parts, work: Work, plan: Plan) -> Estimate:
    """What the call may use: input by its size, output as ``expected_output`` says."""
    if not work.match.operation.metered:
        return Estimate(0, 0)
    output = 0
    if makes_output(work.match):
        bound = most_output(work.identity.caller)
        output = expected_output(work.peek.max_output_tokens, bound, parts.output_reserve)
    return estimate(
        input_tokens_of(work.body),
        output,
        prices_to_reserve(work.identity.view, parts.prices, plan.routes),
        reserve=parts.output_reserve,
        now_ms=now_ms(),
        choices=work.peek.choices,
    )


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
    used = used_of(record)
    over = used.nano - (work.reserved_nano or 0)
    if over > 0 and work.reserved_nano is not None:
        parts.metrics.beyond_reservation.inc(over / 10**9)
    parts.counters.settle(work.held, used)


def used_of(record: UsageRecord) -> Tally:
    """What a record counts for; the same that ``storage.records.counted`` reads from rows.

    A call that reached no provider counts for nothing. Where a reply began but said nothing of its
    usage, what was reserved counts: the provider may well bill it.
    """
    if not record.attempts:
        return Tally()
    began = record.status is not None and 200 <= record.status < 300
    if record.usage_source == REPORTED:
        tokens = (record.input_tokens or 0) + (record.output_tokens or 0)
    else:
        tokens = (record.reserved_tokens or 0) if began else 0
    nano = record.cost_nano
    if nano is None:
        nano = (record.reserved_nano or 0) if began else 0
    return Tally(1, tokens, nano)
