"""What the book says of a call: its record before any attempt, on the way, and at its end."""

from collections.abc import Mapping

from xairouter.directory.prices import price_of
from xairouter.domain.calls import Refusal, Route, Usage
from xairouter.domain.records import REFUSED, UsageRecord
from xairouter.errors import ERRORS
from xairouter.gateway.reserving import settle
from xairouter.gateway.talk import Talk
from xairouter.gateway.work import Parts, Work
from xairouter.policy.pricing import cost_of
from xairouter.upstream.interface import header_of

_SESSION_HEADERS = (
    b"x-claude-code-session-id",
    b"x-session-id",
    b"x-session-affinity",
    b"session-id",
)


def first_record(
    parts: Parts, work: Work, outcome: str, refusal: Refusal | None = None
) -> UsageRecord:
    """The record as it stands before any attempt."""
    talk, caller, peek = work.talk, work.identity.caller, work.peek
    return UsageRecord(
        call_id=talk.call_id,
        owner_id=caller.owner_id,
        account_id=caller.account.id,
        key_id=caller.key.id,
        dialect=work.match.operation.dialect,
        method=work.match.operation.method,
        path=work.match.path,
        client_ip=work.address,
        started_at_ms=work.began_ms,
        outcome=outcome,
        label=talk.header(b"x-xairouter-label")[:64] or None,
        session=session_of(talk),
        model_asked=peek.model or work.match.variables.get("model"),
        stream=peek.streams,
        max_output_tokens=peek.max_output_tokens,
        reserved_tokens=work.reserved_tokens,
        reserved_nano=work.reserved_nano,
        status=ERRORS[refusal.code].status if refusal else None,
        error_code=refusal.code if refusal else None,
        # No provider was asked, so nothing can cost.
        cost_nano=0 if outcome == REFUSED else None,
        total_ms=_elapsed_ms(parts, work),
    )


def known_so_far(work: Work, usage: Usage) -> dict[str, object]:
    """The record's fields that a reply gives, as far as it has come."""
    known: dict[str, object] = {"status": work.talk.status, "first_byte_ms": work.first_byte_ms}
    if not work.match.operation.metered:
        # Token counts and stored objects: what the reply says was not used by this call.
        known["cost_nano"] = 0
        return known
    known.update(
        input_tokens=usage.input_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        usage_detail=dict(usage.detail) or None,
        usage_source="reported" if usage.is_reported else "none",
        provider_cost_nano=usage.cost_nano,
        provider_object_id=usage.object_id,
        service_tier=usage.service_tier,
    )
    return known


def close(parts: Parts, work: Work, outcome: str, code: str | None) -> None:
    """Write the record: what was used, what it costs, how it ended. Never waits."""
    assert work.entry is not None
    usage = work.meter.finish() if work.meter is not None else Usage()
    known = known_so_far(work, usage)
    if not work.entry.attempts:
        known["cost_nano"] = 0  # No provider was asked, so nothing can cost.
    elif work.match.operation.metered:
        known |= _cost(parts, work, work.entry.route, usage)
    if work.reply is not None:
        known["provider_request_id"] = (
            header_of(work.reply, "x-request-id") or header_of(work.reply, "request-id") or None
        )
    record = work.entry.close(
        **known, outcome=outcome, error_code=code, total_ms=_elapsed_ms(parts, work)
    )
    settle(parts, work, record)
    parts.traces.tell(record, work.talk.header(b"traceparent"))


def _cost(parts: Parts, work: Work, route: Route | None, usage: Usage) -> Mapping[str, object]:
    """Own prices over the price list; by the name asked of the provider, else the name told."""
    if route is None:
        return {}
    for model in (route.model, usage.model):
        if model is None:
            continue
        price = price_of(work.identity.view, parts.prices, route.key.provider, model)
        if price is not None:
            cost = cost_of(price, usage, work.began_ms)
            return {
                "cost_nano": cost.nano,
                "price_version": price.version,
                "price_used": dict(cost.rates) or None,
            }
    return {}


def _elapsed_ms(parts: Parts, work: Work) -> int:
    return int((parts.running.now() - work.started) * 1000)


def session_of(talk: Talk) -> str | None:
    """A client's own id of its conversation, if a header tells one."""
    for name in _SESSION_HEADERS:
        if name not in talk.headers:
            continue
        value = talk.header(name)
        if value and len(value) <= 128 and value.isprintable():
            return value
    return None
