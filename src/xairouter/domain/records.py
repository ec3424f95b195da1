"""The usage record: exactly one for each call with an accepted key, however it ended.

Field names are those of the contract (docs/reference/usage-record.md). Money is integer
nano-dollars here and becomes USD at the faces. The same struct travels in the journal.
"""

from typing import Any

import msgspec

COMPLETED, UPSTREAM_ERROR, CLIENT_GONE = "completed", "upstream_error", "client_gone"
INTERRUPTED, REFUSED = "interrupted", "refused"
REPORTED = "reported"
"""``usage_source`` where the provider said what was used."""


class UsageRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call. Instants are milliseconds since 1970; durations are milliseconds."""

    call_id: str
    owner_id: str
    account_id: str
    key_id: str
    dialect: str
    method: str
    path: str
    client_ip: str
    started_at_ms: int
    outcome: str
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
    usage_source: str = "none"
    cost_nano: int | None = None
    price_version: str | None = None
    price_used: dict[str, int] | None = None
    provider_cost_nano: int | None = None
    provider_request_id: str | None = None
    provider_object_id: str | None = None
    service_tier: str | None = None
    first_byte_ms: int | None = None
    total_ms: int | None = None
