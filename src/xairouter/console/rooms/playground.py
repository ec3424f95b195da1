"""The playground: a conversation with any model the account may use, by a key of its own."""

from starlette.responses import JSONResponse, Response

from xairouter.console.visit import SECURITY_HEADERS, Visit
from xairouter.manage import catalogue, sessions
from xairouter.manage.views import instant

DIALECTS = ("openai_chat", "openai_responses", "anthropic_messages", "gemini_generate")


async def show_playground(visit: Visit) -> Response:
    """The page; it holds no key until its first request."""
    models = await catalogue.list_models(visit.desk, visit.actor, 2000)
    return await visit.page(
        "playground.html",
        models=[one for one in models if set(one["dialects"]) & set(DIALECTS)],
        dialects=DIALECTS,
        wanted=visit.query.get("model", ""),
        trail=[(visit.words("rooms.playground"), "")],
        api="GET /api/v1/models",
    )


async def issue_key(visit: Visit) -> Response:
    """A key for this page's memory: an hour, scope ``call``, ended with the session."""
    _, token = visit.who
    made = await visit.do(lambda actor: sessions.open_playground(visit.desk, actor, token))
    shown = {"api_key": made.api_key, "expires_at": instant(made.key.expires_at_ms)}
    return JSONResponse(shown, 201, headers=SECURITY_HEADERS)
