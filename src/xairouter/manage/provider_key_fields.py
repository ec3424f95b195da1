"""The fields of a provider key that its owner may set, and what is allowed in them."""

from typing import Annotated, TypeVar

from pydantic import ConfigDict, Field

from xairouter.custody.intake import Intake
from xairouter.dialects.table import DIALECTS
from xairouter.domain.accounts import ProviderKey
from xairouter.domain.calls import LONGEST_MODEL
from xairouter.errors import ErrorCode, ManageError
from xairouter.manage import fields
from xairouter.manage.desk import Desk
from xairouter.manage.fields import MOST_MEMBERS, Document, at_most
from xairouter.policy.patterns import MOST_STARS
from xairouter.providers.interface import DEFAULT_AUTH
from xairouter.providers.table import CUSTOM, PROVIDERS

MOST_MODELS = 2000
MOST_PATTERNS = 50

Body = TypeVar("Body", bound=Document)
ModelNames = Annotated[list[str], Field(fail_fast=True, max_length=MOST_MODELS)]
Endpoints = Annotated[dict[str, str], at_most(MOST_MEMBERS)]


class NewProviderKey(Document):
    """The body that adds one, without its secret."""

    model_config = ConfigDict(strict=True)

    name: str
    provider: str | None = None
    endpoints: Endpoints | None = None
    level: int = Field(1, ge=1, le=1_000_000)
    weight: int = Field(1, ge=1, le=1_000_000)
    models: ModelNames | None = None


class ChangedProviderKey(Document):
    """The body that changes one, without its secret."""

    model_config = ConfigDict(strict=True)

    name: str | None = None
    level: int | None = Field(None, ge=1, le=1_000_000)
    weight: int | None = Field(None, ge=1, le=1_000_000)
    models: ModelNames | None = None
    status: str | None = Field(None, pattern="^(active|disabled)$")
    provider: str | None = None
    endpoints: Endpoints | None = None


class ReplacedProviderKey(Document):
    """The body that replaces a secret, without it: where the new one goes, if not as before."""

    model_config = ConfigDict(strict=True)

    provider: str | None = None
    endpoints: Endpoints | None = None


def altered(key: ProviderKey) -> ManageError:
    """The refusal to seal a secret for the addresses in a row that is not as it was sealed."""
    return ManageError(
        ErrorCode.SECRET_REQUIRED,
        f"The row of the provider key “{key.name}” was changed outside of the router, so the new "
        "secret is not sent to the addresses in it. Name `provider`, `endpoints` or both again in "
        "the same request, as for a new key, or delete the key and add it anew.",
        {"provider": "name it again", "endpoints": "or name them again"},
    )


def keyless_providers() -> set[str]:
    """Providers whose servers may be used without a secret."""
    return {CUSTOM.name} | {row.name for row in PROVIDERS.values() if row.is_local}


def validated(model: type[Body], intake: Intake) -> Body:
    """The body without its secret as ``model``; raises ManageError that names each wrong field."""
    return fields.validated(model, intake.fields)


def where_to_send(
    desk: Desk, provider: str | None, endpoints: dict[str, str] | None
) -> tuple[str, dict[str, str]]:
    """(provider's name, dialect → base URL), checked; the caller's endpoints win over the row's."""
    if provider is not None and provider not in PROVIDERS:
        raise ManageError(
            ErrorCode.INVALID_FIELD,
            f"There is no known provider “{provider[:64]}”; give `endpoints` instead.",
            {"provider": "is not in GET /providers"},
        )
    chosen = dict(endpoints or {})
    if not chosen and provider is not None:
        chosen = dict(PROVIDERS[provider].endpoints)
    if not chosen:
        raise ManageError(
            ErrorCode.INVALID_FIELD,
            "A provider key needs `endpoints` here.",
            {"endpoints": "dialect to base URL, at least one"},
        )
    for dialect, url in chosen.items():
        if dialect not in DEFAULT_AUTH or dialect not in DIALECTS:
            raise ManageError(
                ErrorCode.INVALID_FIELD,
                f"There is no dialect “{dialect[:64]}”.",
                {"endpoints": f"dialects are {', '.join(DEFAULT_AUTH)}"},
            )
        refused = desk.egress.refuse_url(url)
        if refused:
            raise ManageError(
                ErrorCode.ADDRESS_NOT_ALLOWED,
                f"The base URL for {dialect} is not allowed: {refused}.",
                {"endpoints": refused},
            )
    return provider or CUSTOM.name, {dialect: url.rstrip("/") for dialect, url in chosen.items()}


def model_names(names: list[str] | None) -> tuple[str, ...] | None:
    """Names and patterns, each once; raises ManageError for what is none, or for too many patterns."""
    if names is None:
        return None
    for name in names:
        if not name or len(name) > LONGEST_MODEL or not name.isprintable():
            raise ManageError(
                ErrorCode.INVALID_FIELD,
                f"A model's name has 1 to {LONGEST_MODEL} visible characters.",
                {"models": "names or patterns with *"},
            )
    if any(name.count("*") > MOST_STARS for name in names):
        raise ManageError(
            ErrorCode.INVALID_FIELD,
            f"A pattern has at most {MOST_STARS} stars.",
            {"models": f"at most {MOST_STARS} stars each"},
        )
    if sum("*" in name for name in names) > MOST_PATTERNS:
        raise ManageError(
            ErrorCode.INVALID_FIELD,
            f"A provider key has at most {MOST_PATTERNS} patterns.",
            {"models": f"at most {MOST_PATTERNS} with *"},
        )
    return tuple(dict.fromkeys(names))
