"""What happens to a call while its reply passes: its first byte, the object that the provider made,
progress for the case that the process dies."""

from collections.abc import Awaitable

from xairouter.dialects.meter import Meter
from xairouter.domain.calls import Route
from xairouter.domain.records import ReplyFields
from xairouter.gateway.bookkeeping import known_so_far
from xairouter.gateway.work import Parts, Work
from xairouter.ledger.book import Entry

FIRST_PROGRESS_SECONDS = 0.25
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
        "_wait",
        "_work",
        "due",
        "is_first",
        "now",
        "sampler",
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
        self.now = parts.running.now
        self._progress_at = self.now()
        assert work.sampler is not None
        self.sampler = work.sampler
        self._wait = FIRST_PROGRESS_SECONDS
        self.is_first = True
        # The first piece is always seen.
        self.due = 0.0
        if work.match.operation.makes_parts and status < 300:
            meter.tally.on_parts = self._bind_parts

    def see(self, now: float) -> Awaitable[None] | None:
        """A piece has passed the meter; what is to be waited for before it goes on."""
        if self.is_first:
            self.is_first = False
            work = self._work
            work.first_byte_ms = int((now - work.started) * 1000)
            self._parts.metrics.first_byte.observe(now - work.started)
            if not self._awaits_object():
                self._progress_at = now
                self.due = now + self._wait
        if now < self.due:
            return None
        made = self._meter.tally.object_id
        if made and self._awaits_object():
            self._bind(made)
            return self._entry.progress(ReplyFields(provider_object_id=made, status=self._status))
        if now - self._progress_at < self._wait:
            return None
        self._progress_at, self._wait = now, PROGRESS_SECONDS
        if not self._awaits_object():
            self.due = now + self._wait
        return self._entry.progress(known_so_far(self._parts, self._work))

    def _awaits_object(self) -> bool:
        return self._work.match.operation.makes_object and not self._work.knows_object

    def finish(self) -> None:
        """The reply has passed as a whole: what it made is bound by now."""
        if self._work.match.operation.makes_object:
            made = self._meter.finish().object_id
            if made and self._status < 300 and not self._work.knows_object:
                self._bind(made)

    def close(self) -> None:
        """No more comes. The meter refers to the watcher no longer: a circle would be freed late."""
        self._meter.tally.on_parts = None

    def _bind(self, made: str) -> None:
        """An object that the provider made belongs to this call's account and provider key."""
        self._work.knows_object = True
        self.due = self._progress_at + self._wait
        work = self._work
        self._parts.directory.remember_objects(
            work.identity.caller,
            (made,),
            self._route.key.id,
            work.talk.call_id if work.peek.background else None,
        )

    def _bind_parts(self) -> None:
        """The items of a stored response, too, and what a provider keeps beside other replies. Never
        waits: of a stream, their frame goes to the kernel at the end of this turn of the loop; any
        other reply's record is about to."""
        work, made = self._work, self._meter.tally.parts
        work.object_parts = made
        self._parts.directory.remember_objects(work.identity.caller, made, self._route.key.id)
        if work.peek.streams:
            self._entry.note(ReplyFields(object_parts=made, status=self._status))
