"""The life of a call, in the order in which it happens.

1. whose key is it                     directory/identity.py
2. what is asked: a peek, no full parse   talk.py, dialects
3. may it, and where does it go        policy: a plan of routes, or a refusal
4. a place in the book                 ledger: no place in the book, no call
5. for each route, until the first byte has gone to the client   sending.py
       the outbound request, without any credential              dialects
       the attempt's frame; the provider key opened; the send    ledger, custody
       the reply's bytes, only watched by the meter              relay.py
6. the record: always, synchronously   bookkeeping.py
"""

import asyncio
import secrets
from collections.abc import Mapping

from xairouter.accounting.counts import Counts
from xairouter.clock import now_ms
from xairouter.dialects.conversation import conversation_of
from xairouter.dialects.interface import Dialect
from xairouter.dialects.look import SMALL, look_over
from xairouter.dialects.media import input_tokens_in_steps
from xairouter.dialects.paths import takes_key_in_query
from xairouter.dialects.peek import LARGE
from xairouter.dialects.query import query_for_provider
from xairouter.dialects.table import DIALECTS
from xairouter.domain.calls import Match, Plan, Refusal, Route
from xairouter.domain.records import Outcome
from xairouter.domain.steps import Steps
from xairouter.errors import ErrorCode, LedgerError, StorageError
from xairouter.gateway.bodies import ClientGoneError
from xairouter.gateway.bookkeeping import close, first_record, session_of
from xairouter.gateway.relay import break_off
from xairouter.gateway.reserving import release_again, reserve, reserve_again
from xairouter.gateway.running import CutReason, RunningCall
from xairouter.gateway.sending import LOCAL, attempt, pass_on
from xairouter.gateway.talk import Talk, client_address
from xairouter.gateway.work import Parts, Work
from xairouter.observe import log
from xairouter.policy.decide import enter, plan_call, wake
from xairouter.policy.interface import Situation
from xairouter.policy.routing import Ways, ways_in_steps
from xairouter.turns import in_slices
from xairouter.upstream.interface import Reply

_CROWDED = Refusal(
    ErrorCode.OVERLOADED,
    "The router is busy, and this owner uses more than its share of it.",
    retry_after=1,
)
_CUTS: Mapping[CutReason, Refusal] = {
    CutReason.REVOKED: Refusal(
        ErrorCode.INVALID_API_KEY, "The key of this call was revoked while it ran."
    ),
    CutReason.UNSURE: Refusal(
        ErrorCode.STORAGE_UNAVAILABLE,
        "The database is away, and whether this call may go on cannot be known.",
        retry_after=1,
    ),
    CutReason.IDLE: Refusal(ErrorCode.UPSTREAM_TIMEOUT, "The reply was silent for too long."),
    CutReason.TOO_LONG: Refusal(ErrorCode.UPSTREAM_TIMEOUT, "The call took longer than it may."),
    CutReason.DRAINING: Refusal(ErrorCode.DRAINING, "The router is shutting down.", retry_after=1),
}


class Pipeline:
    """Takes a matched request through its life."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def handle(self, talk: Talk, match: Match) -> None:
        """Answer one request of the data plane, whatever happens."""
        parts = self._parts
        dialect = DIALECTS[match.operation.dialect]
        started = parts.running.now()
        if parts.running.refuses(is_kept=talk.link.is_kept):
            self._refuse(talk, dialect, _CUTS[CutReason.DRAINING])
            return
        query = talk.query if takes_key_in_query(match) else b""
        identity = await parts.identifier.resolve(talk.headers, query)
        address = client_address(talk.scope, talk.headers, parts.trusted_proxies)
        if isinstance(identity, Refusal):
            await parts.admission.anonymous.turn(address)
            self._refuse(talk, dialect, identity)
            return
        work = Work(talk, match, dialect, identity, started)
        work.address = address
        work.began_ms = now_ms() - int((parts.running.now() - started) * 1000)
        owner_id = identity.caller.owner_id
        if not parts.admission.enter(owner_id):
            await parts.admission.hold_back()
            parts.book.refuse(first_record(parts, work, Outcome.REFUSED, _CROWDED))
            self._refuse(talk, dialect, _CROWDED)
            return
        try:
            await parts.admission.turn(owner_id)
            plan = (
                enter(identity.caller, now_ms(), work.address, match.path)
                or await self._understand(work)
                or await self._plan(work)
            )
            if isinstance(plan, Refusal):
                parts.book.refuse(first_record(parts, work, Outcome.REFUSED, plan))
                self._refuse(talk, dialect, plan)
            else:
                await self._run(work, plan)
        except ClientGoneError:
            parts.book.refuse(first_record(parts, work, Outcome.CLIENT_GONE))
        finally:
            parts.admission.leave(owner_id)
            talk.release()
            if work.held is not None:
                # Counts once: what has been settled already stays as it is.
                parts.counters.settle(work.held, Counts())
                release_again(parts, work)

    def _refuse(self, talk: Talk, dialect: Dialect, refusal: Refusal) -> None:
        self._parts.metrics.refused(refusal.code)
        talk.refuse(dialect, refusal)

    async def _understand(self, work: Work) -> Refusal | None:
        """Check the query, read the body and peek at it."""
        talk = work.talk
        if talk.query:
            query = query_for_provider(work.match.operation.name, talk.query)
            if isinstance(query, Refusal):
                return query
            work.query = query
        label = talk.header(b"x-xairouter-label")
        if len(label) > 64 or not label.isprintable():
            return Refusal(
                ErrorCode.INVALID_REQUEST,
                "The header x-xairouter-label takes at most 64 visible characters.",
            )
        if work.match.operation.method == "POST":
            body = await talk.read_body(
                work.identity.caller.owner_id, self._parts.max_body, self._parts.body_times
            )
            if isinstance(body, Refusal):
                return body
            work.body = body
            if len(body) > SMALL:
                refusal = await self._look_over(work)
                if refusal is not None:
                    return refusal
        peek = work.dialect.peek(work.match, work.body, work.look)
        if isinstance(peek, Refusal):
            return peek
        work.peek = peek
        return None

    async def _look_over(self, work: Work) -> Refusal | None:
        """What takes long in a body that is not small, in short steps."""
        owner_id = work.identity.caller.owner_id
        look = await in_slices(look_over(work.match, work.body), owner_id)
        if isinstance(look, Refusal):
            return look
        work.look = look
        if look and work.match.operation.metered and len(work.body) > LARGE:
            weighing = input_tokens_in_steps(work.body, look.top)
            work.given_tokens = await in_slices(weighing, owner_id)
        return None

    async def _plan(self, work: Work) -> Plan | Refusal:
        identity, ids = work.identity, work.peek.bound_ids
        try:
            bindings = (
                await self._parts.directory.bindings(identity.caller.owner_id, ids) if ids else {}
            )
        except StorageError:
            return Refusal(
                ErrorCode.STORAGE_UNAVAILABLE, "The database cannot be used now.", retry_after=1
            )
        if work.match.operation.shows_object:
            binding = bindings.get(ids[0])
            work.settles = binding.call_id if binding is not None else None
        health = self._parts.health
        situation = Situation(_draw(work), health.now(), health.ailing, bindings)
        if identity.view.catalogue.is_wide and work.peek.model is not None:
            await in_slices(_ways(work, work.peek.model), identity.caller.owner_id)
        plan = plan_call(identity.view, identity.caller, work.match, work.peek, situation)
        if isinstance(plan, Refusal):
            return plan
        refused = await reserve(self._parts, work, plan)
        return refused or wake(plan, work.peek, situation)

    async def _run(self, work: Work, plan: Plan) -> None:
        """Open an entry, serve the call, close the entry: however it ends."""
        parts, talk = self._parts, work.talk
        try:
            work.entry = parts.book.open(first_record(parts, work, Outcome.INTERRUPTED))
        except LedgerError:
            self._refuse(
                talk,
                work.dialect,
                Refusal(
                    ErrorCode.LEDGER_UNAVAILABLE,
                    "The call cannot be recorded now, so it was not made.",
                    retry_after=1,
                ),
            )
            return
        call = work.call = parts.running.begin(work.identity)
        outcome, code = Outcome.INTERRUPTED, None
        try:
            if work.finishes:
                call.patience = parts.running.patience
            elif work.identity.view.settings.on_client_gone == "cancel":
                talk.link.when_gone(lambda: call.cut(CutReason.CLIENT_GONE))
            outcome, code = await self._serve(work, plan)
            await _absorb_late_cut(call)
        except asyncio.CancelledError:
            if call.cut_reason is None:
                raise
            _uncancel()
            outcome, code = self._cut(work, call.cut_reason)
        except Exception as error:  # noqa: BLE001 -- the edge of the data plane
            log.error("call_failed", call_id=talk.call_id, exc_info=error)
            outcome, code = Outcome.UPSTREAM_ERROR, ErrorCode.INTERNAL_ERROR
            self._give_up(work, Refusal(code, "The router failed while serving this call."))
        finally:
            parts.running.end(call)
            talk.link.when_gone(None)
            close(parts, work, outcome, code)
            if work.reply is not None:
                await work.reply.close()

    async def _serve(self, work: Work, plan: Plan) -> tuple[Outcome, ErrorCode | None]:
        """Try the routes in order; when none serves, a provider's own reply passes before ours."""
        parts, owner_id = self._parts, work.identity.caller.owner_id
        refusal = Refusal(
            ErrorCode.ALL_KEYS_SLEEPING, "Every provider key for this sleeps.", retry_after=1
        )
        kept: tuple[Route, Reply] | None = None
        parts.retries.earn(owner_id)
        for route in plan.routes:
            # Somebody else may have found the key ailing since the plan was made.
            if not parts.health.may_try(route.key, route.model):
                continue
            if work.entry is not None and work.entry.attempts and not parts.retries.spend(owner_id):
                break
            if work.unsettled:
                refused = await reserve_again(parts, work)
                if refused is not None:
                    refusal = refused
                    break
            tried = await attempt(parts, work, route)
            if isinstance(tried.answer, Refusal):
                refusal = tried.answer
                if not tried.may_go_on:
                    break
            elif tried.may_go_on:
                kept = route, tried.answer
            else:
                return await pass_on(parts, work, route, tried.answer)
        if kept is not None:
            return await pass_on(self._parts, work, *kept)
        self._refuse(work.talk, work.dialect, refusal)
        is_ours = refusal.code in LOCAL
        return Outcome.REFUSED if is_ours else Outcome.UPSTREAM_ERROR, refusal.code

    def _cut(self, work: Work, reason: CutReason) -> tuple[Outcome, ErrorCode | None]:
        """The call was ended from outside: say so to the client as far as that is possible."""
        if reason == CutReason.CLIENT_GONE:
            # Many clients leave at the stream's last word, before the transport's own end.
            has_all = work.meter is not None and work.meter.has_ended
            return Outcome.COMPLETED if has_all else Outcome.CLIENT_GONE, None
        refusal = _CUTS[reason]
        self._give_up(work, refusal)
        is_timeout = reason in (CutReason.IDLE, CutReason.TOO_LONG)
        return Outcome.UPSTREAM_ERROR if is_timeout else Outcome.INTERRUPTED, refusal.code

    def _give_up(self, work: Work, refusal: Refusal) -> None:
        if work.talk.has_started:
            break_off(work.talk, work.dialect, work.reply, refusal)
        else:
            self._refuse(work.talk, work.dialect, refusal)


def _ways(work: Work, model: str) -> Steps[Ways]:
    """What serves a model, found out beforehand: the view remembers it."""
    view, caller = work.identity.view, work.identity.caller
    return ways_in_steps(view, caller, work.match.operation.dialect, model)


def _draw(work: Work) -> int:
    """What chooses between keys: the conversation, so that it stays on one; else chance."""
    if len(work.identity.view.catalogue.keys) < 2:
        return 0
    found = conversation_of(work.body, session_of(work.talk), work.look and work.look.top)
    return secrets.randbits(64) if found is None else found


async def _absorb_late_cut(call: RunningCall) -> None:
    """A cut that came together with the last byte is delivered here, inside the call."""
    if call.cut_reason is not None:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            _uncancel()
    call.over()


def _uncancel() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
