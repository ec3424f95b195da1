"""How often an address may try a key, a code or a link that turns out wrong."""

import time
from collections import OrderedDict
from collections.abc import Callable

MOST_TRIES = 10
PER_SECONDS = 60.0
MOST_ADDRESSES = 10_000


class Patience:
    """Failed tries by address: ten in a minute, then none until one of them is a minute old.

    Kept in memory and bounded: what it holds off is guessing at speed, and a key has 256 bits.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._now = monotonic
        self._failed: OrderedDict[str, list[float]] = OrderedDict()

    def wait(self, address: str) -> int:
        """Whole seconds until the address may try again, 0 if it may now."""
        recent = self._recent(address)
        if len(recent) < MOST_TRIES:
            return 0
        return max(1, round(recent[0] + PER_SECONDS - self._now()))

    def failed(self, address: str) -> None:
        """A try was wrong."""
        self._failed[address] = [*self._recent(address), self._now()][-MOST_TRIES:]
        self._failed.move_to_end(address)
        if len(self._failed) > MOST_ADDRESSES:
            self._failed.popitem(last=False)

    def _recent(self, address: str) -> list[float]:
        since = self._now() - PER_SECONDS
        return [at for at in self._failed.get(address, ()) if at > since]
