"""The book: an entry for each call, opened before work and closed synchronously at its end."""

from collections import defaultdict
from collections.abc import Callable, Sequence

from msgspec.structs import asdict, replace

from xairouter.domain.calls import Route
from xairouter.domain.records import (
    AttemptFields,
    EndFields,
    ReplyFields,
    Settlement,
    UsageRecord,
)
from xairouter.errors import LedgerError
from xairouter.ledger.frames import Attempt, Begin, Finish, Progress, Settle
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
        self._tried = AttemptFields()
        self.attempts = 0
        self.route: Route | None = None

    async def attempt(self, route: Route, given_tokens: int | None, unsettled: int) -> None:
        """Write that a request is about to be sent; raises LedgerError if that cannot be written.
        The last two are those of ``frames.Attempt``."""
        call_id, key = self._record.call_id, route.key
        frame = Attempt(
            call_id,
            key.id,
            key.provider,
            key.level,
            route.model,
            route.dialect,
            given_tokens,
            unsettled,
            self.attempts + 1,
        )
        await self._book.journal.append(call_id, frame)
        self.attempts += 1
        self.route = route
        self._tried = AttemptFields(
            attempts=self.attempts,
            provider_key_id=key.id,
            provider=key.provider,
            level=key.level,
            model_used=route.model,
        )
        self._book.metrics.attempted()

    async def progress(self, reply: ReplyFields) -> None:
        """Write what is known of a running reply, for the case that the process dies. An object that
        the provider made is bound at once where other instances may be asked for it next."""
        self._bind(reply)
        call_id = self._record.call_id
        await self._book.journal.append(call_id, Progress(call_id, reply))

    def note(self, reply: ReplyFields) -> None:
        """``progress`` that nobody waits for: its frame is written at the end of this turn of the
        loop."""
        self._bind(reply)
        self._book.journal.add(self._record.call_id, Progress(self._record.call_id, reply))

    def _bind(self, reply: ReplyFields) -> None:
        if reply.provider_object_id is not None or reply.object_parts is not None:
            self._book.bind(replace(self._record, **asdict(self._tried), **reply.known()))

    def close(self, reply: ReplyFields, end: EndFields) -> UsageRecord:
        """Write the call's record. Always runs, never waits, and only once counts.

        If the disk does not take the frame, the record goes to the drain from memory all the same.
        """
        if not self._is_closed:
            self._is_closed = True
            fields = {**asdict(self._tried), **asdict(reply), **asdict(end)}
            self._record = replace(self._record, **fields)
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
        self._settlements: list[Settlement] = []
        self._refusals: dict[str, int] = defaultdict(int)
        self._refusals_second = 0
        # Whatever becomes of the drain: that it fails is when this is looked at.
        metrics.follow(metrics.journal, lambda: journal.size)

    def open(self, record: UsageRecord) -> Entry:
        """A new entry; raises LedgerError where the journal takes none now.

        Its frame goes to the kernel together with that of the first attempt, which is waited for.
        """
        if refusal := self.journal.refusal:
            raise LedgerError(refusal)
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
        """A running call has made a provider object: where others may ask for it, or its end settles
        the record, its binding is not to wait for the call's end."""
        if self._binds_early or record.background:
            self._bound.append(record)

    def take_bound(self) -> list[UsageRecord]:
        """Calls whose objects are to be bound now."""
        taken, self._bound = self._bound, []
        return taken

    def settle(self, settlement: Settlement) -> None:
        """Journal what settles an earlier call's record, and queue it for the drain."""
        self.journal.add(key_of(settlement), Settle(settlement))
        self._settlements.append(settlement)

    def take_settlements(self, most: int) -> list[Settlement]:
        """Up to ``most`` of them, oldest first, for the drain."""
        taken, self._settlements = self._settlements[:most], self._settlements[most:]
        return taken

    def take_finished(self, most: int) -> list[UsageRecord]:
        """Up to ``most`` finished records, oldest first, for the drain."""
        taken, self._finished = self._finished[:most], self._finished[most:]
        return taken

    def put_back(
        self,
        records: Sequence[UsageRecord] = (),
        settlements: Sequence[Settlement] = (),
        bound: Sequence[UsageRecord] = (),
    ) -> None:
        """The drain could not store these yet."""
        self._finished[:0] = records
        self._settlements[:0] = settlements
        self._bound[:0] = bound


def key_of(settlement: Settlement) -> str:
    """What the journal knows a settlement by: it is needed longer than the call that saw it."""
    return f"{settlement.seen_by}/settles"
