"""The usage record: exactly one for each call with an accepted key, however it ended.

Field names are those of the contract (docs/reference/usage-record.md). Money is integer
nano-dollars here and becomes USD at the faces. The same struct travels in the journal.
"""

from enum import StrEnum
from typing import Any

import msgspec

from xairouter.domain.calls import Usage
from xairouter.errors import ErrorCode


class Outcome(StrEnum):
    """How a call ended."""

    COMPLETED = "completed"
    UPSTREAM_ERROR = "upstream_error"
    CLIENT_GONE = "client_gone"
    INTERRUPTED = "interrupted"
    REFUSED = "refused"


class UsageSource(StrEnum):
    """Where a record's usage comes from: the provider's final statement; what passed, where that did
    not come; nothing is known, or nothing was used."""

    REPORTED = "reported"
    ESTIMATED = "estimated"
    NONE = "none"


UNSHOWN = ("counted_tokens", "counted_nano", "object_parts", "background", "settled")
"""Fields that are no part of the contract."""


class UsageRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call. Instants are milliseconds since 1970; durations are milliseconds.

    ``counted_tokens`` and ``counted_nano`` are what limits and budgets count it for
    (``accounting.counts``); ``object_parts`` are ids of stored output items and the like, which are
    stored as provider objects and not in the record; ``background`` says that the provider may go on
    when the reply has ended, so that its final statement may come later. They are not shown.
    """

    call_id: str
    owner_id: str
    account_id: str
    key_id: str
    dialect: str
    method: str
    path: str
    client_ip: str
    started_at_ms: int
    outcome: Outcome
    provider_key_id: str | None = None
    provider: str | None = None
    level: int | None = None
    label: str | None = None
    session: str | None = None
    model_asked: str | None = None
    model_used: str | None = None
    stream: bool = False
    max_output_tokens: int | None = None
    reserved_tokens: int | None = None
    reserved_nano: int | None = None
    status: int | None = None
    error_code: str | None = None
    attempts: int = 0
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    usage_detail: dict[str, Any] | None = None
    usage_source: UsageSource = UsageSource.NONE
    cost_nano: int | None = None
    price_version: str | None = None
    price_used: dict[str, int] | None = None
    provider_cost_nano: int | None = None
    provider_request_id: str | None = None
    provider_object_id: str | None = None
    service_tier: str | None = None
    first_byte_ms: int | None = None
    total_ms: int | None = None
    counted_tokens: int = 0
    counted_nano: int = 0
    object_parts: tuple[str, ...] | None = None
    background: bool = False


class Settlement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A provider's final statement of a response that the call ``call_id`` began in the background,
    as the reply to a later call, ``seen_by``, gave it. It settles the first call's record, once."""

    owner_id: str
    object_id: str
    call_id: str
    seen_by: str
    seen_at_ms: int
    usage: Usage


class AttemptFields(msgspec.Struct, frozen=True, kw_only=True):
    """Fields of the record that an attempt sets, the latest one."""

    attempts: int = 0
    provider_key_id: str | None = None
    provider: str | None = None
    level: int | None = None
    model_used: str | None = None


class ReplyFields(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Fields of the record that a reply gives, as far as it has come."""

    status: int | None = None
    first_byte_ms: int | None = None
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    usage_detail: dict[str, int | float | str] | None = None
    usage_source: UsageSource = UsageSource.NONE
    cost_nano: int | None = None
    provider_cost_nano: int | None = None
    provider_object_id: str | None = None
    object_parts: tuple[str, ...] | None = None
    service_tier: str | None = None

    def known(self) -> dict[str, Any]:
        """The fields that have a value by now."""
        return {
            name: value
            for name, value in msgspec.structs.asdict(self).items()
            if value is not None and value is not UsageSource.NONE
        }


class EndFields(msgspec.Struct, frozen=True, kw_only=True):
    """Fields of the record that are certain at the call's end."""

    outcome: Outcome
    error_code: ErrorCode | None = None
    cost_nano: int | None = None
    price_version: str | None = None
    price_used: dict[str, int] | None = None
    provider_request_id: str | None = None
    total_ms: int | None = None
    counted_tokens: int = 0
    counted_nano: int = 0
