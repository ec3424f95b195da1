"""Usage: what was called with whose key, and what that came to."""

import csv
import io
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.clock import rfc3339
from xairouter.domain.records import UsageRecord
from xairouter.errors import ManageError
from xairouter.manage.desk import Actor, Desk, require, within_reach
from xairouter.manage.permissions import SELF, TREE
from xairouter.manage.views import record_view, usd
from xairouter.storage import owners, records, rollups

EXPORTED = tuple(record_view(dict.fromkeys(UsageRecord.__struct_fields__)))
_GROUP_MS = {"day": 86_400_000, "hour": rollups.HOUR_MS}


@dataclass(frozen=True, slots=True)
class Asked:
    """Which records: ``account`` with its subtree unless ``only_self``; ``equal`` by column;
    ``model`` is the one used, else the one asked for."""

    account: str | None = None
    only_self: bool = False
    from_ms: int | None = None
    until_ms: int | None = None
    equal: dict[str, Any] = field(default_factory=dict)
    model: str | None = None


async def list_records(
    desk: Desk, actor: Actor, asked: Asked, *, cursor: str | None, limit: int
) -> dict[str, Any]:
    """A page of usage records, newest first."""
    async with desk.database.read() as connection:
        filters = await _filters(connection, actor, asked)
        rows = await records.page(connection, actor.owner_id, filters, before=cursor, limit=limit)
    return {
        "items": [record_view(row) for row in rows],
        "next_cursor": _next(rows, "call_id", limit),
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
        out = io.StringIO()
        if form == "csv":
            writer = csv.DictWriter(out, fieldnames=EXPORTED)
            if is_first:
                writer.writeheader()
            writer.writerows([_cells(item) for item in page["items"]])
        else:
            out.writelines(json.dumps(item, ensure_ascii=False) + "\n" for item in page["items"])
        is_first = False
        yield out.getvalue()
        cursor = page["next_cursor"]
        if cursor is None:
            return


def _cells(item: dict[str, Any]) -> dict[str, Any]:
    """A record as cells: nested values as JSON, and nothing that a spreadsheet would run."""
    cells = {}
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
) -> dict[str, Any]:
    """``totals`` of all records asked for, and ``items``: one for each value of a group; without
    ``timed`` no latencies are looked at, with ``top`` only the dearest are answered, and the
    busiest among equals."""
    if group_by is not None and group_by not in rollups.GROUPS:
        raise ManageError(
            "invalid_field", "There is no such grouping.", {"group_by": ", ".join(rollups.GROUPS)}
        )
    async with desk.database.read() as connection:
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
    [total] = _items([whole], [(None, *rest) for _, *rest in timings], None)
    items = _items(rows, timings, group_by)
    return {"totals": total, "items": items, "next_cursor": None}


async def count_records(desk: Desk, actor: Actor, asked: Asked) -> int | None:
    """How many records there are; None where each of them would have to be looked at."""
    async with desk.database.read() as connection:
        filters = await _filters(connection, actor, asked)
        if not rollups.knows(filters):
            return None
        [row] = await rollups.totals(connection, actor.owner_id, filters, None, ("calls",))
    return int(row["calls"])


async def _timings(
    connection: AsyncConnection,
    actor: Actor,
    filters: rollups.Filters,
    group_by: str | None,
    timed: bool,
) -> Sequence[Sequence[Any]]:
    if not timed:
        return ()
    return await records.latencies(connection, actor.owner_id, filters, group_by)


def _items(
    rows: Iterable[Mapping[str, Any]],
    timings: Iterable[Sequence[Any]],
    group_by: str | None,
) -> list[dict[str, Any]]:
    """Sums as the faces show them, with the percentiles of their latencies."""
    first: dict[Any, list[int]] = defaultdict(list)
    whole: dict[Any, list[int]] = defaultdict(list)
    for group, first_byte_ms, total_ms in timings:
        if first_byte_ms is not None:
            first[group].append(first_byte_ms)
        if total_ms is not None:
            whole[group].append(total_ms)
    items = []
    for row in rows:
        group = row["group"]
        item = {name: value for name, value in row.items() if name not in ("cost_nano", "group")}
        item["cost_usd"] = known_cost(row)
        item["first_byte_ms"] = percentiles(first.get(group, ()))
        item["total_ms"] = percentiles(whole.get(group, ()))
        if group_by:
            scale = _GROUP_MS.get(group_by)
            item[group_by] = rfc3339(group * scale) if scale and group is not None else group
        items.append(item)
    return items


def known_cost(row: Mapping[str, int]) -> float | None:
    """The cost of some sums in USD; None where no price was known, which is not the same as 0."""
    is_known = bool(row["cost_nano"]) or (row["calls"] > 0 and not row["unpriced"])
    return usd(row["cost_nano"]) if is_known else None


def percentiles(values: Sequence[int]) -> dict[str, int | None]:
    """p50, p95 and p99 by nearest rank, None where there is no value."""
    ordered = sorted(values)
    if not ordered:
        return {"p50": None, "p95": None, "p99": None}
    return {
        f"p{share}": ordered[min(len(ordered) - 1, len(ordered) * share // 100)]
        for share in (50, 95, 99)
    }


async def _filters(connection: AsyncConnection, actor: Actor, asked: Asked) -> rollups.Filters:
    reach = require(actor, "usage.read")
    own = actor.caller.account.id
    top = asked.account or own
    if asked.account is not None and asked.account != own:
        await within_reach(connection, actor, "usage.read", top)
    filters = rollups.Filters(None, asked.from_ms, asked.until_ms, asked.equal, asked.model)
    if asked.only_self or reach == SELF:
        return replace(filters, account_ids=[top])
    if reach == TREE and top == actor.owner_id:
        return filters
    return replace(filters, account_ids=await owners.subtree_of(connection, actor.owner_id, top))


def _next(rows: Sequence[dict[str, Any]], name: str, limit: int) -> str | None:
    return rows[-1][name] if len(rows) == limit else None
