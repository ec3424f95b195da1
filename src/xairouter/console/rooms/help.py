"""Help: the documentation, searchable without any network."""

from starlette.responses import Response

from xairouter.console import library
from xairouter.console.visit import Visit
from xairouter.errors import ErrorCode, ManageError


async def show_help(visit: Visit) -> Response:
    """What there is to read, or what a search found."""
    text = visit.query.get("q", "").strip()[:200]
    return await visit.page(
        "help.html",
        q=text,
        found=library.search(text),
        kinds=list(library.by_kind()),
        trail=[(visit.words("rooms.help"), "")],
    )


async def show_document(visit: Visit) -> Response:
    name = visit.request.path_params["name"]
    document = library.library().get(name)
    if document is None:
        raise ManageError(
            ErrorCode.NOT_FOUND, f"There is no page “{name[:64]}” in the documentation."
        )
    return await visit.page(
        "document.html",
        document=document,
        trail=[(visit.words("rooms.help"), "/console/help"), (document.title, "")],
    )
