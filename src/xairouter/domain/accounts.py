"""Accounts, XAI API keys and provider keys as values.

Instants are milliseconds since 1970 (``_at_ms``), 0 never stands for “none”.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

ACTIVE, SUSPENDED, DELETED = "active", "suspended", "deleted"
DISABLED = "disabled"
CALL, MANAGE = "call", "manage"


@dataclass(frozen=True, slots=True)
class Account:
    """A node of the tree. An owner's account is its own owner and has no parent.

    ``rules`` is its own rules document as stored; ``policy.rules`` reads it.
    """

    id: str
    owner_id: str
    parent_id: str | None
    name: str
    email: str | None
    status: str
    can_manage: bool
    created_at_ms: int
    suspended_by_operator: bool = False
    rules: str = "{}"

    @property
    def is_owner(self) -> bool:
        return self.id == self.owner_id


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An XAI API key without its secret: what it may do and until when. One with a ``session_id``
    was issued for a console session and ends with it."""

    id: str
    owner_id: str
    account_id: str
    name: str
    scope: str
    status: str
    created_at_ms: int
    expires_at_ms: int | None
    replaced_by: str | None
    session_id: str | None = None


@dataclass(frozen=True, slots=True)
class ProviderKey:
    """A provider key as the router keeps it: sealed, with the metadata that is in view.

    ``endpoints`` maps dialect → base URL and ``auth`` maps dialect → auth scheme; both are bound
    into ``sealed``. ``models`` is what the owner listed (None: use ``discovered``), ``discovered``
    what the provider's models endpoint said (None: never asked).
    """

    id: str
    owner_id: str
    name: str
    provider: str
    endpoints: Mapping[str, str]
    auth: Mapping[str, str]
    level: int
    weight: int
    models: tuple[str, ...] | None
    discovered: tuple[str, ...] | None
    status: str
    revision: int
    sealed: bytes = field(repr=False)
    last4: str | None
    fingerprint: str
    health: str
    health_why: str | None
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class OwnerSettings:
    """An owner's own settings; see docs/reference/management-api.md for each."""

    time_zone: str = "UTC"
    unpriced: str = "refuse"
    on_client_gone: str = "cancel"
    on_revoke: str = "end"
    session_minutes: int = 30
    vault_idle_seconds: int = 600
    record_days: int = 365
    webhook_url: str | None = None
    currency: str = "USD"
    currency_per_usd: float = 1.0
