"""What happens to a call while its reply passes: its first byte, the object that the provider made,
progress for the case that the process dies."""

from collections.abc import Awaitable

from xairouter.dialects.meter import Meter
from xairouter.domain.calls import Route
from xairouter.gateway.bookkeeping import known_so_far
from xairouter.gateway.work import Parts, Work
from xairouter.ledger.book import Entry

PROGRESS_SECONDS = 2.0


class Watcher:
    """Watches one reply. Before the moment ``due``, ``see`` has nothing to wait for; it is to be
    told of the first piece (``is_first``) and of each one that comes when something is due."""

    __slots__ = (
        "_entry",
        "_meter",
        "_parts",
        "_progress_at",
        "_route",
        "_status",
        "_work",
        "due",
        "is_first",
    )

    def __init__(
        self, parts: Parts, work: Work, entry: Entry, meter: Meter, route: Route, status: int
    ) -> None:
        self._parts = parts
        self._work = work
        self._entry = entry
        self._meter = meter
        self._route = route
        self._status = status
        self._progress_at = parts.running.now()
        self.is_first = True
        self.due = 0.0 if self._awaits_object() else self._progress_at + PROGRESS_SECONDS

    def see(self, now: float) -> Awaitable[None] | None:
        """A piece has passed the meter; what is to be waited for before it goes on."""
        if self.is_first:
            self.is_first = False
            work = self._work
            work.first_byte_ms = int((now - work.started) * 1000)
            self._parts.metrics.first_byte.observe(now - work.started)
        if now < self.due:
            return None
        made = self._meter.tally.object_id
        if made and self._awaits_object():
            self.bind(made)
            return self._entry.progress(provider_object_id=made, status=self._status)
        if now - self._progress_at < PROGRESS_SECONDS:
            return None
        self._progress_at = now
        if not self._awaits_object():
            self.due = now + PROGRESS_SECONDS
        return self._entry.progress(**known_so_far(self._work, self._meter.peek_usage()))

    def _awaits_object(self) -> bool:
        return self._work.match.operation.makes_object and not self._work.knows_object

    def bind(self, made: str) -> None:
        """An object that the provider made belongs to this call's account and provider key."""
        self._work.knows_object = True
        self.due = self._progress_at + PROGRESS_SECONDS
        self._parts.directory.remember_object(self._work.identity.caller, made, self._route.key.id)
