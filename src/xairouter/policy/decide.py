"""The decision over one call, in the order in which things are asked.

What comes before a key is known (path, credential) is decided at the edge. ``admit`` holds for
every use of a key, ``enter`` for a call before its body is read, ``decide`` for the whole call:
the plan and what must be counted for it, or a refusal. Counters are asked afterwards.
"""

from collections.abc import Mapping

from xairouter.domain.accounts import ProviderKey, ProviderKeyStatus
from xairouter.domain.calls import Match, Peek, Plan, Refusal, Route
from xairouter.errors import ErrorCode
from xairouter.policy.access import (
    ADMISSION,
    ENTRY,
    first_refusal,
    model_is_allowed,
    names_are_allowed,
    output_is_allowed,
    who_forbids_level,
)
from xairouter.policy.health import awake
from xairouter.policy.interface import Binding, Caller, OwnerView, Question, Situation
from xairouter.policy.patterns import matches
from xairouter.policy.routing import Trace, choose, find_ways


def admit(caller: Caller, now_ms: int) -> Refusal | None:
    """The rules that hold for every use of a key, in both planes."""
    return first_refusal(ADMISSION, Question(caller, now_ms, ""))


def enter(caller: Caller, now_ms: int, address: str, path: str | None) -> Refusal | None:
    """What can be said before a body is read; without a path, of the management plane."""
    return first_refusal(ENTRY, Question(caller, now_ms, address, path))


def plan_call(
    view: OwnerView,
    caller: Caller,
    match: Match,
    peek: Peek,
    situation: Situation,
    trace: Trace | None = None,
) -> Plan | Refusal:
    """The routes to try, best first, or why there are none."""
    dialect = match.operation.dialect
    if peek.model is None:
        return _plan_object(view, caller, dialect, peek, situation)
    ways = find_ways(view, caller, dialect, peek.model)
    wanted = ways.wanted
    question = Question(
        caller,
        0,
        "",
        match.path,
        wanted.asked.model,
        wanted.mapped.model,
        peek.max_output_tokens,
    )
    refused = model_is_allowed(question)
    if refused is None and (peek.other_models or peek.unlisted):
        refused = names_are_allowed(caller, peek)
    if refused is not None:
        return refused
    pinned = _pinned_key(view, caller, peek, situation.bindings)
    if isinstance(pinned, Refusal):
        return pinned
    plan = choose(ways, dialect, draw=situation.draw, trace=trace)
    if isinstance(plan, Refusal):
        return plan
    refused = output_is_allowed(question)
    if refused is not None:
        return refused
    if pinned is None:
        return plan
    routes = tuple(route for route in plan.routes if route.key.id == pinned.id)
    if routes:
        return Plan(routes[:1])
    # A provider's own list may lack the model by now: the provider says so. The owner's list binds.
    model = plan.routes[0].model
    if pinned.models is not None and not any(matches(one, model or "") for one in pinned.models):
        return Refusal(
            ErrorCode.MODEL_NOT_FOUND,
            f"The provider key that keeps what the request refers to does not serve “{model}”.",
        )
    return Plan((Route(pinned, model, dialect),))


def wake(plan: Plan, peek: Peek, situation: Situation) -> Plan | Refusal:
    """The plan without keys that sleep; what a provider object pins is not kept away."""
    if peek.bound_ids:
        return plan
    return awake(plan, situation.ailments, situation.seconds)


def _plan_object(
    view: OwnerView, caller: Caller, dialect: str, peek: Peek, situation: Situation
) -> Plan | Refusal:
    """A call that names no model goes to the key that keeps its object."""
    pinned = _pinned_key(view, caller, peek, situation.bindings)
    if isinstance(pinned, Refusal):
        return pinned
    keys = [pinned] if pinned else _speakers(view, caller, dialect)
    if not keys:
        return _no_keys(view, dialect)
    return Plan(tuple(Route(key, None, dialect) for key in keys[:1]))


def _pinned_key(
    view: OwnerView, caller: Caller, peek: Peek, bindings: Mapping[str, Binding | None]
) -> ProviderKey | Refusal | None:
    """The one key that keeps the objects referred to; foreign and unknown ids answer alike."""
    keys: dict[str, ProviderKey] = {}
    for object_id in peek.bound_ids:
        binding = bindings.get(object_id)
        missing = Refusal(
            ErrorCode.OBJECT_NOT_FOUND,
            f"There is no object “{object_id}” within reach of this account.",
        )
        if binding is None:
            if not caller.is_owner_account:
                return missing
            continue
        # The owner's own account reaches everything, also what a deleted account left behind.
        if caller.account.id not in binding.account_path and not caller.is_owner_account:
            return missing
        key = view.provider_keys.get(binding.provider_key_id)
        if key is None or key.status != ProviderKeyStatus.ACTIVE:
            return Refusal(
                ErrorCode.OBJECT_NOT_FOUND,
                f"The provider key that keeps “{object_id}” is gone or disabled.",
            )
        keys[key.id] = key
    if len(keys) > 1:
        return Refusal(
            ErrorCode.INVALID_REQUEST,
            "The request refers to objects that different provider keys keep.",
        )
    pinned = next(iter(keys.values()), None)
    by = None if pinned is None else who_forbids_level(caller, pinned.level)
    if pinned is not None and by is not None:
        return Refusal(
            ErrorCode.LEVEL_NOT_ALLOWED,
            f"What the request refers to is kept at level {pinned.level}, which the account "
            f"“{by.name}” may not use (rule allow_levels).",
        )
    return pinned


def _speakers(view: OwnerView, caller: Caller, dialect: str) -> list[ProviderKey]:
    keys = [
        key
        for key in view.catalogue.keys
        if dialect in key.endpoints and who_forbids_level(caller, key.level) is None
    ]
    return sorted(keys, key=lambda key: (key.level, key.id))


def _no_keys(view: OwnerView, dialect: str) -> Refusal:
    if not view.catalogue.keys:
        return Refusal(ErrorCode.NO_PROVIDER_KEY, "The owner has no active provider key.")
    return Refusal(ErrorCode.OBJECT_NOT_FOUND, f"No provider key of the owner speaks {dialect}.")
