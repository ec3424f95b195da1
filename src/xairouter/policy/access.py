"""Access: from where, to which path and model, at which level, with how much output.

Every account on the path from the owner is asked; the first that says no is named. A rule is a
function of the question, and says None or a Refusal.
"""

from collections.abc import Callable

from xairouter.domain.accounts import Account, AccountStatus, KeyStatus
from xairouter.domain.calls import Peek, Refusal
from xairouter.errors import ErrorCode
from xairouter.policy.interface import Caller, Question
from xairouter.policy.patterns import Steps, best_match
from xairouter.policy.rules import Compiled, is_path_within

Rule = Callable[[Question], Refusal | None]

_ACTIVE_KEY, _ACTIVE_ACCOUNT = KeyStatus.ACTIVE, AccountStatus.ACTIVE
"""Bound once: every call asks, and Python 3.11 takes long to find a member through its class."""


def key_is_active(question: Question) -> Refusal | None:
    """A suspended key is refused before anything else is looked at."""
    key = question.caller.key
    if key.status != _ACTIVE_KEY:
        return Refusal(ErrorCode.ACCOUNT_SUSPENDED, f"The XAI API key “{key.name}” is suspended.")
    return None


def key_has_not_expired(question: Question) -> Refusal | None:
    """Expiry binds to the millisecond, also while the key's slot still exists."""
    key = question.caller.key
    if key.expires_at_ms is not None and key.expires_at_ms <= question.now_ms:
        return Refusal(ErrorCode.API_KEY_EXPIRED, f"The XAI API key “{key.name}” has expired.")
    return None


def accounts_are_active(question: Question) -> Refusal | None:
    """Suspending an account stops everything below it."""
    for account in question.caller.chain:
        if account.status != _ACTIVE_ACCOUNT or account.suspended_by_operator:
            return Refusal(
                ErrorCode.ACCOUNT_SUSPENDED, f"The account “{account.name}” is suspended."
            )
    return None


def address_is_allowed(question: Question) -> Refusal | None:
    """``allow_ips``: the client's address lies within every account's networks."""
    for account, made in question.caller.path:
        if made.networks is not None and not made.networks.has(question.address):
            return Refusal(
                ErrorCode.IP_NOT_ALLOWED,
                f"The account “{account.name}” may not be used from {question.address[:64]} "
                "(rule allow_ips).",
            )
    return None


def path_is_allowed(question: Question) -> Refusal | None:
    """``allow_paths``: whole segments of the canonical path."""
    if question.path is None:
        return None
    for account, made in question.caller.path:
        if made.paths is not None and not any(
            is_path_within(question.path, prefix) for prefix in made.paths
        ):
            return Refusal(
                ErrorCode.PATH_NOT_ALLOWED,
                f"The account “{account.name}” may not use {question.path[:128]} "
                "(rule allow_paths).",
            )
    return None


def model_is_allowed(question: Question) -> Refusal | None:
    """``allow_models``: the model that is asked for and the one it is mapped to, both."""
    for model in dict.fromkeys((question.model, question.mapped)):
        if model is not None:
            by = who_forbids(question.caller, model)
            if by is not None:
                return Refusal(
                    ErrorCode.MODEL_NOT_ALLOWED,
                    f"The account “{by.name}” may not use the model “{model[:128]}” "
                    "(rule allow_models).",
                    "model",
                )
    return None


MOST_MATCHES = 10_000
"""Patterns tried for what one body names besides its model; beyond that, a name is not allowed. What is
found is remembered, so that the next call gets further."""


def names_are_allowed(caller: Caller, peek: Peek) -> Refusal | None:
    """``allow_models`` again: every other model that the body names; and, where there is such a
    rule or an account above, no field that names nobody knows what."""
    steps = Steps(MOST_MATCHES)
    for model in peek.other_models:
        by = who_forbids(caller, model, steps)
        if by is not None:
            return Refusal(
                ErrorCode.MODEL_NOT_ALLOWED,
                f"The account “{by.name}” may not use the model “{model[:128]}”, which the body "
                "names as well (rule allow_models).",
            )
    is_bound = not caller.is_owner_account or caller.path[0][1].models is not None
    if peek.unlisted and is_bound:
        return Refusal(
            ErrorCode.OBJECT_NOT_ALLOWED,
            f"The field `{peek.unlisted[0]}` names something of which the router does not know "
            "whether this account may use it.",
            peek.unlisted[0],
        )
    return None


def output_is_allowed(question: Question) -> Refusal | None:
    """``max_output_tokens``: what the request itself declares."""
    declared = question.max_output_tokens
    for account, made in question.caller.path:
        most = made.rules.max_output_tokens
        if declared is not None and most is not None and declared > most:
            return Refusal(
                ErrorCode.OUTPUT_NOT_ALLOWED,
                f"The account “{account.name}” may ask for at most {most} tokens of output, the "
                f"request declares {declared} (rule max_output_tokens).",
            )
    return None


ADMISSION: tuple[Rule, ...] = (key_is_active, key_has_not_expired, accounts_are_active)
"""What holds for every use of a key, in both planes."""

ENTRY: tuple[Rule, ...] = (*ADMISSION, address_is_allowed, path_is_allowed)
"""What can be said before a body is read."""


def first_refusal(rules: tuple[Rule, ...], question: Question) -> Refusal | None:
    """The first rule that says no."""
    for rule in rules:
        refusal = rule(question)
        if refusal is not None:
            return refusal
    return None


def who_forbids(caller: Caller, model: str, steps: Steps | None = None) -> Account | None:
    """The first account on the path whose list does not hold the model, or for which no step is left."""
    for account, made in caller.path:
        if made.models is not None and not made.models.covers(model, steps):
            return account
    return None


def who_forbids_level(caller: Caller, level: int) -> Account | None:
    """The first account on the path whose list does not hold the level."""
    for account, made in caller.path:
        if made.levels is not None and level not in made.levels:
            return account
    return None


def mapped_model(path: tuple[tuple[Account, Compiled], ...], model: str) -> str:
    """``model_map``: the nearest account with a pattern for the name wins; applied once."""
    for _, made in reversed(path):
        if made.rules.model_map:
            target = best_match(made.rules.model_map, model)
            if target is not None:
                return target
    return model


def most_output(caller: Caller) -> int | None:
    """The lowest ``max_output_tokens`` of the path."""
    found = [
        made.rules.max_output_tokens
        for _, made in caller.path
        if made.rules.max_output_tokens is not None
    ]
    return min(found, default=None)
