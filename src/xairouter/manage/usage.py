"""Usage and operations: what was done with whose key, and who changed what."""

import csv
import io
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.clock import rfc3339
from xairouter.domain.records import UsageRecord
from xairouter.errors import ManageError
from xairouter.manage.desk import Actor, Desk, require, subtree_ids, within_reach
from xairouter.manage.permissions import SELF, TREE
from xairouter.manage.views import operation_view, record_view, usd
from xairouter.storage import operations, records

EXPORTED = tuple(record_view(dict.fromkeys(UsageRecord.__struct_fields__)))
_GROUP_MS = {"day": 86_400_000, "hour": records.HOUR_MS}


@dataclass(frozen=True, slots=True)
class Asked:
    """Which records: ``account`` with its subtree unless ``only_self``; ``equal`` by column."""

    account: str | None = None
    only_self: bool = False
    from_ms: int | None = None
    until_ms: int | None = None
    equal: dict[str, Any] = field(default_factory=dict)


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
    """Every record asked for, oldest page last, as lines of CSV (with a head) or JSON."""
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


async def sum_usage(desk: Desk, actor: Actor, asked: Asked, group_by: str | None) -> dict[str, Any]:
    """``totals`` of all records asked for, and ``items``: one for each value of a group."""
    if group_by is not None and group_by not in records.GROUPS:
        raise ManageError(
            "invalid_field", "There is no such grouping.", {"group_by": ", ".join(records.GROUPS)}
        )
    async with desk.database.read() as connection:
        filters = await _filters(connection, actor, asked)
        [total] = await _sums(connection, actor.owner_id, filters, None)
        items = []
        if group_by is not None:
            items = await _sums(connection, actor.owner_id, filters, group_by)
    return {"totals": total, "items": items, "next_cursor": None}


async def _sums(
    connection: AsyncConnection, owner_id: str, filters: records.Filters, group_by: str | None
) -> list[dict[str, Any]]:
    """Sums with their latency percentiles; without a group exactly one, of nothing if need be."""
    timings = await records.latencies(connection, owner_id, filters, group_by)
    first: dict[Any, list[int]] = defaultdict(list)
    whole: dict[Any, list[int]] = defaultdict(list)
    for group, first_byte_ms, total_ms in timings:
        if first_byte_ms is not None:
            first[group].append(first_byte_ms)
        if total_ms is not None:
            whole[group].append(total_ms)
    items = []
    for row in await records.totals(connection, owner_id, filters, group_by):
        group = row.pop("group")
        item = {name: value or 0 for name, value in row.items() if name != "cost_nano"}
        item["cost_usd"] = usd(row["cost_nano"])
        item["first_byte_ms"] = percentiles(first[group])
        item["total_ms"] = percentiles(whole[group])
        if group_by:
            scale = _GROUP_MS.get(group_by)
            item[group_by] = rfc3339(group * scale) if scale and group is not None else group
        items.append(item)
    return items


def percentiles(values: Sequence[int]) -> dict[str, int | None]:
    """p50, p95 and p99 by nearest rank, None where there is no value."""
    ordered = sorted(values)
    if not ordered:
        return {"p50": None, "p95": None, "p99": None}
    return {
        f"p{share}": ordered[min(len(ordered) - 1, len(ordered) * share // 100)]
        for share in (50, 95, 99)
    }


async def list_operations(
    desk: Desk, actor: Actor, *, cursor: str | None, limit: int
) -> dict[str, Any]:
    """A page of the operation log, newest first; a manager sees its subtree's actors."""
    reach = require(actor, "operations.read")
    async with desk.database.read() as connection:
        ids = None
        if reach != TREE:
            ids = await subtree_ids(connection, actor.owner_id, actor.caller.account.id)
        rows = await operations.page(
            connection, actor.owner_id, before=cursor, limit=limit, account_ids=ids
        )
    return {"items": [operation_view(row) for row in rows], "next_cursor": _next(rows, "id", limit)}


async def _filters(connection: AsyncConnection, actor: Actor, asked: Asked) -> records.Filters:
    reach = require(actor, "usage.read")
    own = actor.caller.account.id
    top = asked.account or own
    if asked.account is not None and asked.account != own:
        await within_reach(connection, actor, "usage.read", top)
    filters = records.Filters(None, asked.from_ms, asked.until_ms, asked.equal)
    if asked.only_self or reach == SELF:
        return replace(filters, account_ids=[top])
    if reach == TREE and top == actor.owner_id:
        return filters
    return replace(filters, account_ids=await subtree_ids(connection, actor.owner_id, top))


def _next(rows: Sequence[dict[str, Any]], name: str, limit: int) -> str | None:
    return rows[-1][name] if len(rows) == limit else None
