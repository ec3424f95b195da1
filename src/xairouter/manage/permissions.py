"""Who may do what: one table, role × verb.

A key of scope ``call`` may only do what ``call_scope`` marks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from xairouter.domain.accounts import KeyScope
from xairouter.domain.permissions import Permission, Reach, Role
from xairouter.policy.interface import Caller


@dataclass(frozen=True, slots=True)
class PermissionRow:
    """One verb: the reach of each role (absent: may not), and whether a ``call`` key may."""

    verb: Permission
    reach: Mapping[Role, Reach]
    call_scope: bool = False


_ALL_SELF = {Role.OWNER: Reach.TREE, Role.MANAGER: Reach.BELOW, Role.MEMBER: Reach.SELF}
_OWNER_ONLY = {Role.OWNER: Reach.TREE}
_MANAGING = {Role.OWNER: Reach.TREE, Role.MANAGER: Reach.BELOW}

PERMISSIONS: Mapping[Permission, PermissionRow] = {
    row.verb: row
    for row in (
        PermissionRow(Permission.ME_READ, _ALL_SELF, call_scope=True),
        PermissionRow(Permission.MODELS_READ, _ALL_SELF, call_scope=True),
        PermissionRow(Permission.PROVIDERS_READ, _ALL_SELF, call_scope=True),
        PermissionRow(Permission.USAGE_READ, _ALL_SELF, call_scope=True),
        PermissionRow(Permission.EXPLAIN, _ALL_SELF, call_scope=True),
        PermissionRow(Permission.OPERATIONS_READ, _MANAGING),
        PermissionRow(Permission.ACCOUNTS_READ, _MANAGING),
        PermissionRow(Permission.ACCOUNTS_CREATE, _MANAGING),
        PermissionRow(Permission.ACCOUNTS_CHANGE, _MANAGING),
        PermissionRow(Permission.ACCOUNTS_DELETE, _MANAGING),
        PermissionRow(Permission.RULES_READ, _MANAGING),
        PermissionRow(Permission.RULES_CHANGE, _MANAGING),
        PermissionRow(Permission.KEYS_READ, _ALL_SELF),
        PermissionRow(Permission.KEYS_CREATE, _MANAGING),
        PermissionRow(Permission.KEYS_ROTATE, _ALL_SELF),
        PermissionRow(Permission.KEYS_CHANGE, _MANAGING),
        PermissionRow(Permission.KEYS_DELETE, _MANAGING),
        PermissionRow(Permission.KEYS_INVITE, _MANAGING),
        PermissionRow(Permission.PLAYGROUND_OPEN, _ALL_SELF, call_scope=True),
        PermissionRow(Permission.PROVIDER_KEYS_READ, _OWNER_ONLY),
        PermissionRow(Permission.PROVIDER_KEYS_CREATE, _OWNER_ONLY),
        PermissionRow(Permission.PROVIDER_KEYS_CHANGE, _OWNER_ONLY),
        PermissionRow(Permission.PROVIDER_KEYS_REPLACE, _OWNER_ONLY),
        PermissionRow(Permission.PROVIDER_KEYS_TEST, _OWNER_ONLY),
        PermissionRow(Permission.PROVIDER_KEYS_DELETE, _OWNER_ONLY),
        PermissionRow(Permission.SETTINGS_READ, _OWNER_ONLY),
        PermissionRow(Permission.SETTINGS_CHANGE, _OWNER_ONLY),
        PermissionRow(Permission.NOTICES_READ, _OWNER_ONLY),
        PermissionRow(Permission.NOTICES_DISMISS, _OWNER_ONLY),
        PermissionRow(Permission.NOTICES_TEST, _OWNER_ONLY),
        PermissionRow(Permission.AUDIT_READ, _OWNER_ONLY),
        PermissionRow(Permission.ROUTING_READ, _OWNER_ONLY),
        PermissionRow(Permission.ROUTING_CHANGE, _OWNER_ONLY),
        PermissionRow(Permission.PRICES_READ, _OWNER_ONLY),
        PermissionRow(Permission.PRICES_CHANGE, _OWNER_ONLY),
        PermissionRow(Permission.VAULT_READ, _OWNER_ONLY),
        PermissionRow(Permission.VAULT_REKEY, _OWNER_ONLY),
        PermissionRow(Permission.VAULT_TAKE_OVER, _OWNER_ONLY),
        PermissionRow(Permission.VAULT_RECOVERY_CODE, _OWNER_ONLY),
        PermissionRow(Permission.VAULT_GRANT, _OWNER_ONLY),
        PermissionRow(Permission.VAULT_DROP_SLOT, _OWNER_ONLY),
        PermissionRow(Permission.VAULT_EXPORT, _OWNER_ONLY),
        PermissionRow(Permission.PANIC, _MANAGING),
        PermissionRow(Permission.SESSION_OPEN, _ALL_SELF, call_scope=True),
        PermissionRow(Permission.SESSION_CLOSE, _ALL_SELF, call_scope=True),
    )
}


def role_of(caller: Caller) -> Role:
    """The caller's role, by its account."""
    if caller.is_owner_account:
        return Role.OWNER
    return Role.MANAGER if caller.account.can_manage else Role.MEMBER


def reach_of(caller: Caller, verb: Permission) -> Reach | None:
    """How far the caller's right to do something goes, None if it has none."""
    row = PERMISSIONS[verb]
    if caller.key.scope == KeyScope.CALL and not row.call_scope:
        return None
    reach = row.reach.get(role_of(caller))
    # A call-scoped key sees itself, whatever its account's role is.
    return Reach.SELF if reach is not None and caller.key.scope == KeyScope.CALL else reach
