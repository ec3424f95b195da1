"""Budgets that have reached their soft threshold, until somebody has been told of them."""

from collections.abc import Iterable

from xairouter.counters.interface import Crossed

MOST_TOLD = 100_000


class Crossings:
    """The crossings that one kind of counters has seen, each once: what is told is not noted again."""

    def __init__(self) -> None:
        self._waiting: dict[Crossed, None] = {}
        self._told: set[Crossed] = set()

    def note(self, crossed: Crossed) -> None:
        """A budget stands at or above its threshold."""
        if crossed not in self._told:
            self._waiting[crossed] = None

    def waiting(self) -> list[Crossed]:
        """Those that nobody has been told of."""
        return list(self._waiting)

    def tell(self, crossed: Iterable[Crossed]) -> None:
        """Somebody has been told of these, and that is stored."""
        if len(self._told) > MOST_TOLD:
            self._told.clear()
        for one in crossed:
            if one in self._waiting:
                del self._waiting[one]
                self._told.add(one)
