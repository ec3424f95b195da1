"""The owner's settings: how the console shows things, how calls end, notices, prices, the vault."""

import json
from collections.abc import Mapping
from typing import Any
from zoneinfo import available_timezones

from starlette.responses import Response

from xairouter.console.rooms.entrance import welcome
from xairouter.console.visit import SECURITY_HEADERS, Visit, status_of
from xairouter.domain.permissions import Permission
from xairouter.errors import ErrorCode, ManageError
from xairouter.manage import notices, settings, take_along, vault
from xairouter.manage.desk import require
from xairouter.manage.fields import validated
from xairouter.manage.settings import SettingsChange
from xairouter.manage.versions import version_of
from xairouter.policy.owner_prices import UNITS

HOME = "/console/settings"
CURRENCIES = ("USD", "EUR", "GBP", "CHF", "JPY", "CNY", "INR", "CAD", "AUD", "BRL", "KRW", "SEK")
_WHOLE = ("session_minutes", "vault_idle_seconds", "record_days")
SPARE = 2


async def show_settings(visit: Visit) -> Response:
    return await _page(visit)


async def _page(visit: Visit, status: int = 200, **values: Any) -> Response:
    desk, actor = visit.desk, visit.actor
    stored = await settings.get_settings(desk, actor)
    given: dict[str, Any] = {
        "error": None,
        "typed": {},
        "shown_value": "",
        "shown_kind": "",
        "rekeyed": None,
        "price_rows": _rows(await settings.get_prices(desk, actor)),
        **values,
    }
    return await visit.page(
        "settings.html",
        status,
        stored_values={**stored, **given.pop("typed")},
        version=version_of(stored),
        zones=sorted(available_timezones()),
        currency_options=[(one, one) for one in CURRENCIES],
        units=UNITS,
        vault=await vault.show_vault(desk, actor),
        has_automation=bool(desk.automation_secret),
        trail=[(visit.words("rooms.settings"), "")],
        api="GET /api/v1/settings",
        **given,
    )


async def change_settings(visit: Visit) -> Response:
    """The fields of one part of the page; a new webhook's signing secret is shown once."""
    fields: dict[str, Any] = dict(await visit.form())
    typed = dict(fields)
    version = fields.pop("version", None)
    for name in _WHOLE:
        if fields.get(name, "").isdecimal() and len(fields[name]) < 12:
            fields[name] = int(fields[name])
    if "currency_per_usd" in fields:
        fields["currency_per_usd"] = _rate(fields["currency_per_usd"])
    if "webhook_url" in fields:
        fields["webhook_url"] = fields["webhook_url"] or None
    try:
        values = _checked(fields)
        shown = await visit.do(
            lambda actor: settings.change_settings(visit.desk, actor, values, version)
        )
    except ManageError as error:
        if error.code == ErrorCode.FORBIDDEN:
            raise
        return await _page(visit, status_of(error), error=error, typed=typed)
    if shown.get("webhook_secret"):
        return await _page(visit, shown_value=shown["webhook_secret"], shown_kind="webhook")
    return visit.see(HOME, "saved")


def _rate(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _checked(fields: dict[str, Any]) -> settings.SettingsValues:
    return settings.values_of(validated(SettingsChange, fields))


async def test_webhook(visit: Visit) -> Response:
    await visit.do(lambda actor: notices.raise_test(visit.desk, actor))
    return visit.see(HOME, "webhook_tested")


def _rows(prices: Mapping[str, Mapping[str, object]]) -> list[dict[str, str]]:
    rows = [
        {"pattern": pattern, **{unit: str(value) for unit, value in rates.items()}}
        for pattern, rates in prices.items()
    ]
    return rows + [{"pattern": ""} for _ in range(SPARE)]


async def change_prices(visit: Visit) -> Response:
    """The owner's own prices, row by row."""
    fields = await visit.form()
    rows: list[dict[str, str]] = []
    while f"{len(rows)}.pattern" in fields:
        front = len(rows)
        rows.append({name: fields.get(f"{front}.{name}", "") for name in ("pattern", *UNITS)})
    filled_rows = [row for row in rows if any(row.values())]
    try:
        known = await settings.get_prices(visit.desk, visit.actor)
        document = {
            row["pattern"]: {
                # What the form has no field for stays as it is.
                **{n: v for n, v in known.get(row["pattern"], {}).items() if n not in UNITS},
                **{unit: _rate(row[unit]) for unit in UNITS if row[unit]},
            }
            for row in filled_rows
        }
        await visit.do(lambda actor: settings.put_prices(visit.desk, actor, document))
    except ManageError as error:
        if error.code == ErrorCode.FORBIDDEN:
            raise
        spare = [{"pattern": ""} for _ in range(SPARE)]
        return await _page(visit, status_of(error), error=error, price_rows=filled_rows + spare)
    return visit.see(f"{HOME}#prices", "saved")


async def change_vault(visit: Visit) -> Response:
    """What a button of the vault does: a new recovery code, re-key, a grant, removing a slot."""
    fields = await visit.form()
    act = fields.get("act", "")
    require(visit.actor, Permission.VAULT_READ)
    if act == "recovery_code":
        code = await visit.do(lambda actor: vault.new_recovery_code(visit.desk, actor))
        return await _page(visit, 201, shown_value=code, shown_kind="recovery")
    if act == "rekey":
        return await _page(
            visit, rekeyed=await visit.do(lambda actor: vault.rekey(visit.desk, actor))
        )
    if act == "grant":
        await visit.do(lambda actor: vault.grant(visit.desk, actor))
    elif act == "drop":
        slot_id = fields.get("slot", "")
        await visit.do(lambda actor: vault.drop_slot(visit.desk, actor, slot_id))
    return visit.see(f"{HOME}#vault", "saved")


async def take_over(visit: Visit) -> Response:
    """A new vault, key and recovery code, where the owner's name was typed; signed in with them."""
    owner = visit.actor.caller.account
    if (await visit.form()).get("confirm") != owner.name:
        error = ManageError(
            ErrorCode.INVALID_FIELD, str(visit.words("danger.mismatch")), {"confirm": owner.name}
        )
        return await _page(visit, 422, error=error)
    made = await visit.do(lambda actor: vault.take_over(visit.desk, actor))
    return await welcome(visit, made)


async def export(visit: Visit) -> Response:
    """Everything an owner can take along, sealed as it is."""
    document = await take_along.export_owner(visit.desk, visit.actor)
    headers = {
        **SECURITY_HEADERS,
        "content-disposition": 'attachment; filename="xai-router-owner.json"',
    }
    text = json.dumps(document, indent=1, ensure_ascii=False)
    return Response(text, media_type="application/json", headers=headers)
