"""Who may do what: one table, role × verb.

Roles: ``owner`` (the account at the top), ``manager`` (``can_manage``), ``member`` (any other).
Reach says whose things: ``tree`` all of the owner's, ``below`` the accounts strictly below one's
own, ``self`` one's own account. A key of scope ``call`` may only do what ``call_scope`` marks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from xairouter.domain.accounts import CALL
from xairouter.policy.interface import Caller

OWNER, MANAGER, MEMBER = "owner", "manager", "member"
TREE, BELOW, SELF = "tree", "below", "self"


@dataclass(frozen=True, slots=True)
class Permission:
    """One verb: the reach of each role (absent: may not), and whether a ``call`` key may."""

    verb: str
    reach: Mapping[str, str]
    call_scope: bool = False


_ALL_SELF = {OWNER: TREE, MANAGER: BELOW, MEMBER: SELF}
_OWNER_ONLY = {OWNER: TREE}
_MANAGING = {OWNER: TREE, MANAGER: BELOW}

PERMISSIONS: Mapping[str, Permission] = {
    row.verb: row
    for row in (
        Permission("me.read", _ALL_SELF, call_scope=True),
        Permission("models.read", _ALL_SELF, call_scope=True),
        Permission("providers.read", _ALL_SELF, call_scope=True),
        Permission("usage.read", _ALL_SELF, call_scope=True),
        Permission("explain", _ALL_SELF, call_scope=True),
        Permission("operations.read", _MANAGING),
        Permission("accounts.read", _MANAGING),
        Permission("accounts.create", _MANAGING),
        Permission("accounts.change", _MANAGING),
        Permission("accounts.delete", _MANAGING),
        Permission("rules.read", _MANAGING),
        Permission("rules.change", _MANAGING),
        Permission("keys.read", _ALL_SELF),
        Permission("keys.create", _MANAGING),
        Permission("keys.rotate", _ALL_SELF),
        Permission("keys.change", _MANAGING),
        Permission("keys.delete", _MANAGING),
        Permission("keys.invite", _MANAGING),
        Permission("playground.open", _ALL_SELF, call_scope=True),
        Permission("provider_keys.read", _OWNER_ONLY),
        Permission("provider_keys.create", _OWNER_ONLY),
        Permission("provider_keys.change", _OWNER_ONLY),
        Permission("provider_keys.replace", _OWNER_ONLY),
        Permission("provider_keys.test", _OWNER_ONLY),
        Permission("provider_keys.delete", _OWNER_ONLY),
        Permission("settings.read", _OWNER_ONLY),
        Permission("settings.change", _OWNER_ONLY),
        Permission("notices.read", _OWNER_ONLY),
        Permission("notices.dismiss", _OWNER_ONLY),
        Permission("notices.test", _OWNER_ONLY),
        Permission("audit.read", _OWNER_ONLY),
        Permission("routing.read", _OWNER_ONLY),
        Permission("routing.change", _OWNER_ONLY),
        Permission("prices.read", _OWNER_ONLY),
        Permission("prices.change", _OWNER_ONLY),
        Permission("vault.read", _OWNER_ONLY),
        Permission("vault.rekey", _OWNER_ONLY),
        Permission("vault.take_over", _OWNER_ONLY),
        Permission("vault.recovery_code", _OWNER_ONLY),
        Permission("vault.grant", _OWNER_ONLY),
        Permission("vault.drop_slot", _OWNER_ONLY),
        Permission("vault.export", _OWNER_ONLY),
        Permission("panic", _MANAGING),
        Permission("session.open", _ALL_SELF, call_scope=True),
        Permission("session.close", _ALL_SELF, call_scope=True),
    )
}


def role_of(caller: Caller) -> str:
    """The caller's role, by its account."""
    if caller.is_owner_account:
        return OWNER
    return MANAGER if caller.account.can_manage else MEMBER


def reach_of(caller: Caller, verb: str) -> str | None:
    """How far the caller's right to do something goes, None if it has none."""
    row = PERMISSIONS[verb]
    if caller.key.scope == CALL and not row.call_scope:
        return None
    reach = row.reach.get(role_of(caller))
    # A call-scoped key sees itself, whatever its account's role is.
    return SELF if reach is not None and caller.key.scope == CALL else reach
