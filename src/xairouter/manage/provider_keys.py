"""Provider keys: add, show, change, replace, disable, test, delete.

A body that may carry a secret goes to custody unparsed; what comes back has no secret in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from xairouter.clock import fresh_id, now_ms
from xairouter.custody.intake import Intake
from xairouter.dialects.table import DIALECTS
from xairouter.domain.accounts import ACTIVE, ProviderKey
from xairouter.domain.notices import ABOUT_KEYS, KEY_REJECTED, Occasion
from xairouter.errors import ManageError
from xairouter.manage.desk import Actor, Change, Desk, change, changed_fields, require
from xairouter.manage.fields import problems_of
from xairouter.manage.notices import close_notices, raise_notices
from xairouter.manage.owners import checked_name
from xairouter.manage.probe import probe
from xairouter.manage.versions import refuse_stale
from xairouter.providers.interface import DEFAULT_AUTH
from xairouter.providers.table import CUSTOM, PROVIDERS, provider_row
from xairouter.storage import provider_keys

MOST_KEYS = 1000
MOST_MODELS = 2000
MOST_PATTERNS = 50
"""Bounds on what one owner's catalogue may cost to build and to search."""
_UNKNOWN_HEALTH, REJECTED = "ok", "rejected"

_IN_VIEW = frozenset({"name", "level", "weight", "models", "status", "endpoints"})
"""What the operation log may show of a change."""

ModelNames = list[str]


class _NewProviderKey(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    provider: str | None = None
    endpoints: dict[str, str] | None = None
    level: int = Field(1, ge=1, le=1_000_000)
    weight: int = Field(1, ge=1, le=1_000_000)
    models: ModelNames | None = Field(None, max_length=MOST_MODELS)


class _ChangedProviderKey(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str | None = None
    level: int | None = Field(None, ge=1, le=1_000_000)
    weight: int | None = Field(None, ge=1, le=1_000_000)
    models: ModelNames | None = Field(None, max_length=MOST_MODELS)
    status: str | None = Field(None, pattern="^(active|disabled)$")
    endpoints: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Added:
    """A stored provider key and what its check-up said."""

    key: ProviderKey
    checkup: Mapping[str, Any]


async def add_provider_key(desk: Desk, actor: Actor, intake: Intake, *, verify: bool) -> Added:
    """Seal and store a provider key; with ``verify`` its provider is asked first.

    A rejected key is refused (``provider_key_rejected``); one whose provider cannot be reached is
    stored, and its check-up says ``unreached``.
    """
    require(actor, "provider_keys.create")
    wanted = _validated(_NewProviderKey, intake)
    provider, endpoints = _where(desk, wanted.provider, wanted.endpoints)
    if not intake.has_secret:
        raise ManageError(
            "secret_required", "A provider key needs its `secret`.", {"secret": "missing"}
        )
    if intake.is_keyless and provider not in _keyless():
        raise ManageError(
            "invalid_field",
            "Only local and custom servers may have no secret.",
            {"secret": "must not be empty"},
        )
    key_id = fresh_id("pk")
    auth = {dialect: provider_row(provider).auth_for(dialect) for dialect in endpoints}
    sealed = intake.seal(actor.vault, key_id=key_id, revision=1, auth=auth, endpoints=endpoints)
    key = ProviderKey(
        id=key_id,
        owner_id=actor.owner_id,
        name=checked_name(wanted.name),
        provider=provider,
        endpoints=endpoints,
        auth=auth,
        level=wanted.level,
        weight=wanted.weight,
        models=_models(wanted.models),
        discovered=None,
        status=ACTIVE,
        revision=1,
        sealed=sealed.sealed,
        last4=sealed.last4,
        fingerprint=sealed.fingerprint,
        health=_UNKNOWN_HEALTH,
        health_why=None,
        created_at_ms=now_ms(),
    )
    checkup: Mapping[str, Any] = {"state": "unprobed"}
    if verify:
        key, checkup = await _checked(desk, actor, key)
    checkup = _with_warnings(checkup, intake, provider)
    async with change(desk, actor, "provider_keys.create", key_id) as made:
        if await provider_keys.count(made.connection, actor.owner_id) >= MOST_KEYS:
            raise ManageError("conflict", f"An owner has at most {MOST_KEYS} provider keys.")
        await provider_keys.add(made.connection, key)
        made.detail = {"provider": provider, "checkup": checkup.get("state")}
    return Added(key, checkup)


async def _checked(
    desk: Desk, actor: Actor, key: ProviderKey
) -> tuple[ProviderKey, Mapping[str, Any]]:
    """Probe a key that is about to be stored; raises ManageError if its provider rejects it."""
    found = await probe(desk.room, key, actor.vault)
    if found.state == "rejected":
        raise ManageError(
            "provider_key_rejected",
            f"{provider_row(key.provider).title} rejects this key.",
            {"secret": "rejected by the provider"},
        )
    discovered = found.models if found.models is not None else key.discovered
    return replace(key, discovered=discovered), found.view()


def _with_warnings(checkup: Mapping[str, Any], intake: Intake, provider: str) -> Mapping[str, Any]:
    """The check-up, with a word about a key that may more than it should."""
    told = [
        mark.warning
        for mark in provider_row(provider).key_marks
        if intake.has_mark(mark.begins, mark.but_not)
    ]
    return {**checkup, "warnings": [*checkup.get("warnings", ()), *told]}


def _keyless() -> set[str]:
    return {CUSTOM.name} | {row.name for row in PROVIDERS.values() if row.is_local}


def _validated(model: type[Any], intake: Intake) -> Any:
    try:
        return model.model_validate(intake.fields)
    except ValidationError as error:
        failed = problems_of(error)
    raise failed


def _where(
    desk: Desk, provider: str | None, endpoints: dict[str, str] | None
) -> tuple[str, dict[str, str]]:
    """(provider's name, dialect → base URL), checked; the caller's endpoints win over the row's."""
    if provider is not None and provider not in PROVIDERS:
        raise ManageError(
            "invalid_field",
            f"There is no known provider “{provider[:64]}”; give `endpoints` instead.",
            {"provider": "is not in GET /providers"},
        )
    chosen = dict(endpoints or {})
    if not chosen and provider is not None:
        chosen = dict(PROVIDERS[provider].endpoints)
    if not chosen:
        raise ManageError(
            "invalid_field",
            "A provider key needs `endpoints` here.",
            {"endpoints": "dialect to base URL, at least one"},
        )
    for dialect, url in chosen.items():
        if dialect not in DEFAULT_AUTH or dialect not in DIALECTS:
            raise ManageError(
                "invalid_field",
                f"There is no dialect “{dialect[:64]}”.",
                {"endpoints": f"dialects are {', '.join(DEFAULT_AUTH)}"},
            )
        refused = desk.egress.refuse_url(url)
        if refused:
            raise ManageError(
                "address_not_allowed",
                f"The base URL for {dialect} is not allowed: {refused}.",
                {"endpoints": refused},
            )
    return provider or CUSTOM.name, {dialect: url.rstrip("/") for dialect, url in chosen.items()}


def _models(names: list[str] | None) -> tuple[str, ...] | None:
    if names is None:
        return None
    for name in names:
        if not name or len(name) > 256 or not name.isprintable():
            raise ManageError(
                "invalid_field",
                "A model's name has 1 to 256 visible characters.",
                {"models": "names or patterns with *"},
            )
    if sum("*" in name for name in names) > MOST_PATTERNS:
        raise ManageError(
            "invalid_field",
            f"A provider key has at most {MOST_PATTERNS} patterns.",
            {"models": f"at most {MOST_PATTERNS} with *"},
        )
    return tuple(dict.fromkeys(names))


async def list_provider_keys(desk: Desk, actor: Actor) -> list[ProviderKey]:
    require(actor, "provider_keys.read")
    async with desk.database.read() as connection:
        return list(await provider_keys.list_all(connection, actor.owner_id))


async def get_provider_key(desk: Desk, actor: Actor, key_id: str) -> ProviderKey:
    require(actor, "provider_keys.read")
    async with desk.database.read() as connection:
        key = await provider_keys.get(connection, actor.owner_id, key_id)
    if key is None:
        raise _missing(key_id)
    return key


async def change_provider_key(
    desk: Desk, actor: Actor, key_id: str, intake: Intake, expected: str | None = None
) -> ProviderKey:
    """Change what is in view; new endpoints need the secret again, because they are sealed in."""
    wanted = _validated(_ChangedProviderKey, intake)
    given = set(intake.fields)
    if "endpoints" in given and not intake.has_secret:
        raise ManageError(
            "secret_required",
            "New endpoints need the provider's `secret` again.",
            {"secret": "send it with `endpoints`"},
        )
    if intake.has_secret and "endpoints" not in given:
        raise ManageError(
            "invalid_field",
            "A new secret goes to …/replace.",
            {"secret": "only together with `endpoints`"},
        )
    async with change(desk, actor, "provider_keys.change", key_id) as made:
        key = await _stored(made, actor, key_id)
        refuse_stale(expected, governed(key))
        values: dict[str, Any] = {}
        if wanted.name is not None:
            values["name"] = checked_name(wanted.name)
        for name in ("level", "weight", "status"):
            if getattr(wanted, name) is not None:
                values[name] = getattr(wanted, name)
        if "models" in given:
            values["models"] = _models(wanted.models)
        if wanted.endpoints is not None:
            known = key.provider if key.provider in PROVIDERS else None
            _, endpoints = _where(desk, known, wanted.endpoints)
            auth = {name: provider_row(key.provider).auth_for(name) for name in endpoints}
            values |= {"endpoints": endpoints, "auth": auth, "discovered": None}
            values |= _resealed(actor, key, intake, auth, endpoints)
        seen = {n: v for n, v in values.items() if n in _IN_VIEW}
        made.detail = {"fields": sorted(given), **changed_fields(key, seen)}
        if values:
            await provider_keys.update(made.connection, actor.owner_id, key_id, **values)
    return replace(key, **values)


def governed(key: ProviderKey) -> dict[str, Any]:
    """What an owner may change about a key, for its version."""
    return {name: getattr(key, name) for name in sorted(_IN_VIEW)}


async def replace_provider_key(desk: Desk, actor: Actor, key_id: str, intake: Intake) -> Added:
    """Seal a new secret in an existing key's place; models, level and name stay."""
    require(actor, "provider_keys.replace")
    if intake.fields:
        name = sorted(intake.fields)[0]
        raise ManageError(
            "unknown_field", f"There is no field `{name[:64]}` here.", {name[:64]: "unknown"}
        )
    if not intake.has_secret:
        raise ManageError("secret_required", "The new `secret` is missing.", {"secret": "missing"})
    old = await get_provider_key(desk, actor, key_id)
    if intake.is_keyless and old.provider not in _keyless():
        raise ManageError(
            "invalid_field",
            "Only local and custom servers may have no secret.",
            {"secret": "must not be empty"},
        )
    fresh = replace(old, **_resealed(actor, old, intake, old.auth, old.endpoints))
    fresh, checkup = await _checked(desk, actor, fresh)
    checkup = _with_warnings(checkup, intake, old.provider)
    async with change(desk, actor, "provider_keys.replace", key_id) as made:
        stored = await _stored(made, actor, key_id)
        if stored.revision != old.revision:
            raise ManageError("conflict", "The provider key was changed at the same time.")
        await provider_keys.update(
            made.connection,
            actor.owner_id,
            key_id,
            sealed=fresh.sealed,
            last4=fresh.last4,
            fingerprint=fresh.fingerprint,
            revision=fresh.revision,
            discovered=fresh.discovered,
            health=_UNKNOWN_HEALTH,
            health_why=None,
        )
        await close_notices(made.connection, actor.owner_id, ABOUT_KEYS, key_id)
        made.detail = {"checkup": checkup.get("state")}
    desk.health.forget(key_id)
    await desk.database.forget_deleted()
    return Added(fresh, checkup)


def _resealed(
    actor: Actor,
    key: ProviderKey,
    intake: Intake,
    auth: Mapping[str, str],
    endpoints: Mapping[str, str],
) -> dict[str, Any]:
    """The columns of a new secret under the row's next revision."""
    revision = key.revision + 1
    sealed = intake.seal(
        actor.vault, key_id=key.id, revision=revision, auth=auth, endpoints=endpoints
    )
    return {
        "sealed": sealed.sealed,
        "last4": sealed.last4,
        "fingerprint": sealed.fingerprint,
        "revision": revision,
        "health": _UNKNOWN_HEALTH,
        "health_why": None,
    }


async def test_provider_key(desk: Desk, actor: Actor, key_id: str) -> Added:
    """Ask the provider now; the answer becomes the key's health and list of models."""
    require(actor, "provider_keys.test")
    key = await get_provider_key(desk, actor, key_id)
    found = await probe(desk.room, key, actor.vault)
    values: dict[str, Any] = {}
    if found.state == "rejected":
        values = {"health": REJECTED, "health_why": "The provider rejects the key."}
    elif found.state == "ok":
        values = {"health": "ok", "health_why": None}
        if found.models is not None:
            values["discovered"] = found.models
    async with change(desk, actor, "provider_keys.test", key_id) as made:
        await _stored(made, actor, key_id)
        if values:
            await provider_keys.update(made.connection, actor.owner_id, key_id, **values)
        if found.state == "ok":
            await close_notices(made.connection, actor.owner_id, ABOUT_KEYS, key_id)
        elif found.state == "rejected":
            occasion = Occasion(actor.owner_id, KEY_REJECTED, key_id, {"name": key.name})
            await raise_notices(made.connection, [occasion])
        made.detail = {"checkup": found.state}
    if found.state == "ok":
        desk.health.forget(key_id)
    return Added(replace(key, **values), found.view())


async def delete_provider_key(desk: Desk, actor: Actor, key_id: str) -> dict[str, Any]:
    """Delete a key and answer with the receipt, which claims no more than is true."""
    async with change(desk, actor, "provider_keys.delete", key_id) as made:
        key = await _stored(made, actor, key_id)
        await provider_keys.delete(made.connection, actor.owner_id, key_id)
        await close_notices(made.connection, actor.owner_id, ABOUT_KEYS, key_id)
        made.detail = {"fingerprint": key.fingerprint}
    await desk.database.forget_deleted()
    row = provider_row(key.provider)
    return {
        "id": key_id,
        "deleted": True,
        "fingerprint": key.fingerprint,
        "receipt": (
            "The sealed key is gone from the live database and its log. Backups made before stay "
            "openable by XAI API keys and recovery codes that were valid then. If the key may "
            "have leaked together with a copy, revoke it at the provider."
        ),
        "revoke_at": row.keys_url,
    }


async def _stored(made: Change, actor: Actor, key_id: str) -> ProviderKey:
    key = await provider_keys.get(made.connection, actor.owner_id, key_id)
    if key is None:
        raise _missing(key_id)
    return key


def _missing(key_id: str) -> ManageError:
    return ManageError("not_found", f"There is no provider key “{key_id[:64]}” here.")
