"""What management bodies may hold. Unknown fields are refused by name."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, Field

from xairouter.domain.calls import LONGEST_MODEL
from xairouter.manage.fields import Document

FIRST_YEAR, LAST_YEAR = 1971, 9998


def _in_range(moment: datetime) -> datetime:
    """Sums by day and month, in any time zone, have to be able to name the moment's neighbours."""
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise ValueError(f"must lie in the years {FIRST_YEAR} to {LAST_YEAR}")
    return moment


Moment = Annotated[datetime, AfterValidator(_in_range)]
Whole = Annotated[int, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Email = Annotated[str, Field(max_length=320, pattern=r"^[^@\s]+@[^@\s]+$")]


class AccountNew(Document):
    """A sub-account to be made."""

    name: str
    email: Email | None = None
    parent: str | None = None
    can_manage: Flag = False
    rules: dict[str, Any] | None = Field(None, description="The rules document.")
    invite: Flag = Field(False, description="Answer with a one-time link instead of a key.")


class AccountChange(Document):
    """What is to change about an account."""

    name: str | None = None
    email: Email | None = None
    status: Literal["active", "suspended"] | None = None
    can_manage: Flag | None = None
    parent: str | None = None


class KeyNew(Document):
    """An XAI API key to be made."""

    name: str
    scope: Literal["call", "manage"] = "call"
    expires_at: AwareDatetime | None = None


class KeyRotate(Document):
    """How long the old key works beside the new one."""

    overlap_seconds: Whole = Field(0, ge=0)


class KeyChange(Document):
    """What is to change about a key."""

    name: str | None = None
    status: Literal["active", "suspended"] | None = None
    expires_at: AwareDatetime | None = None


class ExplainBody(Document):
    """A call to be explained: one that was made (``call_id``), or one that might be."""

    call_id: str | None = Field(None, max_length=64)
    account: str | None = Field(None, max_length=64)
    key_id: str | None = Field(None, max_length=64)
    method: str = Field("POST", max_length=16)
    path: str = Field("/v1/chat/completions", max_length=1024)
    model: str | None = Field(None, max_length=LONGEST_MODEL)
    ip: str | None = Field(None, max_length=64)
    stream: Flag = False
    max_output_tokens: Whole | None = Field(None, ge=0, le=10**12)
    input_tokens: Whole = Field(0, ge=0, le=10**12)
    at: AwareDatetime | None = None
    body: dict[str, Any] | None = None


class OwnerNew(Document):
    """An owner to be invited."""

    name: str
    email: Email | None = None


class OwnerChange(Document):
    """What an operator may change about an owner."""

    status: Literal["active", "suspended"]


class Panic(Document):
    """Nothing needs to be said."""
