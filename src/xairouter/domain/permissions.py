"""Who may do what, as words: the verbs of the management plane, roles, and how far a right reaches."""

from enum import StrEnum
from typing import Final, Literal

from xairouter.errors import ErrorCode


class Permission(StrEnum):
    """A verb of the management plane that a caller needs the right for."""

    ME_READ = "me.read"
    MODELS_READ = "models.read"
    PROVIDERS_READ = "providers.read"
    USAGE_READ = "usage.read"
    EXPLAIN = "explain"
    OPERATIONS_READ = "operations.read"
    ACCOUNTS_READ = "accounts.read"
    ACCOUNTS_CREATE = "accounts.create"
    ACCOUNTS_CHANGE = "accounts.change"
    ACCOUNTS_DELETE = "accounts.delete"
    RULES_READ = "rules.read"
    RULES_CHANGE = "rules.change"
    KEYS_READ = "keys.read"
    KEYS_CREATE = "keys.create"
    KEYS_ROTATE = "keys.rotate"
    KEYS_CHANGE = "keys.change"
    KEYS_DELETE = "keys.delete"
    KEYS_INVITE = "keys.invite"
    PLAYGROUND_OPEN = "playground.open"
    PROVIDER_KEYS_READ = "provider_keys.read"
    PROVIDER_KEYS_CREATE = "provider_keys.create"
    PROVIDER_KEYS_CHANGE = "provider_keys.change"
    PROVIDER_KEYS_REPLACE = "provider_keys.replace"
    PROVIDER_KEYS_TEST = "provider_keys.test"
    PROVIDER_KEYS_DELETE = "provider_keys.delete"
    SETTINGS_READ = "settings.read"
    SETTINGS_CHANGE = "settings.change"
    NOTICES_READ = "notices.read"
    NOTICES_DISMISS = "notices.dismiss"
    NOTICES_TEST = "notices.test"
    AUDIT_READ = "audit.read"
    ROUTING_READ = "routing.read"
    ROUTING_CHANGE = "routing.change"
    PRICES_READ = "prices.read"
    PRICES_CHANGE = "prices.change"
    VAULT_READ = "vault.read"
    VAULT_REKEY = "vault.rekey"
    VAULT_TAKE_OVER = "vault.take_over"
    VAULT_RECOVERY_CODE = "vault.recovery_code"
    VAULT_GRANT = "vault.grant"
    VAULT_DROP_SLOT = "vault.drop_slot"
    VAULT_EXPORT = "vault.export"
    PANIC = "panic"
    SESSION_OPEN = "session.open"
    SESSION_CLOSE = "session.close"


class SystemChange(StrEnum):
    """A change that the router or its operator makes, or a link: no account's right is asked for."""

    OWNER_CREATE = "owner.create"
    OWNER_SUSPEND = "owner.suspend"
    OWNER_RESUME = "owner.resume"
    OWNER_DELETE = "owner.delete"
    RECOVER = "recover"
    INVITATION_ACCEPT = "invitation.accept"
    SESSION_KEPT = "session.kept"
    SLOT_EXPIRED = "slot.expired"
    PROVIDER_KEYS_REFRESH = "provider_keys.refresh"


class Role(StrEnum):
    """What an account is to its tree: the one at the top, one that may manage, or any other."""

    OWNER = "owner"
    MANAGER = "manager"
    MEMBER = "member"


class Reach(StrEnum):
    """Whose things a right is over: all of the owner's, the accounts strictly below one's own, or
    one's own account."""

    TREE = "tree"
    BELOW = "below"
    SELF = "self"


class ActedBy(StrEnum):
    """Who made an entry of the operation log."""

    KEY = "key"
    OPERATOR = "operator"
    LINK = "link"
    INVITATION = "invitation"
    RECOVERY = "recovery"
    REFRESH = "refresh"
    EXPIRY = "expiry"


DONE: Final = "ok"
Result = Literal["ok"] | ErrorCode
"""What became of an operation: DONE, or the code of the error that refused it."""
