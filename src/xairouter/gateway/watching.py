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
    """Watches one reply."""

    __slots__ = ("_at", "_entry", "_meter", "_parts", "_route", "_status", "_work")

    def __init__(
        self, parts: Parts, work: Work, entry: Entry, meter: Meter, route: Route, status: int
    ) -> None:
        self._parts = parts
        self._work = work
        self._entry = entry
        self._meter = meter
        self._route = route
        self._status = status
        self._at = parts.running.now()

    def may_wait(self, now: float) -> bool:
        """Whether ``see`` may have something to wait for; False: surely not."""
        return now - self._at >= PROGRESS_SECONDS or (
            self._work.match.operation.makes_object and not self._work.knows_object
        )

    def see(self, now: float) -> Awaitable[None] | None:
        """A piece has passed the meter; what is to be waited for before it goes on."""
        work = self._work
        if work.first_byte_ms is None:
            work.first_byte_ms = int((now - work.started) * 1000)
            self._parts.metrics.first_byte.observe(now - work.started)
        made = self._meter.tally.object_id
        if made and not work.knows_object and work.match.operation.makes_object:
            self.bind(made)
            return self._entry.progress(provider_object_id=made, status=self._status)
        if now - self._at >= PROGRESS_SECONDS:
            self._at = now
            return self._entry.progress(**known_so_far(work, self._meter.peek_usage()))
        return None

    def bind(self, made: str) -> None:
        """An object that the provider made belongs to this call's account and provider key."""
        self._work.knows_object = True
        self._parts.directory.remember_object(self._work.identity.caller, made, self._route.key.id)
