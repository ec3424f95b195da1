"""The decision over one call: ``RULES`` in the order they are asked, then the plan.

Each rule says None or a Refusal. What comes before a key is known (path, credential) is decided at
the edge; what comes after is here.
"""

from collections.abc import Callable, Mapping

from xairouter.domain.accounts import ACTIVE, ProviderKey
from xairouter.domain.calls import Match, Peek, Plan, Refusal, Route
from xairouter.policy.interface import Binding, Caller, OwnerView
from xairouter.policy.routing import choose

Rule = Callable[[Caller, int], Refusal | None]


def key_is_active(caller: Caller, now_ms: int) -> Refusal | None:
    """A suspended key is refused before anything else is looked at."""
    if caller.key.status != ACTIVE:
        return Refusal("account_suspended", f"The XAI API key “{caller.key.name}” is suspended.")
    return None


def key_has_not_expired(caller: Caller, now_ms: int) -> Refusal | None:
    """Expiry binds to the millisecond, also while the key's slot still exists."""
    expires = caller.key.expires_at_ms
    if expires is not None and expires <= now_ms:
        return Refusal("api_key_expired", f"The XAI API key “{caller.key.name}” has expired.")
    return None


def accounts_are_active(caller: Caller, now_ms: int) -> Refusal | None:
    """Suspending an account stops everything below it."""
    for account in caller.chain:
        if account.status != ACTIVE or account.suspended_by_operator:
            return Refusal("account_suspended", f"The account “{account.name}” is suspended.")
    return None


RULES: tuple[Rule, ...] = (key_is_active, key_has_not_expired, accounts_are_active)


def admit(caller: Caller, now_ms: int) -> Refusal | None:
    """The rules that hold for every use of a key, in both planes."""
    for rule in RULES:
        refusal = rule(caller, now_ms)
        if refusal is not None:
            return refusal
    return None


def plan_call(
    view: OwnerView,
    caller: Caller,
    match: Match,
    peek: Peek,
    bindings: Mapping[str, Binding | None],
    *,
    draw: int,
) -> Plan | Refusal:
    """The routes to try, best first, or why there are none.

    ``bindings`` holds, for each of ``peek.bound_ids``, what is known of it (None: nothing);
    ``draw`` is a fresh random number that shares the load between keys.
    """
    pinned = _pinned_key(view, caller, peek, bindings)
    if isinstance(pinned, Refusal):
        return pinned
    dialect = match.operation.dialect
    if peek.model is None:
        keys = [pinned] if pinned else _speakers(view, dialect)
        if not keys:
            return _no_keys(view, dialect)
        return Plan(tuple(Route(key, None, dialect) for key in keys[:1]))
    plan = choose(view.catalogue, dialect, peek.model, draw=draw)
    if isinstance(plan, Refusal) or pinned is None:
        return plan
    routes = tuple(route for route in plan.routes if route.key.id == pinned.id)
    if routes:
        return Plan(routes)
    # The key that keeps the object may have been outdrawn, or list the model no more: its own
    # provider is the one to say so.
    return Plan((Route(pinned, plan.routes[0].model, dialect),))


def _pinned_key(
    view: OwnerView, caller: Caller, peek: Peek, bindings: Mapping[str, Binding | None]
) -> ProviderKey | Refusal | None:
    """The one key that keeps the objects referred to; foreign and unknown ids answer alike."""
    keys: dict[str, ProviderKey] = {}
    for object_id in peek.bound_ids:
        binding = bindings.get(object_id)
        missing = Refusal(
            "object_not_found", f"There is no object “{object_id}” within reach of this account."
        )
        if binding is None:
            if not caller.is_owner_account:
                return missing
            continue
        # The owner's own account reaches everything, also what a deleted account left behind.
        if caller.account.id not in binding.account_path and not caller.is_owner_account:
            return missing
        key = view.provider_keys.get(binding.provider_key_id)
        if key is None or key.status != ACTIVE:
            return Refusal(
                "object_not_found",
                f"The provider key that keeps “{object_id}” is gone or disabled.",
            )
        keys[key.id] = key
    if len(keys) > 1:
        return Refusal(
            "invalid_request", "The request refers to objects that different provider keys keep."
        )
    return next(iter(keys.values()), None)


def _speakers(view: OwnerView, dialect: str) -> list[ProviderKey]:
    keys = [key for key in view.catalogue.keys if dialect in key.endpoints]
    return sorted(keys, key=lambda key: (key.level, key.id))


def _no_keys(view: OwnerView, dialect: str) -> Refusal:
    if not view.catalogue.keys:
        return Refusal("no_provider_key", "The owner has no active provider key.")
    return Refusal("object_not_found", f"No provider key of the owner speaks {dialect}.")
