"""A request's own body, read for an explanation as it is read in a call."""

import msgspec

from xairouter.dialects.elsewhere import has_address_in_steps, reads_elsewhere
from xairouter.dialects.look import SMALL, Look, look_over
from xairouter.dialects.media import input_tokens_in_steps
from xairouter.dialects.multipliers import multipliers_in_steps, multipliers_of
from xairouter.dialects.paths import makes_output
from xairouter.dialects.table import DIALECTS
from xairouter.domain.calls import PLAIN, Match, Multipliers, Peek, Refusal, Route
from xairouter.domain.steps import Steps
from xairouter.policy.limits import ToReserve
from xairouter.providers.table import keep_maximum


class Read(msgspec.Struct, frozen=True):
    """What a body asks for, what multiplies its cost, and its input in tokens as estimated, and whether
    the provider may read more than that."""

    peek: Peek
    more: Multipliers = PLAIN
    given: int = 0
    reads: bool = False

    def to_reserve(self, match: Match, routes: tuple[Route, ...], reserve: int) -> ToReserve:
        """What is reserved for a call with it, if it declares no output: ``reserve`` tokens of that."""
        return ToReserve(
            match,
            self.peek,
            self.more,
            self.given,
            makes_output(match),
            routes,
            reserve,
            self.reads,
            not self.peek.declared or keep_maximum(routes, self.peek.declared),
        )


def read_in_steps(match: Match, body: bytes) -> Steps[Read | Refusal]:
    """A body of an operation, or why a call with it would be refused; in the steps of a call."""
    look: Look | None = None
    if len(body) > SMALL:
        found = yield from look_over(match, body)
        if isinstance(found, Refusal):
            return found
        look = found
        yield
    peek = DIALECTS[match.operation.dialect].peek(match, body, look)
    if isinstance(peek, Refusal):
        return peek
    yield
    if look is None:
        more = multipliers_of(body)
    else:
        more = yield from multipliers_in_steps(look.top)
    if isinstance(more, Refusal):
        return more
    given = yield from input_tokens_in_steps(body, look.top if look is not None else None)
    reads = reads_elsewhere(peek, more, body if look is None else b"")
    if look is not None and not reads:
        reads = yield from has_address_in_steps(body)
    return Read(peek, more, given, reads)
