"""One attempt: the outbound request of a route, sent through custody; and its reply, relayed."""

import msgspec

from xairouter.accounting.usage import is_refused
from xairouter.clock import now_ms
from xairouter.custody.room import BufferedReply, Withheld
from xairouter.dialects.headers import asks_gzip, forwarded
from xairouter.dialects.meter import Meter
from xairouter.dialects.paths import makes_output
from xairouter.domain.calls import Outbound, Refusal, Route
from xairouter.domain.failures import RETRIED, Cause, Failure
from xairouter.domain.records import Outcome
from xairouter.domain.steps import Steps
from xairouter.errors import CustodyError, ErrorCode, LedgerError, UpstreamError
from xairouter.gateway.bookkeeping import given_for_recovery
from xairouter.gateway.relay import break_off, relay
from xairouter.gateway.sampling import Sampler
from xairouter.gateway.watching import Watcher
from xairouter.gateway.work import Parts, Work
from xairouter.observe import log
from xairouter.policy.access import most_output
from xairouter.policy.failures import classify
from xairouter.providers.interface import Provider
from xairouter.providers.table import provider_row
from xairouter.turns import in_slices
from xairouter.upstream.interface import Reply, header_of


class Tried(msgspec.Struct, frozen=True):
    """What came of an attempt: a reply to pass on, or a refusal that says why there is none; and
    whether another route may do better."""

    answer: Reply | Refusal
    may_go_on: bool = False


async def attempt(parts: Parts, work: Work, route: Route) -> Tried:
    """One request to one provider; what it says of the key's health is noted."""
    row = provider_row(route.key.provider)
    answer = await _send(parts, work, route, row)
    work.is_waiting = False
    match answer:
        case Refusal():
            cause = _CAUSES.get(answer.code)
            failure = Failure(cause) if cause else None
            # A provider that did not answer in time may still be working, and billing.
            may_go_on = answer.code not in (
                *LOCAL,
                ErrorCode.UPSTREAM_TIMEOUT,
            )
        case BufferedReply():
            was_refused, why = await in_slices(_judge(answer, row), route.key.owner_id)
            work.unsettled += not was_refused
            failure = why
            may_go_on = why.cause in RETRIED
        case _:
            failure, may_go_on = None, False
    if failure is None or failure.cause == Cause.CLIENT:
        if not isinstance(answer, Refusal):
            parts.health.served(route.key, route.model)
    else:
        parts.health.failed(route.key, route.model, failure)
    return Tried(answer, may_go_on)


def _judge(answer: BufferedReply, row: Provider) -> Steps[tuple[bool, Failure]]:
    """Whether the provider did none of the work, and what failed: a provider may write what takes
    long to read."""
    was_refused = is_refused(answer.status, answer.body, fails_free=row.fails_free)
    yield
    headers = dict(answer.headers)
    return was_refused, classify(answer.status, headers, answer.body, row.signs, now_ms())


LOCAL = (ErrorCode.LEDGER_UNAVAILABLE, ErrorCode.OVERLOADED)
"""What the router lacks itself: it says nothing of a provider, and no other route is better."""
_CAUSES = {
    ErrorCode.PROVIDER_KEY_REJECTED: Cause.REJECTED,
    ErrorCode.UPSTREAM_ERROR_WITHHELD: Cause.FAILED,
    ErrorCode.UPSTREAM_UNREACHABLE: Cause.UNREACHABLE,
    ErrorCode.UPSTREAM_TIMEOUT: Cause.FAILED,
}


async def _send(parts: Parts, work: Work, route: Route, row: Provider) -> Reply | Refusal:
    """The request itself; a refusal says why there is no reply to pass on."""
    call, entry = work.call, work.entry
    assert call is not None
    assert entry is not None
    outbound = _outbound(work, route, row)
    work.injected_usage = outbound.injected_usage

    async def announce() -> None:
        await entry.attempt(route, given_for_recovery(work), work.unsettled)
        work.is_waiting = True
        call.provider_key_id = route.key.id
        call.touched_at = parts.running.now()
        work.talk.receipt = [
            (b"x-xairouter-provider-key", f"{route.key.id} {route.key.fingerprint}".encode()),
            (b"x-xairouter-attempts", b"%d" % entry.attempts),
        ]

    try:
        answer = await parts.room.send(
            outbound, route.key, work.identity.vault, parts.limits, row.rejections, announce
        )
    except CustodyError:
        log.error("provider_key_unopenable", call_id=work.talk.call_id, provider_key=route.key.id)
        return Refusal(
            ErrorCode.PROVIDER_KEY_REJECTED,
            f"The provider key “{route.key.name}” does not open: its row was changed outside of the "
            "router. Its owner must replace it, naming provider and endpoints again.",
        )
    except UpstreamError as error:
        work.unsettled += error.sent
        retry_after = 1 if error.code in LOCAL else None
        return Refusal(error.code, str(error), retry_after=retry_after)
    except LedgerError:
        return Refusal(
            ErrorCode.LEDGER_UNAVAILABLE, "The attempt cannot be recorded now.", retry_after=1
        )
    call.touched_at = parts.running.now()
    if isinstance(answer, Withheld):
        return _withheld(answer, work, route)
    if not (200 <= answer.status < 300 or 400 <= answer.status < 600):
        work.unsettled += 1
        await answer.close()
        return Refusal(
            ErrorCode.UPSTREAM_UNREACHABLE,
            f"The provider answered {answer.status}: a redirect, which is never followed, or a "
            "status that does not exist.",
        )
    return answer


def _outbound(work: Work, route: Route, row: Provider) -> Outbound:
    suffix, body, injected = work.dialect.prepare(
        work.match,
        work.peek,
        work.body,
        model=route.model,
        ask_usage=row.asks_usage,
        bound=_bound(work, route, row),
    )
    return Outbound(
        dialect=route.dialect,
        method=work.match.operation.method,
        suffix=suffix,
        query=work.query,
        headers=forwarded(
            work.talk.headers,
            work.identity.caller.account.id,
            extra=row.forward_headers,
            defaults=work.dialect.default_headers,
            streams=work.peek.streams,
            has_body=bool(body),
        ),
        body=body,
        injected_usage=injected,
    )


def _bound(work: Work, route: Route, row: Provider) -> tuple[str, int] | None:
    """Where the rules bound the output: the field that this provider honours, and the number."""
    if not makes_output(work.match):
        return None
    most = most_output(work.identity.caller)
    if most is None:
        return None
    return row.bounded_by(route.dialect)[0], most


def _withheld(answer: Withheld, work: Work, route: Route) -> Refusal:
    work.unsettled += not is_refused(
        answer.status, fails_free=provider_row(route.key.provider).fails_free
    )
    log.warning(
        "provider_reply_withheld",
        call_id=work.talk.call_id,
        code=answer.code,
        provider_key=route.key.id,
        status=answer.status,
    )
    if answer.code == ErrorCode.PROVIDER_KEY_REJECTED:
        return Refusal(
            answer.code,
            f"The provider rejected the provider key “{route.key.name}”; its owner should test "
            "and replace it.",
        )
    return Refusal(
        answer.code,
        f"The provider answered {answer.status} with an error that quotes a secret or cannot be "
        "read; it is withheld.",
    )


async def pass_on(
    parts: Parts, work: Work, route: Route, reply: Reply
) -> tuple[Outcome, ErrorCode | None]:
    """Relay a reply to its end; after its first byte there is no other route.

    Returns the call's outcome and error code.
    """
    call, entry = work.call, work.entry
    assert call is not None
    assert entry is not None
    work.reply = reply
    encoding = header_of(reply, "content-encoding")
    meter = work.meter = Meter(
        work.dialect,
        header_of(reply, "content-type"),
        encoding,
        asked_for=not encoding or asks_gzip(work.talk.headers, streams=work.peek.streams),
    )
    meter.tally.choices = work.peek.choices if work.peek.streams else 0
    work.sampler = Sampler(is_compressed=bool(header_of(reply, "content-encoding")))
    watcher = Watcher(parts, work, entry, meter, route, reply.status)
    try:
        await relay(
            reply,
            work.talk,
            meter,
            call,
            watcher,
            strip_usage=work.injected_usage,
        )
        work.is_whole = True
        watcher.finish()
    except UpstreamError as error:
        break_off(work.talk, work.dialect, reply, Refusal(error.code, str(error)))
        if meter.is_open:
            await in_slices(meter.closing(), route.key.owner_id)
        return Outcome.UPSTREAM_ERROR, error.code
    except LedgerError:
        # A frame on the way is lost, the call is not: its record is written at the end.
        refusal = Refusal(ErrorCode.LEDGER_UNAVAILABLE, "The call cannot be recorded any further.")
        break_off(work.talk, work.dialect, reply, refusal)
        return Outcome.UPSTREAM_ERROR, refusal.code
    finally:
        watcher.close()
    if work.talk.link.is_gone and not meter.has_ended:
        return Outcome.CLIENT_GONE, None
    if reply.status >= 400 or meter.tally.has_failed:
        return Outcome.UPSTREAM_ERROR, None
    return Outcome.COMPLETED, None
