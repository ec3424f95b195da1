"""Provider keys: the list, adding one, and a page for each: health, use, replace, disable, delete."""

import json
from typing import Any

from starlette.responses import Response

from xairouter.clock import now_ms
from xairouter.console.snippets import DEMO_MODEL, Snippet, filled
from xairouter.console.visit import Visit, status_of
from xairouter.custody.intake import read_body
from xairouter.domain.accounts import ProviderKeyStatus
from xairouter.errors import ErrorCode, ManageError
from xairouter.manage import provider_key_use, provider_keys, usage
from xairouter.manage.key_health import health_of
from xairouter.manage.provider_key_use import DAY_MS
from xairouter.manage.provider_keys import governed
from xairouter.manage.versions import version_of
from xairouter.policy.catalogue import served_names
from xairouter.providers.interface import DEFAULT_AUTH
from xairouter.providers.table import PROVIDERS, provider_row

HOME = "/console/provider-keys"
USE_DAYS = 30
SHOWN_CALLS = 10
PAGE = 100


async def show_provider_keys(visit: Visit) -> Response:
    return await _list(visit)


async def _list(visit: Visit, status: int = 200, **values: Any) -> Response:
    desk, actor = visit.desk, visit.actor
    keys = await provider_keys.list_provider_keys(desk, actor)
    shown = {"error": None, "typed": {}, **values}
    wanted = visit.query.get("q", "").lower()
    found = [
        key for key in keys if wanted in f"{key.name} {key.provider} {key.last4} {key.id}".lower()
    ]
    at = int(text) if (text := visit.query.get("at", "0")).isdecimal() and len(text) < 6 else 0
    shown_keys = found[at : at + PAGE]
    return await visit.page(
        "provider_keys.html",
        status,
        keys=[(key, health_of(desk, key)) for key in shown_keys],
        count=len(found),
        next_at=at + PAGE if at + PAGE < len(found) else None,
        has_keys=bool(keys),
        used=await provider_key_use.use_of_keys(desk, actor, now_ms() - USE_DAYS * DAY_MS),
        last_used=await provider_key_use.last_uses(desk, actor, [key.id for key in shown_keys]),
        days=USE_DAYS,
        q=visit.query.get("q", ""),
        providers=PROVIDERS,
        dialects=DEFAULT_AUTH,
        served_names=served_names,
        trail=[(visit.words("rooms.provider_keys"), "")],
        api="GET /api/v1/provider-keys",
        **shown,
    )


async def add_provider_key(visit: Visit) -> Response:
    """Add a key from the form: a known provider, or a dialect and a base URL."""
    typed: dict[str, Any] = {}
    try:
        intake = await visit.intake()
        typed = dict(intake.fields)
        url = str(intake.fields.pop("base_url", "")).strip()
        dialect = str(intake.fields.pop("dialect", ""))
        _numbers(intake.fields, ("level", "weight"))
        if not intake.fields.get("provider"):
            intake.fields.pop("provider", None)
        if url:
            intake.fields["endpoints"] = {dialect: url}
        named = str(intake.fields.get("name", "")).strip()
        intake.fields["name"] = named or intake.fields.get("provider") or url
        added = await visit.do(
            lambda actor: provider_keys.add_provider_key(visit.desk, actor, intake, verify=True)
        )
    except ManageError as error:
        return await _list(visit, status_of(error), error=error, typed=typed)
    return await _one(visit, added.key.id, 201, added=added)


def _numbers(fields: dict[str, Any], names: tuple[str, ...]) -> None:
    """Form fields that are numbers; what is empty was not said."""
    for name in names:
        text = str(fields.get(name, "")).strip()
        if not text:
            fields.pop(name, None)
        else:
            fields[name] = (
                int(text) if text.isascii() and text.isdigit() and len(text) < 12 else text
            )


async def show_provider_key(visit: Visit) -> Response:
    return await _one(visit, visit.request.path_params["key_id"])


async def _one(visit: Visit, key_id: str, status: int = 200, **values: Any) -> Response:
    """A key's page; ``added`` is what its check-up said just now."""
    desk, actor = visit.desk, visit.actor
    key = await provider_keys.get_provider_key(desk, actor, key_id)
    since = now_ms() - USE_DAYS * DAY_MS
    used = await provider_key_use.use_of_keys(desk, actor, since)
    asked = usage.Asked(equal={"provider_key_id": key.id})
    calls = await usage.list_records(desk, actor, asked, cursor=None, limit=SHOWN_CALLS)
    shown: dict[str, Any] = {"error": None, "added": None, "typed": {}, "asks": "", **values}
    return await visit.page(
        "provider_key.html",
        status,
        key=key,
        health=health_of(desk, key),
        row=provider_row(key.provider),
        models=served_names(key),
        used=used.get(key.id),
        last_used=(await provider_key_use.last_uses(desk, actor, [key.id])).get(key.id),
        days=USE_DAYS,
        calls=calls["items"],
        impact=await provider_key_use.impact(desk, actor, key.id),
        version=version_of(governed(key)),
        snippets=_snippets(visit.calls_url, shown["added"]),
        trail=[(visit.words("rooms.provider_keys"), HOME), (key.name, "")],
        api=f"GET /api/v1/provider-keys/{key.id}",
        **shown,
    )


def _snippets(url: str, added: provider_keys.Added | None) -> list[Snippet]:
    """Ready-made lines for the key just added, with a model that it serves."""
    if added is None:
        return []
    names = [name for name in served_names(added.key) if "*" not in name]
    return filled(url, "YOUR-XAI-API-KEY", names[0] if names else DEMO_MODEL)


async def change_provider_key(visit: Visit) -> Response:
    """Name, level, weight and models from the form."""
    key_id = visit.request.path_params["key_id"]
    fields: dict[str, Any] = dict(await visit.form())
    typed = dict(fields)
    version = fields.pop("version", None)
    try:
        _numbers(fields, ("level", "weight"))
        lines = [line.strip() for line in fields.pop("models", "").splitlines() if line.strip()]
        own = fields.pop("own_models", "")
        fields["models"] = lines if own else None
        intake = read_body(json.dumps(fields).encode())
        await visit.do(
            lambda actor: provider_keys.change_provider_key(
                visit.desk, actor, key_id, intake, version
            )
        )
    except ManageError as error:
        if error.code == ErrorCode.NOT_FOUND:
            raise
        return await _one(visit, key_id, status_of(error), error=error, typed=typed)
    return visit.see(f"{HOME}/{key_id}", "saved")


async def set_status(visit: Visit) -> Response:
    """Disable a key, or let it serve again."""
    key_id = visit.request.path_params["key_id"]
    asked = (await visit.form()).get("status")
    disables = asked == ProviderKeyStatus.DISABLED
    status = ProviderKeyStatus.DISABLED if disables else ProviderKeyStatus.ACTIVE
    intake = read_body(json.dumps({"status": status}).encode())
    await visit.do(
        lambda actor: provider_keys.change_provider_key(visit.desk, actor, key_id, intake)
    )
    return visit.see(f"{HOME}/{key_id}", "key_disabled" if disables else "key_enabled")


async def replace_secret(visit: Visit) -> Response:
    """A new secret in the key's place, checked first."""
    key_id = visit.request.path_params["key_id"]
    try:
        intake = await visit.intake()
        intake.fields.clear()
        added = await visit.do(
            lambda actor: provider_keys.replace_provider_key(visit.desk, actor, key_id, intake)
        )
    except ManageError as error:
        if error.code == ErrorCode.NOT_FOUND:
            raise
        return await _one(visit, key_id, status_of(error), error=error, asks="replace")
    return await _one(visit, key_id, added=added)


async def test_key(visit: Visit) -> Response:
    """Ask the provider now, at no cost."""
    key_id = visit.request.path_params["key_id"]
    added = await visit.do(lambda actor: provider_keys.test_provider_key(visit.desk, actor, key_id))
    return await _one(visit, key_id, added=added)


async def delete_key(visit: Visit) -> Response:
    """Delete a key whose name was typed; the receipt says what that means."""
    key_id = visit.request.path_params["key_id"]
    key = await provider_keys.get_provider_key(visit.desk, visit.actor, key_id)
    if (await visit.form()).get("confirm") != key.name:
        error = ManageError(
            ErrorCode.INVALID_FIELD, str(visit.words("danger.mismatch")), {"confirm": key.name}
        )
        return await _one(visit, key_id, 422, error=error, asks="delete")
    receipt = await visit.do(
        lambda actor: provider_keys.delete_provider_key(visit.desk, actor, key_id)
    )
    return await visit.page(
        "provider_key_gone.html",
        key=key,
        receipt=receipt,
        trail=[(visit.words("rooms.provider_keys"), HOME), (key.name, "")],
    )
