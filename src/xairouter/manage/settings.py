"""An owner's settings and own prices."""

from dataclasses import asdict, replace
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from xairouter.errors import ManageError
from xairouter.manage.desk import Actor, Desk, change, require
from xairouter.policy.owner_prices import UNITS, nano
from xairouter.storage import owners

MOST_PRICES = 2000


async def get_settings(desk: Desk, actor: Actor) -> dict[str, Any]:
    require(actor, "settings.read")
    async with desk.database.read() as connection:
        owner = await owners.get_owner(connection, actor.owner_id)
    assert owner is not None
    return asdict(owner.settings)


async def change_settings(desk: Desk, actor: Actor, values: dict[str, Any]) -> dict[str, Any]:
    """Change some settings; types and ranges were checked by the face, meanings are here."""
    if "time_zone" in values:
        try:
            ZoneInfo(values["time_zone"])
        except (ZoneInfoNotFoundError, ValueError):
            raise ManageError(
                "invalid_field",
                "There is no such time zone.",
                {"time_zone": "an IANA name such as Europe/Paris"},
            ) from None
    if values.get("webhook_url") is not None:
        raise ManageError(
            "invalid_field", "Webhooks are not supported yet.", {"webhook_url": "must be null"}
        )
    async with change(desk, actor, "settings.change", actor.owner_id) as made:
        owner = await owners.get_owner(made.connection, actor.owner_id)
        assert owner is not None
        settings = replace(owner.settings, **values)
        await owners.update_owner(made.connection, actor.owner_id, settings=settings)
        made.detail = {"fields": sorted(values)}
    return asdict(settings)


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
