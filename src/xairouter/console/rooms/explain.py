"""Explain: which rule said what of a call that was made, or of one that might be."""

from collections.abc import Mapping

from starlette.responses import Response

from xairouter.console.visit import Visit
from xairouter.dialects.paths import RULE_PATHS
from xairouter.domain.permissions import Permission
from xairouter.errors import ManageError
from xairouter.manage import catalogue, explain, tree
from xairouter.manage.views import Explanation


def asked_of(query: Mapping[str, str]) -> explain.Asked:
    """The question that a page's address asks."""
    most = query.get("max_output_tokens", "")
    return explain.Asked(
        account=query.get("account") or None,
        path=query.get("path") or "/v1/chat/completions",
        model=query.get("model") or None,
        ip=query.get("ip", ""),
        stream="stream" in query,
        max_output_tokens=int(most)
        if most.isascii() and most.isdigit() and len(most) < 13
        else None,
    )


def sources_of(answer: Explanation) -> set[str]:
    """The accounts that an explanation speaks of."""
    return {one["source"] for one in answer["rules"] if one["source"]} | {answer["account_id"]}


async def near_accounts(visit: Visit) -> list[tree.Node]:
    """Some accounts within reach, for fields that take an id to choose from by name."""
    if not visit.may(Permission.ACCOUNTS_READ):
        return []
    return await tree.search(visit.desk, visit.actor, "", since_ms=None)


async def show_explain(visit: Visit) -> Response:
    """The form, and the answer where something is asked."""
    query, desk, actor = visit.query, visit.desk, visit.actor
    answer, error = None, None
    try:
        if query.get("call_id"):
            answer = await explain.explain_call(desk, actor, query["call_id"].strip())
        elif query.get("model"):
            answer = await explain.explain(desk, actor, asked_of(query))
    except ManageError as refused:
        error = refused
    sources = sources_of(answer) if answer else set()
    return await visit.page(
        "explain.html",
        answer=answer,
        error=error,
        names=await tree.names(desk, actor, "account", sources),
        accounts=await near_accounts(visit),
        models=[one["id"] for one in await catalogue.list_models(desk, actor, 500)],
        paths=RULE_PATHS,
        q=query,
        trail=[(visit.words("rooms.explain"), "")],
        api="POST /api/v1/explain",
    )
