"""An owner's settings and own prices."""

from dataclasses import asdict, replace
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field

from xairouter.errors import ManageError
from xairouter.manage.desk import Actor, Desk, change, changed_fields, require
from xairouter.manage.herald import new_webhook_secret
from xairouter.manage.versions import refuse_stale
from xairouter.policy.owner_prices import UNITS, nano
from xairouter.storage import owners

MOST_PRICES = 2000


class SettingsChange(BaseModel):
    """What is to change about the settings."""

    model_config = ConfigDict(extra="forbid")

    time_zone: str | None = Field(None, max_length=64)
    unpriced: Literal["refuse", "estimate", "allow"] | None = None
    on_client_gone: Literal["cancel", "finish"] | None = None
    on_revoke: Literal["end", "finish"] | None = None
    session_minutes: int | None = Field(None, ge=1, le=720)
    vault_idle_seconds: int | None = Field(None, ge=0, le=43_200)
    record_days: int | None = Field(None, ge=1, le=3650)
    webhook_url: str | None = Field(None, max_length=2000)
    currency: str | None = Field(None, pattern="^[A-Z]{3}$")
    currency_per_usd: float | None = Field(None, gt=0, le=1e9, allow_inf_nan=False)


async def get_settings(desk: Desk, actor: Actor) -> dict[str, Any]:
    require(actor, "settings.read")
    async with desk.database.read() as connection:
        owner = await owners.get_owner(connection, actor.owner_id)
    assert owner is not None
    return asdict(owner.settings)


async def change_settings(
    desk: Desk, actor: Actor, values: dict[str, Any], expected: str | None = None
) -> dict[str, Any]:
    """Change some settings; types and ranges were checked by the face, meanings are here.

    A new webhook has a new signing secret, shown this once as ``webhook_secret``.
    """
    if "time_zone" in values:
        try:
            ZoneInfo(values["time_zone"])
        except (ZoneInfoNotFoundError, ValueError):
            raise ManageError(
                "invalid_field",
                "There is no such time zone.",
                {"time_zone": "an IANA name such as Europe/Paris"},
            ) from None
    url = values.get("webhook_url")
    if url is not None:
        _check_webhook(desk, url)
    shown: dict[str, Any] = {}
    async with change(desk, actor, "settings.change", actor.owner_id) as made:
        owner = await owners.get_owner(made.connection, actor.owner_id)
        assert owner is not None
        refuse_stale(expected, asdict(owner.settings))
        settings = replace(owner.settings, **values)
        columns: dict[str, Any] = {"settings": settings}
        if url is not None and url != owner.settings.webhook_url:
            shown["webhook_secret"] = columns["webhook_secret"] = new_webhook_secret()
        await owners.update_owner(made.connection, actor.owner_id, **columns)
        # An address may hold a secret of its receiver.
        shown_values = {n: v for n, v in values.items() if n != "webhook_url"}
        made.detail = {"fields": sorted(values), **changed_fields(owner.settings, shown_values)}
    return {**asdict(settings), **shown}


def _check_webhook(desk: Desk, url: str) -> None:
    """Raises ManageError for an address to which nothing may be sent; asked again when sending."""
    refused = desk.egress.refuse_url(url.partition("?")[0])
    if refused is None and (len(url) > 2000 or not url.isascii() or not url.isprintable()):
        refused = "it is too long, or has characters that do not belong into a URL"
    if refused is not None:
        raise ManageError(
            "address_not_allowed",
            f"Notices may not be sent to this webhook: {refused}.",
            {"webhook_url": refused},
        )


async def get_prices(desk: Desk, actor: Actor) -> dict[str, Any]:
    require(actor, "prices.read")
    async with desk.database.read() as connection:
        owner = await owners.get_owner(connection, actor.owner_id)
    assert owner is not None
    return dict(owner.prices)


async def put_prices(desk: Desk, actor: Actor, document: dict[str, Any]) -> dict[str, Any]:
    """Replace the owner's own prices: model pattern → USD per million tokens by unit."""
    if len(document) > MOST_PRICES:
        raise ManageError(
            "invalid_field",
            "There are too many prices.",
            {"body": f"at most {MOST_PRICES} patterns"},
        )
    for pattern, rates in document.items():
        name = pattern[:64]
        if not pattern or not isinstance(rates, dict):
            raise ManageError(
                "invalid_field",
                "A price is an object of units.",
                {name: f"units are {', '.join(UNITS)}"},
            )
        for unit, value in rates.items():
            if unit not in UNITS:
                raise ManageError(
                    "unknown_field",
                    f"There is no unit `{unit[:32]}`.",
                    {f"{name}.{unit[:32]}": f"units are {', '.join(UNITS)}"},
                )
            try:
                nano(value)
            except ValueError as error:
                raise ManageError(
                    "invalid_field", f"Not possible: {error}.", {f"{name}.{unit}": str(error)}
                ) from None
    async with change(desk, actor, "prices.change", actor.owner_id) as made:
        await owners.update_owner(made.connection, actor.owner_id, prices=document)
        made.detail = {"patterns": len(document)}
    return document
