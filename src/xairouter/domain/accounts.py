"""Accounts, XAI API keys and provider keys as values.

Instants are milliseconds since 1970 (``_at_ms``), 0 never stands for “none”.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal


class AccountStatus(StrEnum):
    """Whether an account may be used; a deleted one stays for its records' sake."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    DELETED = "deleted"


class KeyStatus(StrEnum):
    """Whether an XAI API key is accepted."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    DELETED = "deleted"


class KeyScope(StrEnum):
    """What an XAI API key is for: calls alone, or the management plane too."""

    CALL = "call"
    MANAGE = "manage"


class ProviderKeyStatus(StrEnum):
    """Whether calls go to a provider key; a deleted one leaves no row."""

    ACTIVE = "active"
    DISABLED = "disabled"


class KeyHealth(StrEnum):
    """What is stored of a provider key's health: whether its provider accepts it, or its row was
    changed outside of the router, so that its secret does not open."""

    OK = "ok"
    REJECTED = "rejected"
    ALTERED = "altered"


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
    status: AccountStatus
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
    was issued for a console session and ends with it; ``panic_of`` is the account whose panic
    suspended it."""

    id: str
    owner_id: str
    account_id: str
    name: str
    scope: KeyScope
    status: KeyStatus
    created_at_ms: int
    expires_at_ms: int | None
    replaced_by: str | None
    session_id: str | None = None
    panic_of: str | None = None


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
    status: ProviderKeyStatus
    revision: int
    sealed: bytes = field(repr=False)
    last4: str | None
    fingerprint: str
    health: KeyHealth
    health_why: str | None
    created_at_ms: int


Unpriced = Literal["refuse", "estimate", "allow"]
OnClientGone = Literal["cancel", "finish"]
OnRevoke = Literal["end", "finish"]


@dataclass(frozen=True, slots=True)
class OwnerSettings:
    """An owner's own settings; see docs/reference/management-api.md for each."""

    time_zone: str = "UTC"
    unpriced: Unpriced = "refuse"
    on_client_gone: OnClientGone = "cancel"
    on_revoke: OnRevoke = "end"
    session_minutes: int = 30
    vault_idle_seconds: int = 600
    record_days: int = 365
    webhook_url: str | None = None
    currency: str = "USD"
    currency_per_usd: float = 1.0
