"""The operation log, and the state of the hash chain over it and the records."""

import json

from starlette.responses import Response

from xairouter.console.visit import SECURITY_HEADERS, Visit
from xairouter.manage import audit, operations, tree

PAGE = 100
FRONTS = (
    "accounts",
    "keys",
    "provider_keys",
    "rules",
    "routing",
    "settings",
    "vault",
    "session",
    "panic",
)


async def show_operations(visit: Visit) -> Response:
    """A page of the log, newest first."""
    return await _page(visit, None)


async def _page(visit: Visit, report: object) -> Response:
    front = visit.query.get("verb", "")
    cursor = visit.query.get("cursor") or None
    page = await operations.list_operations(
        visit.desk, visit.actor, cursor=cursor, limit=PAGE, verb=front or None
    )
    ids = {row["actor_account_id"] for row in page["items"] if row["actor_account_id"]}
    return await visit.page(
        "operations.html",
        page=page,
        cursor=cursor,
        front=front,
        fronts=FRONTS,
        report=report,
        names=await tree.names(visit.desk, visit.actor, "account", ids),
        trail=[(visit.words("rooms.operations"), "")],
        api="GET /api/v1/operations",
    )


async def check_chain(visit: Visit) -> Response:
    """Walk the chain now; with ``act=checkpoint`` answer with a checkpoint to keep elsewhere."""
    act = (await visit.form()).get("act", "check")
    report = await audit.show_audit(visit.desk, visit.actor)
    if act == "checkpoint" and report["checkpoint"] is not None:
        text = json.dumps(report["checkpoint"], indent=2) + "\n"
        headers = {
            **SECURITY_HEADERS,
            "content-disposition": 'attachment; filename="checkpoint.json"',
        }
        return Response(text, media_type="application/json", headers=headers)
    return await _page(visit, report)
