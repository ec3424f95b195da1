"""An owner's settings and own prices."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import NotRequired, TypedDict, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field

from xairouter.domain.accounts import OnClientGone, OnRevoke, OwnerSettings, Unpriced
from xairouter.domain.permissions import Permission
from xairouter.errors import ErrorCode, ManageError
from xairouter.manage.desk import Actor, Desk, change, changed_fields, require
from xairouter.manage.fields import Document
from xairouter.manage.herald import new_webhook_secret
from xairouter.manage.versions import refuse_stale
from xairouter.policy.owner_prices import ALL_UNITS, faults_of
from xairouter.policy.patterns import MOST_STARS
from xairouter.storage import owners

MOST_PRICES = 2000
MOST_PRICE_PATTERNS = 200
"""Prices whose name has a star: a model without a price of its own name is compared with each."""
LONGEST_PRICE_NAME = 256


class SettingsChange(Document):
    """What is to change about the settings."""

    time_zone: str | None = Field(None, max_length=64)
    unpriced: Unpriced | None = None
    on_client_gone: OnClientGone | None = None
    on_revoke: OnRevoke | None = None
    session_minutes: int | None = Field(None, strict=True, ge=1, le=720)
    vault_idle_seconds: int | None = Field(None, strict=True, ge=0, le=43_200)
    record_days: int | None = Field(None, strict=True, ge=1, le=3650)
    webhook_url: str | None = Field(None, max_length=2000)
    currency: str | None = Field(None, pattern="^[A-Z]{3}$")
    currency_per_usd: float | None = Field(None, strict=True, gt=0, le=1e9, allow_inf_nan=False)


class SettingsValues(TypedDict, total=False):
    """Some of the settings."""

    time_zone: str
    unpriced: Unpriced
    on_client_gone: OnClientGone
    on_revoke: OnRevoke
    session_minutes: int
    vault_idle_seconds: int
    record_days: int
    webhook_url: str | None
    currency: str
    currency_per_usd: float


class SettingsView(TypedDict):
    """All settings; ``webhook_secret`` where it is new."""

    time_zone: str
    unpriced: Unpriced
    on_client_gone: OnClientGone
    on_revoke: OnRevoke
    session_minutes: int
    vault_idle_seconds: int
    record_days: int
    webhook_url: str | None
    currency: str
    currency_per_usd: float
    webhook_secret: NotRequired[str]


def values_of(body: SettingsChange) -> SettingsValues:
    """What a body says; null for what cannot be without a value says nothing."""
    return cast(
        SettingsValues,
        {
            name: value
            for name, value in body.model_dump(exclude_unset=True).items()
            if value is not None or name == "webhook_url"
        },
    )


def _view(settings: OwnerSettings) -> SettingsView:
    return cast(SettingsView, asdict(settings))


async def get_settings(desk: Desk, actor: Actor) -> SettingsView:
    require(actor, Permission.SETTINGS_READ)
    async with desk.database.read() as connection:
        owner = await owners.get_owner(connection, actor.owner_id)
    assert owner is not None
    return _view(owner.settings)


async def change_settings(
    desk: Desk, actor: Actor, values: SettingsValues, expected: str | None = None
) -> SettingsView:
    """Change some settings; types and ranges were checked by the face, meanings are here.

    A new webhook has a new signing secret, shown this once as ``webhook_secret``.
    """
    if "time_zone" in values:
        try:
            ZoneInfo(values["time_zone"])
        except (ZoneInfoNotFoundError, ValueError):
            raise ManageError(
                ErrorCode.INVALID_FIELD,
                "There is no such time zone.",
                {"time_zone": "an IANA name such as Europe/Paris"},
            ) from None
    url = values.get("webhook_url")
    if url is not None:
        _check_webhook(desk, url)
    secret: str | None = None
    async with change(desk, actor, Permission.SETTINGS_CHANGE, actor.owner_id) as made:
        owner = await owners.get_owner(made.connection, actor.owner_id)
        assert owner is not None
        refuse_stale(expected, _view(owner.settings))
        settings = replace(owner.settings, **values)
        columns: owners.OwnerColumns = {"settings": settings}
        if url is not None and url != owner.settings.webhook_url:
            secret = columns["webhook_secret"] = new_webhook_secret()
        await owners.update_owner(made.connection, actor.owner_id, **columns)
        # An address may hold a secret of its receiver.
        shown_values = {n: v for n, v in values.items() if n != "webhook_url"}
        made.detail = {"fields": sorted(values), **changed_fields(owner.settings, shown_values)}
    view = _view(settings)
    if secret is not None:
        view["webhook_secret"] = secret
    return view


def _check_webhook(desk: Desk, url: str) -> None:
    """Raises ManageError for an address to which nothing may be sent; asked again when sending."""
    refused = desk.egress.refuse_url(url.partition("?")[0])
    if refused is None and (len(url) > 2000 or not url.isascii() or not url.isprintable()):
        refused = "it is too long, or has characters that do not belong into a URL"
    if refused is not None:
        raise ManageError(
            ErrorCode.ADDRESS_NOT_ALLOWED,
            f"Notices may not be sent to this webhook: {refused}.",
            {"webhook_url": refused},
        )


async def get_prices(desk: Desk, actor: Actor) -> dict[str, Mapping[str, object]]:
    require(actor, Permission.PRICES_READ)
    async with desk.database.read() as connection:
        owner = await owners.get_owner(connection, actor.owner_id)
    assert owner is not None
    return dict(owner.prices)


async def put_prices(
    desk: Desk, actor: Actor, document: Mapping[str, object]
) -> Mapping[str, object]:
    """Replace the owner's own prices: model pattern → USD per million tokens by unit."""
    if len(document) > MOST_PRICES:
        raise ManageError(
            ErrorCode.INVALID_FIELD,
            "There are too many prices.",
            {"body": f"at most {MOST_PRICES} patterns"},
        )
    if sum("*" in pattern for pattern in document) > MOST_PRICE_PATTERNS:
        raise ManageError(
            ErrorCode.INVALID_FIELD,
            "There are too many patterns among the prices.",
            {"body": f"at most {MOST_PRICE_PATTERNS} with *"},
        )
    for pattern, rates in document.items():
        name = pattern[:64]
        if len(pattern) > LONGEST_PRICE_NAME:
            raise ManageError(
                ErrorCode.INVALID_FIELD,
                "A model's name is too long.",
                {name: f"at most {LONGEST_PRICE_NAME} characters"},
            )
        if pattern.count("*") > MOST_STARS:
            raise ManageError(
                ErrorCode.INVALID_FIELD,
                "A pattern has too many stars.",
                {name: f"at most {MOST_STARS} stars"},
            )
        if not pattern or not isinstance(rates, dict):
            raise ManageError(
                ErrorCode.INVALID_FIELD,
                "A price is an object of units.",
                {name: f"units are {', '.join(ALL_UNITS)}"},
            )
        for place, fault, is_unknown in faults_of(rates):
            code = ErrorCode.UNKNOWN_FIELD if is_unknown else ErrorCode.INVALID_FIELD
            what = f"There is no unit `{place}`." if is_unknown else f"Not possible: {fault}."
            raise ManageError(code, what, {f"{name}.{place}": fault})
    async with change(desk, actor, Permission.PRICES_CHANGE, actor.owner_id) as made:
        await owners.update_owner(made.connection, actor.owner_id, prices=document)
        made.detail = {"patterns": len(document)}
    return document
