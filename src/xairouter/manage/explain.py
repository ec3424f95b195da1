"""Why a call would be served or refused: every rule's answer, and the plan with each key's reason.

The same functions that decide calls are asked here one by one, so that what is explained is what
would happen; nothing is counted and nothing is sent.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.accounting.reservation import Estimate
from xairouter.clock import now_ms
from xairouter.dialects.paths import find
from xairouter.directory.prices import is_unpriced, prices_to_reserve
from xairouter.domain.accounts import Account, ApiKey, KeyScope, KeyStatus
from xairouter.domain.calls import Match, Peek, Plan, Refusal
from xairouter.domain.permissions import Permission
from xairouter.errors import ErrorCode, ManageError, StorageError
from xairouter.manage.desk import Actor, Desk, require, within_reach
from xairouter.manage.request_body import Read, read_in_steps
from xairouter.manage.views import Explanation, instant, usd
from xairouter.policy import access
from xairouter.policy.health import awake
from xairouter.policy.interface import Caller, OwnerView, Question
from xairouter.policy.limits import (
    WHOLE,
    Demand,
    demands_of,
    estimate_of,
    exceeded,
    has_budget,
    unpriced,
)
from xairouter.policy.routing import Trace, choose, ways_in_steps
from xairouter.policy.windows import MONEY, REQUESTS, RUNNING, TOKENS
from xairouter.storage import keys, owners, records, rollups
from xairouter.turns import in_slices

PASS, DENY, NOT_ASKED = "pass", "deny", "not_asked"


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that is to be explained: by whom, what, from where. ``account`` and ``key_id`` default
    to the asker's own; ``input_tokens`` is a guess where a budget or a limit of tokens counts. With a
    ``body``, the request's own, all that it says is read from there. ``reserved`` is what was reserved
    for a call that was made."""

    account: str | None = None
    key_id: str | None = None
    method: str = "POST"
    path: str = "/v1/chat/completions"
    model: str | None = None
    ip: str = ""
    stream: bool = False
    max_output_tokens: int | None = None
    input_tokens: int = 0
    at_ms: int | None = None
    body: bytes = field(default=b"", repr=False)
    reserved: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """What one rule says; ``source`` is the account whose rule it is."""

    rule: str
    verdict: str
    why: str
    source: str | None = None
    code: ErrorCode | None = None


async def explain(desk: Desk, actor: Actor, asked: Asked) -> Explanation:
    """Why a call that might be made would be served or refused."""
    require(actor, Permission.EXPLAIN)
    async with desk.database.read() as connection:
        caller = await _caller(connection, actor, asked)
    view = await desk.directory.owner(actor.owner_id)
    return await _Explainer(desk, view, caller, asked).answer()


async def explain_call(desk: Desk, actor: Actor, call_id: str) -> Explanation:
    """The same for a call that was made, with today's rules, beside what became of it."""
    require(actor, Permission.EXPLAIN)
    async with desk.database.read() as connection:
        filters = rollups.Filters(equal={"call_id": call_id})
        found = await records.page(connection, actor.owner_id, filters, before=None, limit=1)
    missing = ManageError(ErrorCode.NOT_FOUND, f"There is no call “{call_id[:64]}” within reach.")
    if not found:
        raise missing
    row = found[0]
    tokens = row["reserved_tokens"]
    asked = Asked(
        row["account_id"],
        row["key_id"],
        row["method"],
        row["path"],
        row["model_asked"],
        row["client_ip"],
        row["stream"],
        row["max_output_tokens"],
        reserved=None if tokens is None else Estimate(tokens, row["reserved_nano"]),
    )
    try:
        answer = await explain(desk, actor, asked)
    except ManageError as error:
        raise missing if error.code == ErrorCode.NOT_FOUND else error from None
    answer["call"] = {
        "call_id": row["call_id"],
        "started_at": instant(row["started_at_ms"]),
        "outcome": row["outcome"],
        "error_code": row["error_code"],
        "status": row["status"],
        "attempts": row["attempts"],
        "provider_key_id": row["provider_key_id"],
        "model_used": row["model_used"],
    }
    return answer


async def _caller(connection: AsyncConnection, actor: Actor, asked: Asked) -> Caller:
    """Who would call: a key, or an account as if with an unlimited key of it."""
    own = actor.caller
    account_id = asked.account
    key: ApiKey | None = None
    if asked.key_id is not None:
        key = await keys.get_key(connection, actor.owner_id, asked.key_id)
        if key is None or (account_id is not None and key.account_id != account_id):
            raise ManageError(ErrorCode.NOT_FOUND, f"There is no key “{asked.key_id[:64]}” here.")
        account_id = key.account_id
    if account_id is None or account_id == own.account.id:
        chain: tuple[Account, ...] = own.chain
        key = key or (own.key if account_id is None else None)
    else:
        chain = await within_reach(connection, actor, Permission.EXPLAIN, account_id)
    if key is None:
        key = ApiKey(
            "", actor.owner_id, chain[-1].id, "any", KeyScope.CALL, KeyStatus.ACTIVE, 0, None, None
        )
    fresh = await owners.chain_of(connection, actor.owner_id, chain[-1].id)
    return Caller.of(key, fresh, own.revision)


class _Explainer:
    """Asks every rule about one call, in the order in which calls are decided."""

    def __init__(self, desk: Desk, view: OwnerView, caller: Caller, asked: Asked) -> None:
        self._desk = desk
        self._view = view
        self._caller = caller
        self._asked = asked
        self._said: list[Said] = []
        self._trace = Trace([])
        self._now = asked.at_ms if asked.at_ms is not None else now_ms()
        peek = Peek(asked.model, asked.stream, asked.max_output_tokens)
        self._read = Read(peek, given=asked.input_tokens)
        self._unread = False

    async def answer(self) -> Explanation:
        asked = self._asked
        match = find(asked.method.upper(), asked.path.encode("utf-8", "replace"))
        is_ours = match is not None and match.operation.dialect == "models"
        question = Question(
            self._caller, self._now, asked.ip, match.path if match is not None else None
        )
        # What is no operation is answered before anybody looks at the key.
        if match is None:
            self._say(
                "known_path", DENY, "There is no such operation.", code=ErrorCode.UNKNOWN_PATH
            )
        else:
            self._say("known_path", PASS, match.operation.name)
            await self._ask_body(match)
        for name, rule in _ADMISSION:
            self._ask(name, rule(question))
        self._ask_address(question)
        self._ask("allow_paths", access.path_is_allowed(question), self._source("paths"))
        if match is None or is_ours or self._unread:
            for name in _AFTER_PATH:
                self._say(name, NOT_ASKED, "The path decides." if not self._unread else "Not read.")
            return self._whole(None)
        plan = await self._ask_model(match)
        await self._ask_limits(match, plan)
        plan = self._ask_health(plan)
        return self._whole(plan)

    async def _ask_body(self, match: Match) -> None:
        asked = self._asked.body
        if asked and match.operation.method == "POST":
            read = await in_slices(read_in_steps(match, asked), self._caller.owner_id)
            self._unread = isinstance(read, Refusal)
            self._ask("body", read if isinstance(read, Refusal) else None)
            self._read = read if isinstance(read, Read) else self._read

    def _ask_address(self, question: Question) -> None:
        restricts = any(made.networks is not None for _, made in self._caller.path)
        if not self._asked.ip and restricts:
            self._say("allow_ips", NOT_ASKED, "No address was given.", self._source("networks"))
            return
        self._ask("allow_ips", access.address_is_allowed(question), self._source("networks"))

    async def _ask_model(self, match: Match) -> Plan | None:
        """Model named and allowed, routes, levels, output."""
        peek, dialect = self._read.peek, match.operation.dialect
        model = match.variables.get("model") or peek.model
        if not match.operation.needs_model:
            for name in (
                "model_named",
                "allow_models",
                "routes",
                "allow_levels",
                "max_output_tokens",
            ):
                self._say(name, NOT_ASKED, "This operation names no model.")
            return None
        if not model:
            self._say("model_named", DENY, "No model is named.", code=ErrorCode.MODEL_MISSING)
            for name in ("allow_models", "routes", "allow_levels", "max_output_tokens"):
                self._say(name, NOT_ASKED, "No model is named.")
            return None
        self._say("model_named", PASS, model[:128])
        steps = ways_in_steps(self._view, self._caller, dialect, model)
        wanted = (ways := await in_slices(steps, self._caller.owner_id)).wanted
        question = Question(
            self._caller,
            self._now,
            self._asked.ip,
            match.path,
            wanted.asked.model,
            wanted.mapped.model,
            peek.max_output_tokens,
        )
        refused = access.model_is_allowed(question)
        if refused is None and (peek.other_models or peek.unlisted):
            refused = access.names_are_allowed(self._caller, peek)
        self._ask("allow_models", refused, self._source("models"))
        draw = secrets.randbits(64)
        plan = choose(ways, dialect, draw=draw, trace=self._trace)
        if isinstance(plan, Refusal) and plan.code == ErrorCode.LEVEL_NOT_ALLOWED:
            self._say("routes", PASS, f"{wanted.mapped.model} is served.")
            self._ask("allow_levels", plan, self._source("levels"))
        else:
            refused = plan if isinstance(plan, Refusal) else None
            self._ask("routes", refused)
            self._ask("allow_levels", None, self._source("levels"))
        self._ask("max_output_tokens", access.output_is_allowed(question))
        return None if isinstance(plan, Refusal) else plan

    async def _ask_limits(self, match: Match, plan: Plan | None) -> None:
        kinds = {"concurrency": RUNNING, "requests": REQUESTS, "tokens": TOKENS, "budget": MONEY}
        if plan is None:
            for name in kinds:
                self._say(name, NOT_ASKED, "There is no plan.")
            return
        likely = self._estimate(match, plan)
        if isinstance(likely, Refusal):
            self._say("priced", DENY, likely.message, code=likely.code)
            for name in kinds:
                self._say(name, NOT_ASKED, "What the call may cost is not known.")
            return
        demands = demands_of(self._caller, plan.routes[0].model, likely)
        try:
            used = await self._desk.counters.used(self._caller.owner_id, demands, self._view.zone)
        except StorageError:
            for name in kinds:
                self._say(name, NOT_ASKED, "What was used cannot be read now.")
            return
        if has_budget(self._caller) and match.operation.metered:
            self._ask_price(plan, likely)
        for name, unit in kinds.items():
            of_kind = [
                (demand, amount)
                for demand, amount in zip(demands, used, strict=True)
                if demand.unit == unit
            ]
            self._ask_limit(name, of_kind)

    def _ask_price(self, plan: Plan, likely: Estimate) -> None:
        if likely.nano is None:
            if self._view.settings.unpriced == "allow":
                self._say("priced", PASS, "The price is not known, and the owner allows that.")
            else:
                refusal = unpriced(plan.routes[0].model)
                self._say("priced", DENY, refusal.message, code=refusal.code)
        elif is_unpriced(self._view, self._desk.prices, plan.routes):
            self._say("priced", PASS, "The price is not known; the provider's highest stand in.")
        else:
            self._say("priced", PASS, "The price is known.")

    def _ask_limit(self, name: str, of_kind: Sequence[tuple[Demand, int]]) -> None:
        if not of_kind:
            self._say(name, PASS, "Nothing is limited.")
            return
        for demand, used in of_kind:
            if used + demand.amount > demand.limit:
                refusal = exceeded(self._caller, demand, None)
                self._say(name, DENY, refusal.message, demand.account_id, refusal.code)
                return
        demand, used = min(of_kind, key=lambda one: one[0].limit - one[1])
        money = demand.unit == MONEY
        shown = [usd(n) if money else n for n in (used, demand.amount, demand.limit)]
        pattern = "" if demand.pattern == WHOLE else f" for {demand.pattern[:64]}"
        self._say(
            name,
            PASS,
            f"{demand.name}{pattern}: {shown[0]} used, {shown[1]} asked for, of {shown[2]}.",
            demand.account_id,
        )

    def _estimate(self, match: Match, plan: Plan) -> Estimate | Refusal:
        if not match.operation.metered:
            return Estimate(0, 0)
        if self._asked.reserved is not None:
            return self._asked.reserved
        asked = self._read.to_reserve(match, plan.routes, self._desk.output_reserve)
        at = prices_to_reserve(self._view, self._desk.prices, plan.routes, asked.peek.other_models)
        return estimate_of(self._view, self._caller, asked, at, self._now)

    def _ask_health(self, plan: Plan | None) -> Plan | None:
        if plan is None:
            self._say("sleeping_keys", NOT_ASKED, "There is no plan.")
            return None
        health = self._desk.health
        found = awake(plan, health.ailing, health.now())
        if isinstance(found, Refusal):
            self._ask("sleeping_keys", found)
            return plan
        left = len(plan.routes) - len(found.routes)
        self._say("sleeping_keys", PASS, f"{left} of {len(plan.routes)} routes sleep.")
        return found

    def _ask(self, name: str, refusal: Refusal | None, source: str | None = None) -> None:
        if refusal is None:
            self._say(name, PASS, "Nothing speaks against it.", source)
        else:
            self._say(name, DENY, refusal.message, source, refusal.code)

    def _say(
        self,
        rule: str,
        verdict: str,
        why: str,
        source: str | None = None,
        code: ErrorCode | None = None,
    ) -> None:
        self._said.append(Said(rule, verdict, why, source, code))

    def _source(self, part: str) -> str | None:
        """The account nearest the caller that says anything of this."""
        for account, made in reversed(self._caller.path):
            if getattr(made, part) is not None:
                return account.id
        return None

    def _whole(self, plan: Plan | None) -> Explanation:
        refused = next((said for said in self._said if said.verdict == DENY), None)
        reasons = {(key, model): why for key, model, why in self._trace.lines}
        routes = plan.routes if plan is not None else ()
        return {
            "allowed": refused is None,
            "code": refused.code if refused is not None else None,
            "account_id": self._caller.account.id,
            "plan": [
                {
                    "provider_key_id": route.key.id,
                    "name": route.key.name,
                    "provider": route.key.provider,
                    "level": route.key.level,
                    "model": route.model,
                    "why": reasons.get((route.key.id, route.model or ""), "keeps the object"),
                }
                for route in routes
            ],
            "rules": [
                {"rule": said.rule, "verdict": said.verdict, "why": said.why, "source": said.source}
                for said in self._said
            ],
        }


_ADMISSION = (
    ("key", access.key_is_active),
    ("expiry", access.key_has_not_expired),
    ("suspension", access.accounts_are_active),
)
_AFTER_PATH = (
    "model_named",
    "allow_models",
    "routes",
    "allow_levels",
    "max_output_tokens",
    "concurrency",
    "requests",
    "tokens",
    "budget",
    "sleeping_keys",
)
