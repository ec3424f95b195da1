"""An owner's retry budget: when everything fails, calls must not multiply.

Each call earns a part of a retry, each further attempt spends one. A healthy owner has plenty for
any key that fails; an owner whose providers all fail sends half as much again, not many times as
much.
"""

from collections import OrderedDict

PER_CALL = 0.5
MOST = 100.0
MOST_OWNERS = 20_000


class Retries:
    """Budgets by owner; all methods belong to the event loop's thread."""

    def __init__(self) -> None:
        self._left: OrderedDict[str, float] = OrderedDict()

    def earn(self, owner_id: str) -> None:
        """A call begins."""
        left = self._left.get(owner_id)
        if left is not None:
            if left + PER_CALL >= MOST:
                del self._left[owner_id]
            else:
                self._left[owner_id] = left + PER_CALL

    def spend(self, owner_id: str) -> bool:
        """Whether a further attempt may be made; it is counted if so."""
        left = self._left.get(owner_id, MOST)
        if left < 1:
            return False
        self._left[owner_id] = left - 1
        if len(self._left) > MOST_OWNERS:
            self._left.popitem(last=False)
        return True
