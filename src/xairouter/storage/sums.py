"""A row of sums over usage records, as ``rollups`` answers it."""

from typing import Required, TypedDict


class SumRow(TypedDict, total=False):
    """Sums of one group, those that were asked for; days and hours are counted since 1970."""

    group: Required[str | int | None]
    calls: Required[int]
    attempts: int
    errors: int
    refused: int
    input_tokens: int
    cached_input_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_nano: int
    unpriced: int
