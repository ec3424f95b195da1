"""One attempt: the outbound request of a route, sent through custody; and its reply, relayed."""

import msgspec

from xairouter.clock import now_ms
from xairouter.custody.room import BufferedReply, Withheld
from xairouter.dialects.headers import forwarded, query_for_provider
from xairouter.dialects.meter import Meter
from xairouter.dialects.paths import makes_output
from xairouter.domain.calls import Outbound, Refusal, Route
from xairouter.domain.failures import CLIENT, FAILED, REJECTED, RETRIED, UNREACHABLE, Failure
from xairouter.domain.records import CLIENT_GONE, COMPLETED, UPSTREAM_ERROR
from xairouter.errors import CustodyError, LedgerError, UpstreamError
from xairouter.gateway.relay import break_off, relay
from xairouter.gateway.watching import Watcher
from xairouter.gateway.work import Parts, Work
from xairouter.observe import log
from xairouter.policy.access import most_output
from xairouter.policy.failures import classify
from xairouter.providers.interface import Provider
from xairouter.providers.table import provider_row
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
    match answer:
        case Refusal():
            cause = _CAUSES.get(answer.code)
            failure = Failure(cause) if cause else None
            # A provider that did not answer in time may still be working, and billing.
            may_go_on = answer.code not in ("ledger_unavailable", "upstream_timeout")
        case BufferedReply():
            failure = classify(
                answer.status, dict(answer.headers), answer.body, row.signs, now_ms()
            )
            may_go_on = failure.cause in RETRIED
        case _:
            failure, may_go_on = None, False
    if failure is None or failure.cause == CLIENT:
        if not isinstance(answer, Refusal):
            parts.health.served(route.key, route.model)
    else:
        parts.health.failed(route.key, route.model, failure)
    return Tried(answer, may_go_on)


_CAUSES = {
    "provider_key_rejected": REJECTED,
    "upstream_error_withheld": FAILED,
    "upstream_unreachable": UNREACHABLE,
    "upstream_timeout": FAILED,
}


async def _send(parts: Parts, work: Work, route: Route, row: Provider) -> Reply | Refusal:
    """The request itself; a refusal says why there is no reply to pass on."""
    call, entry = work.call, work.entry
    assert call is not None
    assert entry is not None
    outbound = _outbound(work, route, row)
    work.injected_usage = outbound.injected_usage

    async def announce() -> None:
        await entry.attempt(route)
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
            "provider_key_rejected",
            f"The provider key “{route.key.name}” does not open here; its owner must replace it.",
        )
    except UpstreamError as error:
        return Refusal(error.code, str(error))
    except LedgerError:
        return Refusal("ledger_unavailable", "The attempt cannot be recorded now.", retry_after=1)
    call.touched_at = parts.running.now()
    if isinstance(answer, Withheld):
        log.warning(
            "provider_reply_withheld",
            call_id=work.talk.call_id,
            code=answer.code,
            provider_key=route.key.id,
            status=answer.status,
        )
        return _withheld(answer, route)
    if not (200 <= answer.status < 300 or 400 <= answer.status < 600):
        await answer.close()
        return Refusal(
            "upstream_unreachable",
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
        query=query_for_provider(work.talk.query),
        headers=forwarded(
            work.talk.headers,
            extra=row.forward_headers,
            defaults=work.dialect.default_headers,
            streams=work.peek.streams,
            has_body=bool(body),
        ),
        body=body,
        injected_usage=injected,
    )


def _bound(work: Work, route: Route, row: Provider) -> tuple[str, int] | None:
    """Where the request declares no output and the rules bound it: the field and the number."""
    if work.peek.max_output_tokens is not None or not makes_output(work.match):
        return None
    most = most_output(work.identity.caller)
    if most is None:
        return None
    return row.output_fields.get(route.dialect, work.dialect.output_field), most


def _withheld(answer: Withheld, route: Route) -> Refusal:
    if answer.code == "provider_key_rejected":
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


async def pass_on(parts: Parts, work: Work, route: Route, reply: Reply) -> tuple[str, str | None]:
    """Relay a reply to its end; after its first byte there is no other route.

    Returns the call's outcome and error code.
    """
    call, entry = work.call, work.entry
    assert call is not None
    assert entry is not None
    work.reply = reply
    meter = work.meter = Meter(
        work.dialect, header_of(reply, "content-type"), header_of(reply, "content-encoding")
    )
    watcher = Watcher(parts, work, entry, meter, route, reply.status)
    try:
        await relay(
            reply,
            work.talk,
            meter,
            call,
            watcher,
            parts.running.now,
            strip_usage=work.injected_usage,
        )
    except UpstreamError as error:
        break_off(work.talk, work.dialect, reply, Refusal(error.code, str(error)))
        return UPSTREAM_ERROR, error.code
    except LedgerError:
        # A frame on the way is lost, the call is not: its record is written at the end.
        refusal = Refusal("ledger_unavailable", "The call cannot be recorded any further.")
        break_off(work.talk, work.dialect, reply, refusal)
        return UPSTREAM_ERROR, refusal.code
    if work.match.operation.makes_object and not work.knows_object:
        made = meter.finish().object_id
        if made and reply.status < 300:
            watcher.bind(made)
    if work.talk.link.is_gone and not meter.has_ended:
        return CLIENT_GONE, None
    if reply.status >= 400 or meter.tally.error:
        return UPSTREAM_ERROR, None
    return COMPLETED, None
