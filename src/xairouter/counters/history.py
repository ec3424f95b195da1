"""What the usage records say of a counter that begins: calls that reached a provider, of an account
and everything below it."""

from collections.abc import Awaitable, Callable
from zoneinfo import ZoneInfo

from xairouter.counters.interface import Past
from xairouter.policy.limits import WHOLE, Key
from xairouter.policy.patterns import matches
from xairouter.policy.windows import BUCKETS, EVER, SLIDING, Window, period_of
from xairouter.storage import owners
from xairouter.storage.counted import Asked, counted
from xairouter.storage.database import Database


class RecordsHistory:
    """Reads the past of counters; ``flush`` brings everything that has ended into storage first."""

    def __init__(self, database: Database, flush: Callable[[], Awaitable[None]]) -> None:
        self._database = database
        self._flush = flush

    async def __call__(
        self,
        owner_id: str,
        key: Key,
        window: Window,
        now_ms: int,
        zone: ZoneInfo,
        without: frozenset[str],
    ) -> Past:
        """Raises StorageError where that cannot be read now."""
        await self._flush()
        account_id, pattern, _ = key
        since, step = _span(window, now_ms, zone)
        async with self._database.read() as connection:
            below = None
            if account_id != owner_id:
                below = await owners.subtree_of(connection, owner_id, account_id)
            asked = Asked(window.unit, since, step, below, without, window.kind == EVER)
            rows = await counted(connection, owner_id, asked)
        return Past(
            [
                (at_ms, amount)
                for at_ms, model, amount in rows
                if pattern == WHOLE or (model is not None and matches(pattern, model))
            ]
        )


def _span(window: Window, now_ms: int, zone: ZoneInfo) -> tuple[int, int]:
    """(from when on, length of the buckets that are summed up) in milliseconds."""
    if window.kind == SLIDING:
        return (now_ms // window.bucket_ms - BUCKETS) * window.bucket_ms, window.bucket_ms
    start, end = period_of(window.kind, now_ms, zone)
    # One bucket for the whole period: every sum is of its beginning.
    return start, (end or now_ms) - start + 1
