"""What the book says of a call: its record before any attempt, on the way, and at its end."""

import msgspec

from xairouter.accounting.cost import NOTHING, UNKNOWN, Cost, cost_of
from xairouter.accounting.counts import final_counts, open_counts
from xairouter.accounting.left_open import closes_uses, still_open
from xairouter.accounting.reservation import BYTES_PER_TOKEN
from xairouter.accounting.usage import GAVE_UP, estimated, text_tokens
from xairouter.dialects.media import input_tokens_of
from xairouter.dialects.paths import makes_output
from xairouter.directory.prices import price_of
from xairouter.domain.calls import Refusal, Usage
from xairouter.domain.records import EndFields, Outcome, ReplyFields, UsageRecord, UsageSource
from xairouter.errors import ERRORS, ErrorCode
from xairouter.gateway.reserving import settle
from xairouter.gateway.settling import notice_end
from xairouter.gateway.talk import Talk
from xairouter.gateway.work import Parts, Work
from xairouter.upstream.interface import header_of

_SESSION_HEADERS = (
    b"x-claude-code-session-id",
    b"x-session-id",
    b"x-session-affinity",
    b"session-id",
)


def first_record(
    parts: Parts, work: Work, outcome: Outcome, refusal: Refusal | None = None
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
        background=peek.background,
        max_output_tokens=peek.max_output_tokens,
        reserved_tokens=work.reserved_tokens,
        reserved_nano=work.reserved_nano,
        status=ERRORS[refusal.code].status if refusal else None,
        error_code=refusal.code if refusal else None,
        # No provider was asked, so nothing can cost.
        cost_nano=0 if outcome == Outcome.REFUSED else None,
        total_ms=_elapsed_ms(parts, work),
    )


def given_tokens(work: Work) -> int:
    """The request's input, as estimated; worked out once."""
    if work.given_tokens is None:
        work.given_tokens = input_tokens_of(work.body)
    return work.given_tokens


def given_for_recovery(work: Work) -> int | None:
    """The input for the journal, as cheaply as can be; None of what has no usage."""
    if not work.match.operation.metered:
        return None
    if work.given_tokens is None:
        return -(-len(work.body) // BYTES_PER_TOKEN)
    return work.given_tokens


def known_so_far(parts: Parts, work: Work) -> ReplyFields:
    """The record's fields as far as a reply has come, for the case that the process dies."""
    if not work.match.operation.metered or work.meter is None:
        return _reply_fields(work, Usage(), UsageSource.NONE)
    stated = work.meter.peek_usage()
    # The journal's reader does not know what else the request named and asked for.
    if _is_final(work, stated) and not work.peek.other_models and _closes_uses(work, stated):
        return _reply_fields(work, stated, UsageSource.REPORTED)
    usage = _estimated(work, stated)
    _, cost = _cost(parts, work, usage)
    return _reply_fields(work, usage, UsageSource.ESTIMATED, cost.nano)


def close(parts: Parts, work: Work, outcome: Outcome, code: ErrorCode | None) -> None:
    """Write the record: what was used, what it costs, how it ended. Never waits."""
    assert work.entry is not None
    reply = work.reply
    request_id = reply and (header_of(reply, "x-request-id") or header_of(reply, "request-id"))
    # Where no provider was asked, or tokens counted, or a stored object looked at: no work, no cost.
    is_work = work.entry.attempts and work.match.operation.metered
    end = _ended(parts, work) if is_work else _NO_WORK
    if is_work and work.meter is not None and work.meter.tally.parts and work.object_parts is None:
        _bind_parts(parts, work, work.meter.tally.parts)
    record = work.entry.close(
        _reply_fields(work, end.usage, end.source),
        EndFields(
            outcome=outcome,
            error_code=code,
            cost_nano=end.cost.nano,
            price_version=end.price_version,
            price_used=dict(end.cost.rates) or None,
            provider_request_id=request_id or None,
            total_ms=_elapsed_ms(parts, work),
            counted_tokens=end.tokens,
            counted_nano=end.nano,
        ),
    )
    settle(parts, work, record)
    if work.settles is not None:
        notice_end(parts, work)
    parts.traces.tell(record, work.talk.header(b"traceparent"))


def _bind_parts(parts: Parts, work: Work, made: tuple[str, ...]) -> None:
    """What a provider keeps beside a body is known when it is read as a whole (``watching``)."""
    status, route = work.talk.status, work.entry.route if work.entry is not None else None
    if route is not None and status is not None and status < 300:
        work.object_parts = made
        parts.directory.remember_objects(work.identity.caller, made, route.key.id)


class _End(msgspec.Struct, frozen=True):
    """What a call used and cost, as its record says, and what it counts for."""

    usage: Usage
    source: UsageSource
    price_version: str | None
    cost: Cost
    tokens: int = 0
    nano: int = 0


_NO_WORK = _End(Usage(), UsageSource.NONE, None, NOTHING)


def _ended(parts: Parts, work: Work) -> _End:
    """The final statement if it has come, else what passed; and what requests without a reply may
    have used."""
    if work.is_waiting:
        work.unsettled += 1
    stated = work.meter.finish() if work.meter is not None else Usage()
    status = work.talk.status
    end = _End(stated, UsageSource.NONE, None, UNKNOWN)
    if _is_final(work, stated):
        version, cost = _cost(parts, work, stated)
        tokens, nano = final_counts(stated, cost, work.reserved)
        if not _closes_uses(work, stated):
            is_condensed = work.meter is not None and work.meter.tally.is_condensed
            least = still_open(work.left_open, cost, work.reserved, is_condensed=is_condensed)
            nano = max(nano, least)
        end = _End(stated, UsageSource.REPORTED, version, cost, tokens, nano)
    elif work.meter is not None and status is not None and 200 <= status < 300:
        end = _open_end(parts, work, _estimated(work, stated))
        if _is_silent(work, stated, end.usage):
            end = _End(stated, UsageSource.NONE, None, UNKNOWN, end.tokens, end.nano)
    if work.unsettled:
        lost = _open_end(parts, work, estimated(Usage(), given_tokens(work), 0))
        # Of a failure that passes, no text was seen, and the record makes nothing up.
        is_failure = work.meter is not None and status is not None and status >= 500
        is_known = end.tokens or end.source is UsageSource.REPORTED
        first = end if is_known or (is_failure and status not in GAVE_UP) else lost
        more = work.unsettled
        end = msgspec.structs.replace(
            first, tokens=end.tokens + more * lost.tokens, nano=end.nano + more * lost.nano
        )
    return end


def _closes_uses(work: Work, stated: Usage) -> bool:
    """Whether a final statement tells of all that the request asked for besides tokens."""
    if work.meter is None:
        return True
    tally = work.meter.tally
    is_shown = tally.shows_use and not tally.unreadable
    return closes_uses(work.left_open, stated, tally.raw, is_shown=is_shown)


def _open_end(parts: Parts, work: Work, usage: Usage) -> _End:
    """The end of a request that has no final statement."""
    version, cost = _cost(parts, work, usage)
    tokens, nano = open_counts(usage, cost, work.reserved)
    return _End(usage, UsageSource.ESTIMATED, version, cost, tokens, nano)


def _is_final(work: Work, stated: Usage) -> bool:
    """Whether the provider has stated the usage that it bills."""
    if work.meter is None:
        return False
    tally = work.meter.tally
    if not stated.is_reported:
        return False
    # Gemini leaves out what is zero; all others always state both sides of what makes output.
    if makes_output(work.match) and work.dialect.name != "gemini_generate" and not stated.is_whole:
        return False
    if tally.is_final or (tally.has_ended and work.dialect.end_is_final):
        return True
    # A body that came whole has nothing more to say, also a list of which little was kept.
    is_body = work.reply is not None and not header_of(work.reply, "content-type").startswith(
        "text/event-stream"
    )
    return work.is_whole and is_body and not tally.unreadable and tally.is_over is not False


def _is_silent(work: Work, stated: Usage, usage: Usage) -> bool:
    """Whether a reply came whole and its provider says nothing of usage, as some do; not where it
    may have been cut (a stream without its last word, a body that cannot be read), or where the
    work goes on in the background."""
    assert work.meter is not None
    tally = work.meter.tally
    if tally.is_over is False or (work.peek.background and not tally.is_over):
        return False
    is_cut = not tally.has_ended if work.peek.streams else tally.unreadable > 0
    return work.is_whole and not stated.is_reported and not (is_cut and usage.output_tokens)


def _estimated(work: Work, stated: Usage) -> Usage:
    made = 0
    if work.sampler is not None and makes_output(work.match):
        made = text_tokens(work.sampler.passed(), work.dialect.text)
    return estimated(stated, given_tokens(work), made)


def _reply_fields(
    work: Work, usage: Usage, source: UsageSource, cost_nano: int | None = None
) -> ReplyFields:
    return ReplyFields(
        status=work.talk.status,
        first_byte_ms=work.first_byte_ms,
        input_tokens=usage.input_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        usage_detail=dict(usage.detail) or None,
        usage_source=source,
        cost_nano=cost_nano,
        provider_cost_nano=usage.cost_nano,
        provider_object_id=usage.object_id,
        object_parts=work.object_parts,
        service_tier=usage.service_tier,
    )


def _cost(parts: Parts, work: Work, usage: Usage) -> tuple[str | None, Cost]:
    """(the price's version, what it comes to): own prices over the price list; by the name asked of
    the provider, else the name told. Where several were asked for, only the reply tells which of them
    it was."""
    route = work.entry.route if work.entry is not None else None
    if route is None:
        return None, UNKNOWN
    asked = None if work.peek.other_models else route.model
    for model in (asked, usage.model):
        if model is None:
            continue
        price = price_of(work.identity.view, parts.prices, route.key.provider, model)
        if price is not None:
            return price.version, cost_of(price, usage, work.began_ms)
    return None, UNKNOWN


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
