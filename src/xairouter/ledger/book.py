"""The book: an entry for each call, opened before work and closed synchronously at its end."""

from collections import defaultdict
from collections.abc import Callable, Mapping

import msgspec

from xairouter.domain.calls import Route
from xairouter.domain.records import UsageRecord
from xairouter.errors import LedgerError
from xairouter.ledger.frames import Attempt, Begin, Finish, Progress
from xairouter.ledger.journal import Journal
from xairouter.observe import Metrics

REFUSALS_PER_SECOND = 50
"""Refusals of one account above this are counted, not recorded."""


class Entry:
    """One call's place in the book."""

    __slots__ = ("_book", "_is_closed", "_record", "_tried", "attempts", "route")

    def __init__(self, book: "Book", record: UsageRecord) -> None:
        self._book = book
        self._is_closed = False
        self._record = record
        self._tried: Mapping[str, object] = {}
        self.attempts = 0
        self.route: Route | None = None

    async def attempt(self, route: Route) -> None:
        """Write that a request is about to be sent; raises LedgerError if that cannot be written."""
        call_id, key = self._record.call_id, route.key
        frame = Attempt(call_id, key.id, key.provider, key.level, route.model, route.dialect)
        await self._book.journal.append(call_id, frame)
        self.attempts += 1
        self.route = route
        self._tried = {
            "attempts": self.attempts,
            "provider_key_id": key.id,
            "provider": key.provider,
            "level": key.level,
            "model_used": route.model,
        }
        self._book.metrics.attempted()

    async def progress(self, **known: object) -> None:
        """Write what is known of a running reply, for the case that the process dies. An object that
        the provider made is bound at once where other instances may be asked for it next."""
        made = known.get("provider_object_id")
        if isinstance(made, str):
            bound = msgspec.structs.replace(self._record, **self._tried, provider_object_id=made)
            self._book.bind(bound)
        call_id = self._record.call_id
        await self._book.journal.append(call_id, Progress(call_id, dict(known)))

    def close(self, **values: object) -> UsageRecord:
        """Write the call's record. Always runs, never waits, and only once counts.

        If the disk does not take the frame, the record goes to the drain from memory all the same.
        """
        if not self._is_closed:
            self._is_closed = True
            self._record = msgspec.structs.replace(self._record, **{**self._tried, **values})
            self._book.finish(self._record)
        return self._record


class Book:
    """Opens entries and hands finished records to the drain."""

    def __init__(
        self,
        journal: Journal,
        metrics: Metrics,
        seconds: Callable[[], float],
        *,
        binds_early: bool = False,
    ) -> None:
        self.journal = journal
        self.metrics = metrics
        self._seconds = seconds
        self._finished: list[UsageRecord] = []
        self._binds_early = binds_early
        self._bound: list[UsageRecord] = []
        self._refusals: dict[str, int] = defaultdict(int)
        self._refusals_second = 0

    def open(self, record: UsageRecord) -> Entry:
        """A new entry; raises LedgerError where the journal has no room for one.

        Its frame goes to the kernel together with that of the first attempt, which is waited for.
        """
        if not self.journal.has_room:
            raise LedgerError("The journal has reached its size limit.")
        self.journal.add(record.call_id, Begin(record))
        return Entry(self, record)

    def refuse(self, record: UsageRecord) -> None:
        """Record a refused call, or only count it when its account is refused too often."""
        second = int(self._seconds())
        if second != self._refusals_second:
            self._refusals.clear()
            self._refusals_second = second
        self._refusals[record.account_id] += 1
        if self._refusals[record.account_id] > REFUSALS_PER_SECOND or not self.journal.has_room:
            self.metrics.unrecorded_refusals.inc()
            return
        self.finish(record)

    def finish(self, record: UsageRecord) -> None:
        """Journal a whole record and queue it for the drain."""
        self.journal.add(record.call_id, Finish(record))
        self._finished.append(record)
        self.metrics.call_ended(record.dialect, record.outcome)

    def bind(self, record: UsageRecord) -> None:
        """A running call has made a provider object: its binding is not to wait for its end."""
        if self._binds_early:
            self._bound.append(record)

    def take_bound(self) -> list[UsageRecord]:
        """Calls whose objects are to be bound now. Who cannot store them may drop them: the call's
        own record binds them at its end."""
        taken, self._bound = self._bound, []
        return taken

    def take_finished(self, most: int) -> list[UsageRecord]:
        """Up to ``most`` finished records, oldest first, for the drain."""
        taken, self._finished = self._finished[:most], self._finished[most:]
        return taken

    def put_back(self, records: list[UsageRecord]) -> None:
        """The drain could not store these yet."""
        self._finished[:0] = records
