"""What management bodies may hold. Unknown fields are refused by name."""

from typing import Annotated, Any, Literal

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
    rules: dict[str, Any] | None = Field(None, description="The rules document.")
    invite: bool = Field(False, description="Answer with a one-time link instead of a key.")


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


class ExplainBody(Body):
    """A call to be explained: one that was made (``call_id``), or one that might be."""

    call_id: str | None = Field(None, max_length=64)
    account: str | None = Field(None, max_length=64)
    key_id: str | None = Field(None, max_length=64)
    method: str = Field("POST", max_length=16)
    path: str = Field("/v1/chat/completions", max_length=1024)
    model: str | None = Field(None, max_length=1024)
    ip: str | None = Field(None, max_length=64)
    stream: bool = False
    max_output_tokens: int | None = Field(None, ge=0, le=10**12)
    input_tokens: int = Field(0, ge=0, le=10**12)
    at: AwareDatetime | None = None


class OwnerNew(Body):
    """An owner to be invited."""

    name: str
    email: Email | None = None


class OwnerChange(Body):
    """What an operator may change about an owner."""

    status: Literal["active", "suspended"]


class Panic(Body):
    """Nothing needs to be said."""
