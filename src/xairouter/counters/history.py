"""What the usage records say of counters that begin: calls that reached a provider, of an account
and everything below it. However many counters begin together, the records are read once for each
span of time."""

from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from xairouter.counters.interface import Past
from xairouter.policy.limits import WHOLE, Key
from xairouter.policy.patterns import matches
from xairouter.policy.windows import BUCKETS, DAY, EVER, SLIDING, WINDOWS, Window, period_of
from xairouter.storage.counted import Asked, counted, lines_of, sum_of
from xairouter.storage.database import Database
from xairouter.storage.rollups import HOUR_MS, Filters, totals
from xairouter.turns import in_slices

MOST_RECORDS = 100_000
"""A day with more calls is not read one by one to compare its counters."""
_STEP = 200
"""Sums that are added in a step."""
_Place = tuple[Key, int]
"""A counter, and which of a sum's amounts it counts."""


class RecordsHistory:
    """Reads the past of counters; ``flush`` brings everything that has ended into storage first."""

    def __init__(self, database: Database, flush: Callable[[], Awaitable[None]]) -> None:
        self._database = database
        self._flush = flush

    async def __call__(
        self,
        owner_id: str,
        keys: Sequence[Key],
        now_ms: int,
        zone: ZoneInfo,
        without: frozenset[str],
    ) -> Mapping[Key, Past]:
        """Raises StorageError where that cannot be read now."""
        await self._flush()
        spans: dict[tuple[str, int], list[Key]] = {}
        for key in keys:
            window = WINDOWS[key[2]]
            spans.setdefault((window.kind, window.bucket_ms), []).append(key)
        read: list[tuple[Asked, list[Key], Sequence[Any]]] = []
        async with self._database.snapshot() as connection:
            lines = await lines_of(connection, owner_id, list({key[0]: None for key in keys}))
            for some in spans.values():
                asked = _asked(some, now_ms, zone, without)
                read.append((asked, some, await counted(connection, owner_id, asked)))
        return await in_slices(_pasts(lines, read), owner_id)

    async def is_short(self, owner_id: str, now_ms: int, zone: ZoneInfo) -> bool:
        """Whether an owner's day has so few calls that they may be read one by one."""
        start, _ = period_of(DAY, now_ms, zone)
        since = Filters(from_ms=start // HOUR_MS * HOUR_MS)
        async with self._database.read() as connection:
            [found] = await totals(connection, owner_id, since, None, ("calls",))
        return found["calls"] <= MOST_RECORDS


def _asked(keys: Sequence[Key], now_ms: int, zone: ZoneInfo, without: frozenset[str]) -> Asked:
    """What to ask for counters of one span."""
    windows = [WINDOWS[key[2]] for key in keys]
    since, step = _span(windows[0], now_ms, zone)
    units = tuple(dict.fromkeys(window.unit for window in windows))
    account_ids = tuple(dict.fromkeys(key[0] for key in keys))
    return Asked(units, since, step, account_ids, without, windows[0].kind == EVER)


def _pasts(
    lines: Mapping[str, Sequence[str]], read: Sequence[tuple[Asked, list[Key], Sequence[Any]]]
) -> Generator[None, None, dict[Key, Past]]:
    """The past of each counter, in steps: every sum counts for all that it concerns."""
    found: dict[Key, dict[int, int]] = {}
    for asked, keys, rows in read:
        found.update((key, {}) for key in keys)
        by_account: dict[str, list[_Place]] = {}
        for key in keys:
            place = asked.units.index(WINDOWS[key[2]].unit)
            by_account.setdefault(key[0], []).append((key, place))
        concerned: dict[tuple[str, str | None], list[_Place]] = {}
        added = 0
        for row in rows:
            one = sum_of(row, asked)
            places = concerned.get((one.account_id, one.model))
            if places is None:
                places = concerned[one.account_id, one.model] = []
                for account_id in lines.get(one.account_id, ()):
                    some = by_account.get(account_id, ())
                    places += [place for place in some if _concerns(place[0], one.model)]
                    yield
            for key, place in places:
                amounts = found[key]
                amounts[one.at_ms] = amounts.get(one.at_ms, 0) + one.amounts[place]
            added += 1 + len(places)
            if added >= _STEP:
                added = 0
                yield
    return {key: Past(list(amounts.items())) for key, amounts in found.items()}


def _concerns(key: Key, model: str | None) -> bool:
    return key[1] == WHOLE or (model is not None and matches(key[1], model))


def _span(window: Window, now_ms: int, zone: ZoneInfo) -> tuple[int, int]:
    """(from when on, length of the buckets that are summed up) in milliseconds."""
    if window.kind == SLIDING:
        return (now_ms // window.bucket_ms - BUCKETS) * window.bucket_ms, window.bucket_ms
    start, end = period_of(window.kind, now_ms, zone)
    # One bucket for the whole period: every sum is of its beginning.
    return start, (end or now_ms) - start + 1
