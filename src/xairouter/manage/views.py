"""What the faces show of things: their JSON in the contract's words, each with its type."""

import json
from typing import NotRequired, Required, TypedDict, cast

from xairouter.clock import rfc3339
from xairouter.domain.accounts import (
    Account,
    AccountStatus,
    ApiKey,
    KeyScope,
    KeyStatus,
    ProviderKey,
    ProviderKeyStatus,
)
from xairouter.domain.records import UNSHOWN
from xairouter.errors import ErrorCode
from xairouter.manage.owners import Secrets
from xairouter.storage.operations import OperationRow
from xairouter.storage.records import RecordRow

NANO = 10**9
Fact = bool | int | float | str | list[str]
"""What a provider tells of a key: a word, a number, a list of words."""


class AccountView(TypedDict):
    """An account; the operator's suspension shows as its own."""

    id: str
    owner_id: str
    parent: str | None
    name: str
    email: str | None
    status: str
    can_manage: bool
    created_at: str | None


class KeyView(TypedDict):
    """An XAI API key without its secret."""

    id: str
    account_id: str
    name: str
    scope: KeyScope
    status: KeyStatus
    created_at: str | None
    expires_at: str | None
    replaced_by: str | None


class OperationView(TypedDict):
    """A row of the operation log."""

    id: str
    owner_id: str
    actor_key_id: str | None
    actor_account_id: str | None
    actor: str
    verb: str
    target_id: str | None
    client_ip: str | None
    result: str
    detail: dict[str, object]
    at: str | None


class RecordView(TypedDict):
    """A usage record; the order is that of an export's columns."""

    call_id: str
    owner_id: str
    account_id: str
    key_id: str
    dialect: str
    method: str
    path: str
    client_ip: str
    outcome: str
    provider_key_id: str | None
    provider: str | None
    level: int | None
    label: str | None
    session: str | None
    model_asked: str | None
    model_used: str | None
    stream: bool
    max_output_tokens: int | None
    reserved_tokens: int | None
    status: int | None
    error_code: str | None
    attempts: int
    input_tokens: int | None
    cached_input_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    usage_detail: dict[str, object]
    usage_source: str
    price_version: str | None
    price_used: dict[str, float] | None
    provider_request_id: str | None
    provider_object_id: str | None
    service_tier: str | None
    first_byte_ms: int | None
    total_ms: int | None
    cost_usd: float | None
    provider_cost_usd: float | None
    reserved_usd: float | None
    started_at: str | None


class ProviderKeyView(TypedDict):
    """A provider key without its secret; ``checkup`` where one was just made."""

    id: str
    name: str
    provider: str
    endpoints: dict[str, str]
    level: int
    weight: int
    models: list[str] | None
    discovered_models: list[str] | None
    status: ProviderKeyStatus
    health: "HealthView"
    last4: str | None
    fingerprint: str
    created_at: str | None
    checkup: NotRequired["CheckupView"]


class HealthView(TypedDict):
    """``state`` is ok, sleeping or rejected; ``until`` when it sleeps, and ``why``."""

    state: str
    until: str | None
    why: str | None


class CheckupView(TypedDict, total=False):
    """What a provider said of a key: its state and warnings always, the rest where it was asked."""

    state: Required[str]
    models_found: int | None
    status: int | None
    why: str | None
    account: dict[str, Fact]
    limits: dict[str, str]
    warnings: Required[list[str]]


class PlannedRoute(TypedDict):
    """A route that a call would take, and why in this place."""

    provider_key_id: str
    name: str
    provider: str
    level: int
    model: str | None
    why: str


class RuleSaid(TypedDict):
    """What one rule says of a call: ``verdict`` is pass, deny or not_asked; ``source`` is the account
    whose rule it is."""

    rule: str
    verdict: str
    why: str
    source: str | None


class MadeCall(TypedDict):
    """What became of a call that was made."""

    call_id: str
    started_at: str | None
    outcome: str
    error_code: str | None
    status: int | None
    attempts: int
    provider_key_id: str | None
    model_used: str | None


class Explanation(TypedDict):
    """Whether a call would be served, by which plan, and every rule's word; ``call`` of one that was
    made."""

    allowed: bool
    code: ErrorCode | None
    account_id: str
    plan: list[PlannedRoute]
    rules: list[RuleSaid]
    call: NotRequired[MadeCall]


class IssuedView(TypedDict):
    """Fresh secrets, shown once."""

    account: AccountView
    key: KeyView
    api_key: str
    recovery_code: NotRequired[str]


def instant(at_ms: int | None) -> str | None:
    return None if at_ms is None else rfc3339(at_ms)


def usd(nano: int | None) -> float | None:
    """Nano-dollars as USD."""
    return None if nano is None else nano / NANO


def account_view(account: Account) -> AccountView:
    return {
        "id": account.id,
        "owner_id": account.owner_id,
        "parent": account.parent_id,
        "name": account.name,
        "email": account.email,
        "status": AccountStatus.SUSPENDED if account.suspended_by_operator else account.status,
        "can_manage": account.can_manage,
        "created_at": instant(account.created_at_ms),
    }


def key_view(key: ApiKey) -> KeyView:
    return {
        "id": key.id,
        "account_id": key.account_id,
        "name": key.name,
        "scope": key.scope,
        "status": key.status,
        "created_at": instant(key.created_at_ms),
        "expires_at": instant(key.expires_at_ms),
        "replaced_by": key.replaced_by,
    }


def provider_key_view(
    key: ProviderKey, health: HealthView, checkup: CheckupView | None = None
) -> ProviderKeyView:
    view: ProviderKeyView = {
        "id": key.id,
        "name": key.name,
        "provider": key.provider,
        "endpoints": dict(key.endpoints),
        "level": key.level,
        "weight": key.weight,
        "models": list(key.models) if key.models is not None else None,
        "discovered_models": list(key.discovered) if key.discovered is not None else None,
        "status": key.status,
        "health": health,
        "last4": key.last4,
        "fingerprint": key.fingerprint,
        "created_at": instant(key.created_at_ms),
    }
    if checkup is not None:
        view["checkup"] = checkup
    return view


def record_view(row: RecordRow) -> RecordView:
    """A usage record in the contract's units."""
    view: dict[str, object] = {
        name: value for name, value in row.items() if name not in UNSHOWN and name not in _UNITS
    }
    rates = json.loads(row["price_used"]) if row["price_used"] else None
    view["price_used"] = {unit: usd(rate) for unit, rate in rates.items()} if rates else None
    view["usage_detail"] = json.loads(row["usage_detail"]) if row["usage_detail"] else {}
    view["cost_usd"] = usd(row["cost_nano"])
    view["provider_cost_usd"] = usd(row["provider_cost_nano"])
    view["reserved_usd"] = usd(row["reserved_nano"])
    view["started_at"] = instant(row["started_at_ms"])
    return cast(RecordView, view)


_UNITS = ("cost_nano", "provider_cost_nano", "reserved_nano", "started_at_ms")
"""Columns that are shown in another unit."""


def operation_view(row: OperationRow) -> OperationView:
    return {
        "id": row["id"],
        "owner_id": row["owner_id"],
        "actor_key_id": row["actor_key_id"],
        "actor_account_id": row["actor_account_id"],
        "actor": row["actor"],
        "verb": row["verb"],
        "target_id": row["target_id"],
        "client_ip": row["client_ip"],
        "result": row["result"],
        "detail": json.loads(row["detail"]) if row["detail"] else {},
        "at": instant(row["at_ms"]),
    }


def issued_view(secrets: Secrets) -> IssuedView:
    """An account's fresh key, and the owner's fresh recovery code if there is one; shown once."""
    shown: IssuedView = {
        "account": account_view(secrets.account),
        "key": key_view(secrets.key),
        "api_key": secrets.api_key,
    }
    if secrets.recovery_code is not None:
        shown["recovery_code"] = secrets.recovery_code
    return shown
