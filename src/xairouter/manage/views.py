"""What the faces show of things: plain dictionaries in the contract's words."""

import json
from collections.abc import Mapping
from typing import Any

from xairouter.clock import rfc3339
from xairouter.domain.accounts import Account, ApiKey, ProviderKey
from xairouter.manage.owners import Secrets

NANO = 10**9


def instant(at_ms: int | None) -> str | None:
    return None if at_ms is None else rfc3339(at_ms)


def usd(nano: int | None) -> float | None:
    """Nano-dollars as USD."""
    return None if nano is None else nano / NANO


def account_view(account: Account) -> dict[str, Any]:
    return {
        "id": account.id,
        "owner_id": account.owner_id,
        "parent": account.parent_id,
        "name": account.name,
        "email": account.email,
        "status": "suspended" if account.suspended_by_operator else account.status,
        "can_manage": account.can_manage,
        "created_at": instant(account.created_at_ms),
    }


def key_view(key: ApiKey) -> dict[str, Any]:
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
    key: ProviderKey, health: Mapping[str, Any], checkup: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    view = {
        "id": key.id,
        "name": key.name,
        "provider": key.provider,
        "endpoints": dict(key.endpoints),
        "level": key.level,
        "weight": key.weight,
        "models": list(key.models) if key.models is not None else None,
        "discovered_models": list(key.discovered) if key.discovered is not None else None,
        "status": key.status,
        "health": dict(health),
        "last4": key.last4,
        "fingerprint": key.fingerprint,
        "created_at": instant(key.created_at_ms),
    }
    if checkup is not None:
        view["checkup"] = dict(checkup)
    return view


def record_view(row: Mapping[str, Any]) -> dict[str, Any]:
    """A usage record in the contract's units."""
    view = dict(row)
    for name in ("cost", "provider_cost", "reserved"):
        view[f"{name}_usd"] = usd(view.pop(f"{name}_nano"))
    rates = json.loads(view["price_used"]) if view["price_used"] else None
    view["price_used"] = {unit: usd(rate) for unit, rate in rates.items()} if rates else None
    view["started_at"] = instant(view.pop("started_at_ms"))
    view["usage_detail"] = json.loads(view["usage_detail"]) if view["usage_detail"] else {}
    return view


def operation_view(row: Mapping[str, Any]) -> dict[str, Any]:
    view = dict(row)
    view["at"] = instant(view.pop("at_ms"))
    view["detail"] = json.loads(view["detail"]) if view["detail"] else {}
    return view


def issued_view(secrets: Secrets) -> dict[str, Any]:
    """An account's fresh key, and the owner's fresh recovery code if there is one; shown once."""
    shown: dict[str, Any] = {
        "account": account_view(secrets.account),
        "key": key_view(secrets.key),
        "api_key": secrets.api_key,
    }
    if secrets.recovery_code is not None:
        shown["recovery_code"] = secrets.recovery_code
    return shown
