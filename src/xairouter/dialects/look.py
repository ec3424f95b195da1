"""What is found in a request body, in short steps, before its dialect peeks at it.

All that grows with a body is done here; of a small one in a single step.
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from xairouter.dialects.named import Named, find_in_steps
from xairouter.dialects.peek import LARGE, read_top, survey
from xairouter.dialects.tokens import items_in_steps
from xairouter.domain.calls import Match, Refusal
from xairouter.domain.steps import Steps

SMALL = 4 * 1024
"""A body up to this size need not be looked at before."""
MOST_REQUESTS = 2048
"""Parts of a Gemini batch; Gemini itself takes 100."""


class Look(NamedTuple):
    """The top-level fields of a body; what it names, or why that is refused; the parts of a batch."""

    top: Mapping[str, msgspec.Raw]
    named: Named | Refusal
    parts: list[bytes] | None = None


def look_over(match: Match, body: bytes) -> Steps[Look | Refusal | None]:
    """Look a body over; None where nothing need be known of it."""
    operation = match.operation
    if len(body) > LARGE:
        refusal = yield from survey(body)
        if refusal is not None:
            return refusal
    if not operation.needs_model:
        return None
    top = read_top(body)
    if isinstance(top, Refusal):
        return top
    yield
    named = yield from find_in_steps(operation.dialect, body)
    yield
    parts = None
    if operation.dialect == "gemini_generate" and "requests" in top:
        parts = yield from items_in_steps(bytes(top["requests"]), MOST_REQUESTS + 1)
        yield
    return Look(top, named, parts)
