"""What becomes known of a call after it has ended: its provider's final statement, where the reply was
only the beginning; and what it counts for then."""

from collections.abc import Callable, Sequence

from xairouter.accounting.counts import counts_of
from xairouter.clock import now_ms
from xairouter.counters.interface import Correction, Counted, Counters
from xairouter.directory.directory import Directory
from xairouter.domain.records import Settlement, UsageRecord
from xairouter.errors import StorageError
from xairouter.gateway.work import Parts, Work
from xairouter.observe import Metrics
from xairouter.policy.limits import counters_of
from xairouter.storage.settling import Settled


def notice_end(parts: Parts, work: Work) -> None:
    """Where a reply shows the end of a response whose record waits for it: have it settled. Only who
    reaches an object is shown it, and the record stays that of the call that made it."""
    if work.settles is None or work.meter is None or work.reply is None:
        return
    usage, tally = work.meter.finish(), work.meter.tally
    object_id = work.match.variables["id"]
    if not (tally.is_over and tally.is_final and usage.is_whole):
        return
    if work.reply.status != 200 or usage.object_id != object_id:
        return
    owner_id = work.identity.caller.owner_id
    parts.book.settle(
        Settlement(
            owner_id=owner_id,
            object_id=object_id,
            call_id=work.settles,
            seen_by=work.talk.call_id,
            seen_at_ms=now_ms(),
            usage=usage,
        )
    )
    parts.directory.let_go(owner_id, object_id)


class Recounting:
    """Tells the counters what the drain has stored of calls that they had counted otherwise.

    Where ``is_apart``, other instances have counters of their own, and what was counted here of a
    call that one of them served is not known.
    """

    def __init__(
        self,
        directory: Directory,
        counters: Counters,
        metrics: Metrics,
        is_apart: Callable[[], bool],
    ) -> None:
        self._directory = directory
        self._counters = counters
        self._metrics = metrics
        self._is_apart = is_apart

    def recovered(self, records: Sequence[UsageRecord]) -> None:
        """What calls of a dead process used counts in the place of what they had reserved."""
        for record in records:
            self._counters.recover(record.owner_id, record.call_id, counts_of(record))

    async def settled(self, found: Sequence[Settled]) -> None:
        """What records say since they were settled counts in the place of what they said before."""
        for one in found:
            over = one.after.counted_nano - (one.after.reserved_nano or 0)
            if one.before is not None and one.after.reserved_nano is not None and over > 0:
                self._metrics.beyond_reservation.inc(over / 10**9)
            await self._correct(one)

    async def _correct(self, one: Settled) -> None:
        record = one.after
        try:
            view = await self._directory.owner(record.owner_id)
            path = await self._directory.accounts_to(record.owner_id, record.account_id)
        except StorageError:
            path = ()
        if not path:
            # Deleted, or not known now: all of the owner's counters begin anew with the records.
            self._counters.forget(record.owner_id)
            return
        model = record.model_used or record.model_asked
        call = Counted(
            record.call_id,
            record.owner_id,
            tuple(account.id for account in path),
            model,
            record.started_at_ms,
            view.zone,
        )
        is_known = one.before is not None and not self._is_apart()
        before = counts_of(one.before) if is_known and one.before is not None else None
        keys = counters_of(path, model)
        await self._counters.correct(Correction(call, keys, before, counts_of(record)))
