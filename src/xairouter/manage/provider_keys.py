"""Provider keys: add, show, change, replace, disable, test, delete.

A body that may carry a secret goes to custody unparsed; what comes back has no secret in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypedDict

from xairouter.clock import fresh_id, now_ms
from xairouter.custody.intake import Intake
from xairouter.custody.vault import opens, secret_length
from xairouter.custody.withhold import SHORTEST_SECRET, is_too_short
from xairouter.domain.accounts import KeyHealth, ProviderKey, ProviderKeyStatus
from xairouter.domain.notices import ABOUT_KEYS, Occasion
from xairouter.domain.permissions import Permission
from xairouter.errors import ErrorCode, ManageError
from xairouter.manage.desk import Actor, Change, Desk, change, changed_fields, require
from xairouter.manage.key_health import ALTERED, KIND_OF, REJECTED, WELL
from xairouter.manage.notices import close_notices, raise_notices
from xairouter.manage.owners import checked_name
from xairouter.manage.probe import ProbeState, probe
from xairouter.manage.provider_key_fields import (
    ChangedProviderKey,
    NewProviderKey,
    ReplacedProviderKey,
    altered,
    keyless_providers,
    model_names,
    validated,
    where_to_send,
)
from xairouter.manage.vault import renew_vault, renews_vault
from xairouter.manage.versions import refuse_stale
from xairouter.manage.views import CheckupView
from xairouter.providers.table import provider_row
from xairouter.storage import provider_keys
from xairouter.storage.provider_keys import ProviderKeyChange

MOST_KEYS = 1000
"""Together with ``provider_key_fields``: what one owner's catalogue may cost to build and search."""

_IN_VIEW = frozenset({"name", "level", "weight", "models", "status", "endpoints"})
"""What the operation log may show of a change."""


@dataclass(frozen=True, slots=True)
class Added:
    """A stored provider key and what its check-up said."""

    key: ProviderKey
    checkup: CheckupView


class Receipt(TypedDict):
    """What is said of a deleted key; ``revoke_at`` is where its provider revokes it."""

    id: str
    deleted: bool
    fingerprint: str
    receipt: str
    revoke_at: str | None


async def add_provider_key(desk: Desk, actor: Actor, intake: Intake, *, verify: bool) -> Added:
    """Seal and store a provider key; with ``verify`` its provider is asked first.

    A rejected key is refused (``provider_key_rejected``); one whose provider cannot be reached is
    stored, and its check-up says ``unreached``.
    """
    require(actor, Permission.PROVIDER_KEYS_CREATE)
    wanted = validated(NewProviderKey, intake)
    provider, endpoints = where_to_send(desk, wanted.provider, wanted.endpoints)
    if not intake.has_secret:
        raise ManageError(
            ErrorCode.SECRET_REQUIRED, "A provider key needs its `secret`.", {"secret": "missing"}
        )
    _refuse_keyless(intake, provider)
    key = _sealed(actor, intake, wanted, provider, endpoints)
    checkup: CheckupView = {"state": ProbeState.UNPROBED, "warnings": []}
    if verify:
        key, checkup = await _checked(desk, actor, key)
    checkup = _with_warnings(checkup, intake, key)
    async with change(desk, actor, Permission.PROVIDER_KEYS_CREATE, key.id) as made:
        if await provider_keys.count(made.connection, actor.owner_id) >= MOST_KEYS:
            raise ManageError(
                ErrorCode.CONFLICT, f"An owner has at most {MOST_KEYS} provider keys."
            )
        await provider_keys.add(made.connection, key)
        made.detail = {"provider": provider, "checkup": checkup["state"]}
    return Added(key, checkup)


def _sealed(
    actor: Actor,
    intake: Intake,
    wanted: NewProviderKey,
    provider: str,
    endpoints: Mapping[str, str],
) -> ProviderKey:
    """A new provider key as it is stored, its secret sealed under the actor's vault."""
    key_id = fresh_id("pk")
    auth = {dialect: provider_row(provider).auth_for(dialect) for dialect in endpoints}
    sealed = intake.seal(actor.vault, key_id=key_id, revision=1, auth=auth, endpoints=endpoints)
    return ProviderKey(
        id=key_id,
        owner_id=actor.owner_id,
        name=checked_name(wanted.name),
        provider=provider,
        endpoints=endpoints,
        auth=auth,
        level=wanted.level,
        weight=wanted.weight,
        models=model_names(wanted.models),
        discovered=None,
        status=ProviderKeyStatus.ACTIVE,
        revision=1,
        sealed=sealed.sealed,
        last4=sealed.last4,
        fingerprint=sealed.fingerprint,
        health=KeyHealth.OK,
        health_why=None,
        created_at_ms=now_ms(),
    )


async def _checked(desk: Desk, actor: Actor, key: ProviderKey) -> tuple[ProviderKey, CheckupView]:
    """Probe a key that is about to be stored; raises ManageError if its provider rejects it."""
    found = await probe(desk.room, key, actor.vault)
    if found.state == ProbeState.REJECTED:
        raise ManageError(
            ErrorCode.PROVIDER_KEY_REJECTED,
            f"{provider_row(key.provider).title} rejects this key.",
            {"secret": "rejected by the provider"},
        )
    discovered = found.models if found.models is not None else key.discovered
    return replace(key, discovered=discovered), found.view()


def _with_warnings(checkup: CheckupView, intake: Intake | None, key: ProviderKey) -> CheckupView:
    """The check-up, with a word about a key that may more than it should or is no secret."""
    told = [
        mark.warning
        for mark in provider_row(key.provider).key_marks
        if intake is not None and intake.has_mark(mark.begins, mark.but_not)
    ]
    if is_too_short(secret_length(key)):
        told.append(
            f"This secret is shorter than {SHORTEST_SECRET} characters: if the provider quotes it in "
            "an error, that is not noticed."
        )
    return {**checkup, "warnings": [*checkup["warnings"], *told]}


async def list_provider_keys(desk: Desk, actor: Actor) -> list[ProviderKey]:
    require(actor, Permission.PROVIDER_KEYS_READ)
    async with desk.database.read() as connection:
        return list(await provider_keys.list_all(connection, actor.owner_id))


async def get_provider_key(desk: Desk, actor: Actor, key_id: str) -> ProviderKey:
    require(actor, Permission.PROVIDER_KEYS_READ)
    async with desk.database.read() as connection:
        key = await provider_keys.get(connection, actor.owner_id, key_id)
    if key is None:
        raise _missing(key_id)
    return key


@renews_vault
async def change_provider_key(
    desk: Desk, actor: Actor, key_id: str, intake: Intake, expected: str | None = None
) -> ProviderKey:
    """Change what is in view; new endpoints need the secret again, because they are sealed in.
    An altered row's provider is forgotten unless it is named again."""
    wanted = validated(ChangedProviderKey, intake)
    given = set(intake.fields)
    if given & {"provider", "endpoints"} and not intake.has_secret:
        raise ManageError(
            ErrorCode.SECRET_REQUIRED,
            "New endpoints need the provider's `secret` again.",
            {"secret": "send it with `endpoints`"},
        )
    if intake.has_secret and "endpoints" not in given:
        raise ManageError(
            ErrorCode.INVALID_FIELD,
            "A new secret goes to …/replace.",
            {"secret": "only together with `endpoints`"},
        )
    async with change(desk, actor, Permission.PROVIDER_KEYS_CHANGE, key_id) as made:
        key = await _stored(made, actor, key_id)
        refuse_stale(expected, governed(key))
        values: ProviderKeyChange = {}
        if wanted.name is not None:
            values["name"] = checked_name(wanted.name)
        if wanted.level is not None:
            values["level"] = wanted.level
        if wanted.weight is not None:
            values["weight"] = wanted.weight
        if wanted.status is not None:
            values["status"] = ProviderKeyStatus(wanted.status)
        if "models" in given:
            values["models"] = model_names(wanted.models)
        if wanted.endpoints is not None:
            # Named anew as for a new key; of the row only its provider, and only if it is unaltered.
            provider, endpoints = where_to_send(desk, wanted.provider, wanted.endpoints)
            if wanted.provider is None and opens(actor.vault, key):
                provider = key.provider
            auth = {name: provider_row(provider).auth_for(name) for name in endpoints}
            values |= {"provider": provider, "endpoints": endpoints, "auth": auth}
            values["discovered"] = None
            values |= _resealed(actor, key, intake, auth, endpoints)
        seen = {n: v for n, v in values.items() if n in _IN_VIEW}
        made.detail = {"fields": sorted(given), **changed_fields(key, seen)}
        if values:
            await provider_keys.update(made.connection, actor.owner_id, key_id, **values)
        renewed = await renew_vault(made, actor) if "sealed" in values else None
    if renewed is not None:
        desk.room.witness.note(renewed)
    return replace(key, **values)


def governed(key: ProviderKey) -> dict[str, object]:
    """What an owner may change about a key, for its version."""
    return {name: getattr(key, name) for name in sorted(_IN_VIEW)}


async def replace_provider_key(desk: Desk, actor: Actor, key_id: str, intake: Intake) -> Added:
    """Seal a new secret in an existing key's place; models, level and name stay.

    It goes where the row says only if the old secret still opens under that row, else where the
    request itself says.
    """
    require(actor, Permission.PROVIDER_KEYS_REPLACE)
    wanted = validated(ReplacedProviderKey, intake)
    if not intake.has_secret:
        raise ManageError(
            ErrorCode.SECRET_REQUIRED, "The new `secret` is missing.", {"secret": "missing"}
        )
    old = await get_provider_key(desk, actor, key_id)
    where = await _where(desk, actor, old, wanted)
    _refuse_keyless(intake, where.provider)
    fresh = replace(where, **_resealed(actor, old, intake, where.auth, where.endpoints))
    fresh, checkup = await _checked(desk, actor, fresh)
    checkup = _with_warnings(checkup, intake, fresh)
    await _put(desk, actor, old, fresh, checkup["state"])
    desk.health.forget(key_id)
    await desk.database.forget_deleted()
    return Added(fresh, checkup)


@renews_vault
async def _put(desk: Desk, actor: Actor, old: ProviderKey, fresh: ProviderKey, state: str) -> None:
    """Store a new secret in an existing key's place."""
    key_id = old.id
    async with change(desk, actor, Permission.PROVIDER_KEYS_REPLACE, key_id) as made:
        stored = await _stored(made, actor, key_id)
        if stored.revision != old.revision:
            raise ManageError(ErrorCode.CONFLICT, "The provider key was changed at the same time.")
        await provider_keys.update(
            made.connection,
            actor.owner_id,
            key_id,
            sealed=fresh.sealed,
            last4=fresh.last4,
            fingerprint=fresh.fingerprint,
            revision=fresh.revision,
            discovered=fresh.discovered,
            provider=fresh.provider,
            endpoints=fresh.endpoints,
            auth=fresh.auth,
            health=KeyHealth.OK,
            health_why=None,
        )
        await close_notices(made.connection, actor.owner_id, ABOUT_KEYS, key_id)
        made.detail = {"checkup": state}
        renewed = await renew_vault(made, actor)
    if renewed is not None:
        desk.room.witness.note(renewed)


def _refuse_keyless(intake: Intake, provider: str) -> None:
    if intake.is_keyless and provider not in keyless_providers():
        raise ManageError(
            ErrorCode.INVALID_FIELD,
            "Only local and custom servers may have no secret.",
            {"secret": "must not be empty"},
        )


async def _where(
    desk: Desk, actor: Actor, old: ProviderKey, wanted: ReplacedProviderKey
) -> ProviderKey:
    """The row with the addresses for its new secret: those of the request, else its own if they are
    as they were sealed."""
    if wanted.provider is not None or wanted.endpoints is not None:
        require(actor, Permission.PROVIDER_KEYS_CHANGE)
        provider, endpoints = where_to_send(desk, wanted.provider, wanted.endpoints)
        auth = {dialect: provider_row(provider).auth_for(dialect) for dialect in endpoints}
        return replace(old, provider=provider, endpoints=endpoints, auth=auth, discovered=None)
    if not opens(actor.vault, old):
        # In a transaction: one whose vault has moved meanwhile is repeated, not refused.
        async with change(desk, actor, Permission.PROVIDER_KEYS_REPLACE, old.id):
            raise altered(old)
    return old


def _resealed(
    actor: Actor,
    key: ProviderKey,
    intake: Intake,
    auth: Mapping[str, str],
    endpoints: Mapping[str, str],
) -> ProviderKeyChange:
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
        "health": KeyHealth.OK,
        "health_why": None,
    }


async def test_provider_key(desk: Desk, actor: Actor, key_id: str) -> Added:
    """Ask the provider now; the answer becomes the key's health and list of models."""
    require(actor, Permission.PROVIDER_KEYS_TEST)
    key = await get_provider_key(desk, actor, key_id)
    found = await probe(desk.room, key, actor.vault)
    values: ProviderKeyChange = {}
    if found.state == ProbeState.REJECTED:
        values = REJECTED
    elif found.state == ProbeState.ALTERED:
        values = ALTERED
    elif found.state == ProbeState.OK:
        values = {**WELL}
        if found.models is not None:
            values["discovered"] = found.models
    async with change(desk, actor, Permission.PROVIDER_KEYS_TEST, key_id) as made:
        await _stored(made, actor, key_id)
        if values:
            await provider_keys.update(made.connection, actor.owner_id, key_id, **values)
        if found.state == ProbeState.OK:
            await close_notices(made.connection, actor.owner_id, ABOUT_KEYS, key_id)
        elif values:
            occasion = Occasion(
                actor.owner_id, KIND_OF[values["health"]], key_id, {"name": key.name}
            )
            await raise_notices(made.connection, [occasion])
        made.detail = {"checkup": found.state}
    if found.state == ProbeState.OK:
        desk.health.forget(key_id)
    return Added(replace(key, **values), _with_warnings(found.view(), None, key))


@renews_vault
async def delete_provider_key(desk: Desk, actor: Actor, key_id: str) -> Receipt:
    """Delete a key and answer with the receipt, which claims no more than is true."""
    async with change(desk, actor, Permission.PROVIDER_KEYS_DELETE, key_id) as made:
        key = await _stored(made, actor, key_id)
        await provider_keys.delete(made.connection, actor.owner_id, key_id)
        await close_notices(made.connection, actor.owner_id, ABOUT_KEYS, key_id)
        made.detail = {"fingerprint": key.fingerprint}
        renewed = await renew_vault(made, actor)
    if renewed is not None:
        desk.room.witness.note(renewed)
    await desk.database.forget_deleted()
    row = provider_row(key.provider)
    return {
        "id": key_id,
        "deleted": True,
        "fingerprint": key.fingerprint,
        "receipt": (
            "The sealed key is gone from the live database and its log"
            + (", and its row opens nothing if it is written back. " if renewed else ". ")
            + "Backups made before stay openable by XAI API keys and recovery codes that were valid "
            "then. If the key may have leaked together with a copy, revoke it at the provider."
        ),
        "revoke_at": row.keys_url,
    }


async def _stored(made: Change, actor: Actor, key_id: str) -> ProviderKey:
    key = await provider_keys.get(made.connection, actor.owner_id, key_id)
    if key is None:
        raise _missing(key_id)
    return key


def _missing(key_id: str) -> ManageError:
    return ManageError(ErrorCode.NOT_FOUND, f"There is no provider key “{key_id[:64]}” here.")
