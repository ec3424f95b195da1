"""What a call counts for against limits and budgets: the one place that says so.

It is worked out when a call's record is made and kept in the record (``counted_tokens``,
``counted_nano``). Live counters, counters that begin with the records, and roll-ups all take it from
there.
"""

import msgspec

from xairouter.accounting.cost import Cost
from xairouter.domain.calls import Usage
from xairouter.domain.records import UsageRecord, UsageSource


class Counts(msgspec.Struct, frozen=True):
    """What one call counts for: a request or none, tokens, nano-dollars."""

    requests: int = 0
    tokens: int = 0
    nano: int = 0


class Reserved(msgspec.Struct, frozen=True):
    """What was reserved for one request to a provider; 0 where nothing was limited."""

    tokens: int = 0
    nano: int = 0


def counts_of(record: UsageRecord) -> Counts:
    """What a record counts for."""
    return Counts(1 if record.attempts else 0, record.counted_tokens, record.counted_nano)


def final_counts(usage: Usage, cost: Cost, reserved: Reserved) -> tuple[int, int]:
    """(tokens, nano-dollars) of a request whose final usage the provider stated: no less than the cost
    that the provider itself says. Where its cost is not known, what was reserved stands for it, and no
    less than is certain."""
    tokens = (usage.input_tokens or 0) + (usage.output_tokens or 0)
    known = max(reserved.nano, cost.at_least) if cost.nano is None else cost.nano
    return tokens, max(known, usage.cost_nano or 0)


def open_counts(usage: Usage, cost: Cost, reserved: Reserved) -> tuple[int, int]:
    """(tokens, nano-dollars) of a request that may have reached its provider and has no final
    statement: at least what was reserved, and the cost that the provider itself says."""
    tokens = (usage.input_tokens or 0) + (usage.output_tokens or 0)
    nano = max(cost.at_least, usage.cost_nano or 0)
    return max(tokens, reserved.tokens), max(nano, reserved.nano)


def recounted(record: UsageRecord, unsettled: int = 0) -> UsageRecord:
    """A record with what it counts for by its own fields, and by so many requests before the last
    that may be billed though nothing came of them."""
    usage = Usage(
        input_tokens=record.input_tokens,
        output_tokens=record.output_tokens,
        cost_nano=record.provider_cost_nano,
    )
    cost = Cost(record.cost_nano, {}, record.cost_nano or 0)
    reserved = Reserved(record.reserved_tokens or 0, record.reserved_nano or 0)
    tokens = nano = 0
    if record.usage_source == UsageSource.REPORTED:
        tokens, nano = final_counts(usage, cost, reserved)
    elif record.usage_source == UsageSource.ESTIMATED:
        tokens, nano = open_counts(usage, cost, reserved)
    return msgspec.structs.replace(
        record,
        counted_tokens=tokens + unsettled * reserved.tokens,
        counted_nano=nano + unsettled * reserved.nano,
    )


def settled(
    record: UsageRecord, usage: Usage, cost: Cost, price_version: str | None
) -> UsageRecord:
    """A record without a final statement, as it is once that has come: what the call itself counted
    for gives way to it, what requests before its own may have used stays."""
    reserved = Reserved(record.reserved_tokens or 0, record.reserved_nano or 0)
    open_usage = Usage(
        input_tokens=record.input_tokens,
        output_tokens=record.output_tokens,
        cost_nano=record.provider_cost_nano,
    )
    open_cost = Cost(record.cost_nano, {}, record.cost_nano or 0)
    before = open_counts(open_usage, open_cost, reserved)
    after = final_counts(usage, cost, reserved)
    return msgspec.structs.replace(
        record,
        input_tokens=usage.input_tokens,
        cached_input_tokens=usage.cached_input_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        usage_detail=dict(usage.detail) or None,
        usage_source=UsageSource.REPORTED,
        cost_nano=cost.nano,
        price_version=price_version,
        price_used=dict(cost.rates) or None,
        provider_cost_nano=usage.cost_nano,
        service_tier=usage.service_tier,
        counted_tokens=max(0, record.counted_tokens - before[0]) + after[0],
        counted_nano=max(0, record.counted_nano - before[1]) + after[1],
    )


def with_cost(record: UsageRecord, cost: Cost, price_version: str) -> UsageRecord:
    """A record without a final statement, with its cost, which counts where it is above what was
    reserved and what the provider itself says."""
    counted = max(record.reserved_nano or 0, record.provider_cost_nano or 0)
    more = max(0, cost.at_least - counted)
    return msgspec.structs.replace(
        record,
        cost_nano=cost.nano,
        price_version=price_version,
        price_used=dict(cost.rates) or None,
        counted_nano=record.counted_nano + more,
    )
