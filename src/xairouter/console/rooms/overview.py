"""The overview: what was used, what is near its edge, what needs a person; and the first steps."""

from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from xairouter.clock import now_ms
from xairouter.console.ranges import Range, read_range
from xairouter.console.visit import Visit
from xairouter.domain.accounts import ProviderKeyStatus
from xairouter.domain.permissions import Permission
from xairouter.manage import first_steps, notices, operations, provider_keys, tree, usage
from xairouter.manage.catalogue import seen_by_operator
from xairouter.manage.key_health import health_of
from xairouter.manage.limits import every_edge, nearest_edges, show_limits

SUMMED = (
    "calls",
    "errors",
    "refused",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "cost_usd",
)
MOST_EDGES = 12
TOP = 6
SHOWN_NOTICES = 5
_MARKED = (
    Permission.PROVIDER_KEYS_REPLACE,
    Permission.PROVIDER_KEYS_DELETE,
    Permission.RULES_CHANGE,
    Permission.ROUTING_CHANGE,
    Permission.PANIC,
)


async def show_overview(visit: Visit) -> Response:
    """Figures of a range; a fragment of them alone for the script that keeps them fresh."""
    zone = visit.show.zone
    span = read_range(visit.query, zone, now_ms(), "today")
    values = await _figures(visit, span)
    if visit.is_fragment:
        return visit.render("overview_figures.html", span=span, **values)
    is_owner = visit.may(Permission.PROVIDER_KEYS_READ)
    return await visit.page(
        "overview.html",
        span=span,
        steps=await first_steps.show(visit.desk, visit.actor) if is_owner else [],
        ailing=await _ailing(visit) if is_owner else [],
        notices=(
            (await notices.list_notices(visit.desk, visit.actor, cursor=None, limit=SHOWN_NOTICES))[
                "items"
            ]
            if visit.may(Permission.NOTICES_READ)
            else []
        ),
        seen=is_owner and await seen_by_operator(visit.desk, visit.actor),
        api=f"GET /api/v1/usage?{urlencode({**span.asked(), 'group_by': 'hour'})}",
        **values,
    )


async def _figures(visit: Visit, span: Range) -> dict[str, Any]:
    asked = usage.Asked(from_ms=span.from_ms, until_ms=span.until_ms)
    desk, actor = visit.desk, visit.actor
    sums = await usage.sum_usage(desk, actor, asked, span.group, timed=False)
    models = await usage.sum_usage(desk, actor, asked, "model", top=TOP)
    accounts = await usage.sum_usage(desk, actor, asked, "account", timed=False, top=TOP)
    names = await tree.names(desk, actor, "account", [row["account"] for row in accounts["items"]])
    return {
        "totals": models["totals"],
        "series": span.series(sums["items"], SUMMED),
        "models": models["items"],
        "accounts": accounts["items"],
        "names": names,
        "marks": await _marks(visit, span),
    }


async def _marks(visit: Visit, span: Range) -> list[dict[str, Any]]:
    """What happened meanwhile that may explain a figure."""
    if not visit.may(Permission.OPERATIONS_READ):
        return []
    found = await operations.marks(visit.desk, visit.actor, _MARKED, span.from_ms, span.until_ms)
    return [{"at": row["at_ms"], "word": visit.words(f"marks.{row['verb']}")} for row in found]


async def _ailing(visit: Visit) -> list[Any]:
    """Active provider keys that sleep or were rejected, with why."""
    keys = await provider_keys.list_provider_keys(visit.desk, visit.actor)
    healths = [
        (key, health_of(visit.desk, key)) for key in keys if key.status == ProviderKeyStatus.ACTIVE
    ]
    return [(key, health) for key, health in healths if health["state"] != "ok"]


async def show_edges(visit: Visit) -> Response:
    """Limits and budgets nearest to their edge: of everything below, or of one's own path. A page of
    its own, because counters that were not asked yet read the records first."""
    if visit.may(Permission.ACCOUNTS_READ):
        found = await nearest_edges(visit.desk, visit.actor, now_ms(), MOST_EDGES)
    else:
        limits, budgets = await show_limits(visit.desk, visit.actor, now_ms())
        found = every_edge(limits, budgets)[:MOST_EDGES]
    ids = [one["account_id"] for one in found]
    names = await tree.names(visit.desk, visit.actor, "account", ids)
    if visit.is_fragment:
        return visit.render("edges.html", items=found, names=names)
    return await visit.page(
        "edges_page.html",
        items=found,
        names=names,
        trail=[(visit.words("overview.edges"), "")],
        api="GET /api/v1/me",
    )
