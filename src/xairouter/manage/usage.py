"""Usage: what was called with whose key, and what that came to."""

import csv
import io
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypedDict, cast

from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.clock import rfc3339
from xairouter.domain.permissions import Permission, Reach
from xairouter.errors import ErrorCode, ManageError
from xairouter.manage.desk import Actor, Desk, require, within_reach
from xairouter.manage.paging import ITEMS_AT_ONCE, viewed
from xairouter.manage.views import RecordView, record_view, usd
from xairouter.storage import owners, records, rollups
from xairouter.storage.sums import SumRow
from xairouter.turns import in_slices

EXPORTED = tuple(RecordView.__annotations__)
_GROUP_MS = {"day": 86_400_000, "hour": rollups.HOUR_MS}


@dataclass(frozen=True, slots=True)
class Asked:
    """Which records: ``account`` with its subtree unless ``only_self``; ``equal`` by column;
    ``model`` is the one used, else the one asked for."""

    account: str | None = None
    only_self: bool = False
    from_ms: int | None = None
    until_ms: int | None = None
    equal: Mapping[str, str | int | None] = field(default_factory=dict)
    model: str | None = None


class RecordPage(TypedDict):
    """Usage records, and behind which call to go on (None: there are no more)."""

    items: list[RecordView]
    next_cursor: str | None


class Percentiles(TypedDict):
    """Milliseconds; None where nothing was measured."""

    p50: int | None
    p95: int | None
    p99: int | None


class Totals(TypedDict):
    """Sums over records, in USD where a price was known."""

    calls: int
    attempts: int
    errors: int
    refused: int
    input_tokens: int
    cached_input_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    unpriced: int
    cost_usd: float | None
    first_byte_ms: Percentiles
    total_ms: Percentiles


class GroupTotals(Totals, total=False):
    """The same for one value of a group, under the group's own name; an instant for day and hour."""

    model: str | None
    account: str | None
    key: str | None
    provider_key: str | None
    provider: str | None
    label: str | None
    day: str | None
    hour: str | None


class UsageSums(TypedDict):
    """Sums over everything asked for, and by group."""

    totals: Totals
    items: list[GroupTotals]
    next_cursor: None


async def list_records(
    desk: Desk, actor: Actor, asked: Asked, *, cursor: str | None, limit: int
) -> RecordPage:
    """A page of usage records, newest first."""
    async with desk.long_read(actor.owner_id) as connection:
        filters = await _filters(connection, actor, asked)
        rows = await records.page(connection, actor.owner_id, filters, before=cursor, limit=limit)
    return {
        "items": await viewed(rows, record_view, actor.owner_id),
        "next_cursor": rows[-1]["call_id"] if len(rows) == limit else None,
    }


async def export_records(desk: Desk, actor: Actor, asked: Asked, form: str) -> AsyncIterator[str]:
    """Every record asked for, newest page first, as lines of CSV (with a head) or JSON. The first
    page is read before it returns, so that a refusal comes before a reply's head."""
    pages = _exported(desk, actor, asked, form)
    first = await anext(pages)

    async def lines() -> AsyncIterator[str]:
        yield first
        async for page in pages:
            yield page

    return lines()


async def _exported(desk: Desk, actor: Actor, asked: Asked, form: str) -> AsyncIterator[str]:
    cursor: str | None = None
    is_first = True
    while True:
        page = await list_records(desk, actor, asked, cursor=cursor, limit=500)
        lines = lines_in_steps(page["items"], form, has_head=is_first)
        yield await in_slices(lines, actor.owner_id)
        is_first = False
        cursor = page["next_cursor"]
        if cursor is None:
            return


def lines_in_steps(
    items: Iterable[RecordView], form: str, *, has_head: bool
) -> Generator[None, None, str]:
    """Records as lines of CSV or JSON."""
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=EXPORTED)
    if has_head and form == "csv":
        writer.writeheader()
    for number, item in enumerate(items, 1):
        if form == "csv":
            writer.writerow(_cells(item))
        else:
            out.write(json.dumps(item, ensure_ascii=False) + "\n")
        if number % ITEMS_AT_ONCE == 0:
            yield
    return out.getvalue()


def _cells(item: RecordView) -> dict[str, object]:
    """A record as cells: nested values as JSON, and nothing that a spreadsheet would run."""
    cells: dict[str, object] = {}
    for name, value in item.items():
        text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value
        if isinstance(text, str) and text.startswith(("=", "+", "-", "@", "\t", "\r")):
            text = "'" + text
        cells[name] = text
    return cells


async def sum_usage(
    desk: Desk,
    actor: Actor,
    asked: Asked,
    group_by: str | None,
    *,
    timed: bool = True,
    top: int | None = None,
) -> UsageSums:
    """``totals`` of all records asked for, and ``items``: one for each value of a group; without
    ``timed`` no latencies are looked at, with ``top`` only the dearest are answered, and the
    busiest among equals."""
    if group_by is not None and group_by not in rollups.GROUPS:
        raise ManageError(
            ErrorCode.INVALID_FIELD,
            "There is no such grouping.",
            {"group_by": ", ".join(rollups.GROUPS)},
        )
    async with desk.long_read(actor.owner_id) as connection:
        filters = await _filters(connection, actor, asked)
        rows = await rollups.totals(connection, actor.owner_id, filters, group_by, top=top)
        if group_by is None:
            timings = await _timings(connection, actor, filters, None, timed)
            [total] = _items(rows, timings, None)
            return {"totals": total, "items": [], "next_cursor": None}
        whole = rollups.summed(rows)
        if top is not None and len(rows) == top:
            [whole] = await rollups.totals(connection, actor.owner_id, filters, None)
        timings = await _timings(connection, actor, filters, group_by, timed)
    every: list[_Timing] = [(None, first_byte, whole_ms) for _, first_byte, whole_ms in timings]
    [total] = _items([whole], every, None)
    items = _items(rows, timings, group_by)
    return {"totals": total, "items": items, "next_cursor": None}


async def count_records(desk: Desk, actor: Actor, asked: Asked) -> int | None:
    """How many records there are; None where each of them would have to be looked at."""
    async with desk.long_read(actor.owner_id) as connection:
        filters = await _filters(connection, actor, asked)
        if not rollups.knows(filters):
            return None
        [row] = await rollups.totals(connection, actor.owner_id, filters, None, ("calls",))
    return int(row["calls"])


_Timing = tuple[str | int | None, int | None, int | None]
"""Group, first byte, total, in milliseconds."""


async def _timings(
    connection: AsyncConnection,
    actor: Actor,
    filters: rollups.Filters,
    group_by: str | None,
    timed: bool,
) -> Sequence[_Timing]:
    if not timed:
        return ()
    return await records.latencies(connection, actor.owner_id, filters, group_by)


def _items(
    rows: Iterable[SumRow],
    timings: Iterable[_Timing],
    group_by: str | None,
) -> list[GroupTotals]:
    """Sums as the faces show them, with the percentiles of their latencies."""
    first: dict[str | int | None, list[int]] = defaultdict(list)
    whole: dict[str | int | None, list[int]] = defaultdict(list)
    for group, first_byte_ms, total_ms in timings:
        if first_byte_ms is not None:
            first[group].append(first_byte_ms)
        if total_ms is not None:
            whole[group].append(total_ms)
    items: list[GroupTotals] = []
    for row in rows:
        group = row["group"]
        item: dict[str, object] = {
            name: value for name, value in row.items() if name not in ("cost_nano", "group")
        }
        item["cost_usd"] = known_cost(row)
        item["first_byte_ms"] = percentiles(first.get(group, ()))
        item["total_ms"] = percentiles(whole.get(group, ()))
        if group_by:
            scale = _GROUP_MS.get(group_by)
            item[group_by] = rfc3339(group * scale) if scale and isinstance(group, int) else group
        items.append(cast(GroupTotals, item))
    return items


def known_cost(row: SumRow) -> float | None:
    """The cost of some sums in USD; None where no price was known, which is not the same as 0."""
    is_known = bool(row["cost_nano"]) or (row["calls"] > 0 and not row["unpriced"])
    return usd(row["cost_nano"]) if is_known else None


def percentiles(values: Sequence[int]) -> Percentiles:
    """p50, p95 and p99 by nearest rank, None where there is no value."""
    ordered = sorted(values)

    def rank(share: int) -> int | None:
        return ordered[min(len(ordered) - 1, len(ordered) * share // 100)] if ordered else None

    return {"p50": rank(50), "p95": rank(95), "p99": rank(99)}


async def _filters(connection: AsyncConnection, actor: Actor, asked: Asked) -> rollups.Filters:
    reach = require(actor, Permission.USAGE_READ)
    own = actor.caller.account.id
    top = asked.account or own
    if asked.account is not None and asked.account != own:
        await within_reach(connection, actor, Permission.USAGE_READ, top)
    filters = rollups.Filters(None, asked.from_ms, asked.until_ms, asked.equal, asked.model)
    if asked.only_self or reach == Reach.SELF:
        return replace(filters, account_ids=[top])
    if reach == Reach.TREE and top == actor.owner_id:
        return filters
    return replace(filters, account_ids=await owners.subtree_of(connection, actor.owner_id, top))
