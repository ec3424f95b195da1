"""Notices: what needs a person, open or closed."""

from starlette.responses import Response

from xairouter.console.origin import local_path
from xairouter.console.visit import Visit
from xairouter.manage import notices

PAGE = 50


async def show_notices(visit: Visit) -> Response:
    """A page of notices; ``state=all`` shows closed ones too."""
    is_open = visit.query.get("state", "open") == "open"
    cursor = visit.query.get("cursor") or None
    page = await notices.list_notices(
        visit.desk, visit.actor, cursor=cursor, limit=PAGE, is_open=is_open
    )
    return await visit.page(
        "notices.html",
        page=page,
        is_open=is_open,
        trail=[(visit.words("rooms.notices"), "")],
        api=f"GET /api/v1/notices?state={'open' if is_open else 'all'}",
    )


async def dismiss_notice(visit: Visit) -> Response:
    """Close a notice and go back to where it stood."""
    back = local_path((await visit.form()).get("back", "/console/notices"))
    notice_id = visit.request.path_params["notice_id"]
    await visit.do(lambda actor: notices.dismiss_notice(visit.desk, actor, notice_id))
    return visit.see(back, "notice_closed")
