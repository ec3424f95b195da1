"""Usage: figures by what they are grouped by, the calls behind them, and each call by itself."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response, StreamingResponse

from xairouter.clock import now_ms
from xairouter.console.ranges import Range, read_range
from xairouter.console.rooms.explain import sources_of
from xairouter.console.rooms.overview import SUMMED
from xairouter.console.visit import SECURITY_HEADERS, Visit
from xairouter.errors import ErrorCode, ManageError
from xairouter.manage import explain, tree, usage
from xairouter.manage.views import RecordView

GROUPS = ("model", "account", "key", "provider_key", "provider", "label", "day")
FILTERS = (
    "account",
    "key_id",
    "provider_key_id",
    "provider",
    "model",
    "outcome",
    "status",
    "label",
)
_FILTER_OF = {
    "account": "account",
    "key": "key_id",
    "provider_key": "provider_key_id",
    "provider": "provider",
    "model": "model",
    "label": "label",
}
PAGE = 100
SHOWN_GROUPS = 200


def asked_of(query: Mapping[str, str], span: Range) -> usage.Asked:
    """The records that a page's address names."""
    equal: dict[str, str | int | None] = {
        name: query[name]
        for name in ("key_id", "provider_key_id", "provider", "outcome", "label")
        if query.get(name)
    }
    status = query.get("status", "")
    if status:
        if not (status.isascii() and status.isdigit() and len(status) == 3):
            raise ManageError(
                ErrorCode.INVALID_FIELD, "A status has three digits.", {"status": "as 200"}
            )
        equal["status"] = int(status)
    return usage.Asked(
        query.get("account") or None,
        from_ms=span.from_ms,
        until_ms=span.until_ms,
        equal=equal,
        model=query.get("model") or None,
    )


def _params(visit: Visit) -> dict[str, str]:
    """The range and the filters of the address, for the links of the page."""
    kept = ("range", "from", "to", *FILTERS)
    return {name: visit.query[name] for name in kept if visit.query.get(name)}


def _api(visit: Visit, span: Range, **more: str) -> str:
    params = {name: value for name, value in _params(visit).items() if name in FILTERS}
    return urlencode({**params, **span.asked(), **more})


async def _in_words(visit: Visit, span: Range, count: int | None) -> Any:
    """The query as a sentence, and the names behind the ids in it."""
    t, query = visit.words, visit.query
    parts = [t("usage.calls", count) if count is not None else t("usage.uncounted")]
    for group, name in _FILTER_OF.items():
        if query.get(name):
            names = await tree.names(visit.desk, visit.actor, group, [query[name]])
            parts.append(t(f"usage.where_{group}", name=names.get(query[name], query[name])))
    for name in ("outcome", "status"):
        if query.get(name):
            parts.append(t(f"usage.where_{name}", name=query[name]))
    if span.name == "own":
        until = span.until_ms if span.until_ms is not None else now_ms()
        parts.append(
            t(
                "range.from_to",
                begin=visit.show.local(span.from_ms, "%-d %b %Y"),
                end=visit.show.local(until - 1, "%-d %b %Y"),
            )
        )
    else:
        parts.append(t(f"range.in_{span.name}"))
    return t("usage.joint").join(parts)


async def show_usage(visit: Visit) -> Response:
    """Figures of a range, grouped."""
    span = read_range(visit.query, visit.show.zone, now_ms(), "7d")
    asked = asked_of(visit.query, span)
    group = visit.query.get("group", "model")
    group = group if group in GROUPS else "model"
    sums = await usage.sum_usage(visit.desk, visit.actor, asked, span.group, timed=False)
    series = span.series(sums["items"], SUMMED)
    items: Sequence[Mapping[str, object]]
    if group == "day":
        items = [{**row, "first_byte_ms": None, "total_ms": None} for row in series]
    else:
        found = await usage.sum_usage(visit.desk, visit.actor, asked, group, top=SHOWN_GROUPS + 1)
        items = found["items"]
    names = await tree.names(visit.desk, visit.actor, group, [row.get(group) for row in items])
    return await visit.page(
        "usage.html",
        span=span,
        group=group,
        groups=GROUPS,
        items=items[:SHOWN_GROUPS],
        is_cut=len(items) > SHOWN_GROUPS,
        names=names,
        series=series,
        totals=sums["totals"],
        params=_params(visit),
        filters=FILTERS,
        filter_of=_FILTER_OF,
        sentence=await _in_words(visit, span, sums["totals"]["calls"]),
        trail=[(visit.words("rooms.usage"), "")],
        api=f"GET /api/v1/usage?{_api(visit, span, group_by=group)}",
    )


async def show_calls(visit: Visit) -> Response:
    """Single calls, newest first; for the script that keeps them fresh only the rows."""
    span = read_range(visit.query, visit.show.zone, now_ms(), "7d")
    asked = asked_of(visit.query, span)
    cursor = visit.query.get("cursor") or None
    page = await usage.list_records(visit.desk, visit.actor, asked, cursor=cursor, limit=PAGE)
    values = await _named(visit, page["items"])
    if visit.is_fragment:
        return visit.render("call_rows.html", calls=page["items"], **values)
    count = await usage.count_records(visit.desk, visit.actor, asked)
    return await visit.page(
        "calls.html",
        span=span,
        calls=page["items"],
        next_cursor=page["next_cursor"],
        cursor=cursor,
        params=_params(visit),
        filters=FILTERS,
        sentence=await _in_words(visit, span, count),
        trail=[(visit.words("rooms.calls"), "")],
        api=f"GET /api/v1/usage/records?{_api(visit, span)}",
        **values,
    )


async def _named(visit: Visit, calls: Sequence[RecordView]) -> dict[str, Any]:
    """The names behind the ids of some calls."""
    ids: dict[str, set[str | None]] = {
        "account": {call["account_id"] for call in calls},
        "key": {call["key_id"] for call in calls},
        "provider_key": {call["provider_key_id"] for call in calls},
    }
    return {
        f"{group}_names": await tree.names(visit.desk, visit.actor, group, some)
        for group, some in ids.items()
    }


async def show_call(visit: Visit) -> Response:
    """One call: every id, its attempts, timings, tokens, cost and the price used, and why."""
    call_id = visit.request.path_params["call_id"]
    asked = usage.Asked(equal={"call_id": call_id})
    page = await usage.list_records(visit.desk, visit.actor, asked, cursor=None, limit=1)
    if not page["items"]:
        raise ManageError(
            ErrorCode.NOT_FOUND,
            f"There is no call “{call_id[:64]}” within reach; one is stored when it has ended.",
        )
    answer = await explain.explain_call(visit.desk, visit.actor, call_id)
    return await visit.page(
        "call.html",
        call=page["items"][0],
        answer=answer,
        names=await tree.names(visit.desk, visit.actor, "account", sources_of(answer)),
        trail=[(visit.words("rooms.calls"), "/console/calls"), (call_id, "")],
        api=f"GET /api/v1/usage/records?call_id={call_id}",
        **await _named(visit, page["items"]),
    )


async def export(visit: Visit) -> Response:
    """Every call that the address names, as CSV or JSON lines."""
    span = read_range(visit.query, visit.show.zone, now_ms(), "7d")
    form = "csv" if visit.query.get("format") == "csv" else "jsonl"
    asked = asked_of(visit.query, span)
    lines = await usage.export_records(visit.desk, visit.actor, asked, form)
    headers = {
        **SECURITY_HEADERS,
        "content-disposition": f'attachment; filename="usage.{form}"',
    }
    kind = "text/csv" if form == "csv" else "application/jsonl"
    return StreamingResponse(lines, media_type=kind, headers=headers)
