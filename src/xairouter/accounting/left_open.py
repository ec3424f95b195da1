"""What a request leaves open when its reservation is made, and what a reply's final statement closes of
it: the one place that says both.

Tokens and what they cost are closed by the provider's final usage (``Tally.is_final`` says which that
is). Until then a call counts for at least what was reserved (``counts.open_counts``). Beyond that a
request may leave open

- its input, where the provider reads more than the body, or media that hold more than their bytes;
- thoughts that nothing bounds, of which no word need pass;
- uses of the provider's tools: how often it searched, and what else it ran.

Where any of them is open, and something counts tokens or money, only the final statement says what the
call used, and its reply is read to the end although its client leaves. Uses are closed only by a
statement that tells of them, too.
"""

from collections.abc import Collection, Iterable

import msgspec

from xairouter.accounting.cost import SEARCHES, Cost
from xairouter.accounting.counts import Reserved
from xairouter.accounting.models import thinks
from xairouter.domain.calls import Usage


class LeftOpen(msgspec.Struct, frozen=True):
    """What a request leaves open: ``beyond`` – it may use more than was reserved, and the client be
    none the wiser; ``uses`` – its provider may bill uses of tools besides tokens; ``fees`` – the
    nano-dollars of the reservation that are for searches."""

    beyond: bool = False
    uses: bool = False
    fees: int = 0


NOTHING_OPEN = LeftOpen()
"""Of what has no usage, or is counted by nothing."""


def may_think_on(models: Iterable[str | None], *, is_bounded: bool) -> bool:
    """Whether nothing bounds what one of some models may think."""
    return not is_bounded and any(model is not None and thinks(model) for model in models)


def closes_uses(left: LeftOpen, stated: Usage, told: Collection[str], *, is_shown: bool) -> bool:
    """Whether a final statement has in it what a request asked for besides tokens: by its provider's
    own cost, by how often was searched (``told``: the fields of the usage), or because the reply
    shows it (``is_shown``). Some never say."""
    if not (left.uses or left.fees) or stated.cost_nano or is_shown:
        return True
    return any(name in told for names in SEARCHES for name in names)


def still_open(left: LeftOpen, cost: Cost, reserved: Reserved, *, is_condensed: bool) -> int:
    """The nano-dollars that a call with a final statement counts for at least where that does not
    close its uses: of a reply that was read in small, nothing is known of them."""
    return reserved.nano if is_condensed else cost.at_least + left.fees
