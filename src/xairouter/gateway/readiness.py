"""Whether this instance can serve calls, and in what state its parts are: ``GET /readyz``.

The table in docs/how-to/watch.md has a row for each part that may be amiss.
"""

from typing import Any, Protocol

from xairouter import __version__
from xairouter.directory.directory import Directory
from xairouter.gateway.running import Running
from xairouter.ledger.adoption import Adoption
from xairouter.ledger.drain import Drain
from xairouter.ledger.journal import Journal

_UNREAD_SECONDS = 2


class _Part(Protocol):
    @property
    def state(self) -> str:
        """In words."""


class House(Protocol):
    """What readiness is made of."""

    instance: str
    directory: Directory
    journal: Journal
    drain: Drain
    adoption: Adoption
    running: Running

    @property
    def counters(self) -> _Part: ...

    @property
    def bus(self) -> _Part: ...


def readiness(house: House, blind_seconds: float) -> tuple[bool, dict[str, Any]]:
    """Whether calls can be served, and the state of each part."""
    unread = house.directory.unread_for
    takes_calls, journal = house.journal.look()
    is_ready = (
        takes_calls
        and house.adoption.is_done
        and not house.directory.is_too_blind
        and not house.running.is_leaving
    )
    return is_ready, {
        "status": "ready" if is_ready else "not ready",
        "version": __version__,
        "instance": house.instance,
        "database": "ok" if unread < _UNREAD_SECONDS else f"not read for {int(unread)} s",
        "blind_for_seconds": round(house.directory.blind_for, 1),
        "counters": house.counters.state,
        "bus": house.bus.state,
        "ledger": "failing" if house.drain.is_failing else "ok",
        "journal": journal,
        "adoption": house.adoption.state,
        "journal_bytes": house.journal.size,
        "damage": house.adoption.damage,
        "draining": house.running.is_leaving,
        "blind_seconds": blind_seconds,
    }
