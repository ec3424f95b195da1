"""What management bodies may hold. Unknown fields are refused by name."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

Email = Annotated[str, Field(max_length=320, pattern=r"^[^@\s]+@[^@\s]+$")]


class Body(BaseModel):
    """Base of all bodies: strict types, no unknown fields."""

    model_config = ConfigDict(extra="forbid")


class AccountNew(Body):
    """A sub-account to be made."""

    name: str
    email: Email | None = None
    parent: str | None = None
    can_manage: bool = False
    rules: dict[str, None] | None = Field(
        None, description="Rules are not supported yet: only null and fields of null are accepted."
    )


class AccountChange(Body):
    """What is to change about an account."""

    name: str | None = None
    email: Email | None = None
    status: Literal["active", "suspended"] | None = None
    can_manage: bool | None = None
    parent: str | None = None


class KeyNew(Body):
    """An XAI API key to be made."""

    name: str
    scope: Literal["call", "manage"] = "call"
    expires_at: AwareDatetime | None = None


class KeyRotate(Body):
    """How long the old key works beside the new one."""

    overlap_seconds: int = Field(0, ge=0)


class KeyChange(Body):
    """What is to change about a key."""

    name: str | None = None
    status: Literal["active", "suspended"] | None = None
    expires_at: AwareDatetime | None = None


class SettingsChange(Body):
    """What is to change about the settings."""

    time_zone: str | None = Field(None, max_length=64)
    unpriced: Literal["refuse", "allow"] | None = None
    on_client_gone: Literal["cancel", "finish"] | None = None
    on_revoke: Literal["end", "finish"] | None = None
    session_minutes: int | None = Field(None, ge=1, le=720)
    vault_idle_seconds: int | None = Field(None, ge=0, le=43_200)
    record_days: int | None = Field(None, ge=1, le=3650)
    webhook_url: str | None = None


class Panic(Body):
    """Nothing needs to be said."""
