"""The console's pages, as one table of routes: what each shows and which verb of ``manage`` it does.

A page is reached with a session (``visit.py``), but for signing in and the page behind a one-time
link, where an owner comes into being. Every form works without script.
"""

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Route

from xairouter.console.snippets import DEMO_MODEL, Snippet, filled
from xairouter.console.visit import HERE, SECURITY_HEADERS, Visit, Visits
from xairouter.custody.intake import read_form
from xairouter.errors import ManageError, StorageError
from xairouter.manage import links, provider_keys, sessions, usage
from xairouter.policy.routing import served_names
from xairouter.providers.interface import DEFAULT_AUTH
from xairouter.providers.table import PROVIDERS

_FILES = {
    "console.css": "text/css",
    "console.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
HOME = "/console/provider-keys"
SHOWN_CALLS = 50


def console_app(visits: Visits) -> Starlette:
    """The console as an application under /console."""

    async def root(request: Request) -> Response:
        return RedirectResponse(HOME, 303, headers=SECURITY_HEADERS)

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _FILES:
            return visits.page("gone.html", 404)
        headers = {**SECURITY_HEADERS, "cache-control": "public, max-age=3600"}
        return FileResponse(HERE / "static" / name, media_type=_FILES[name], headers=headers)

    async def away(request: Request, error: Exception) -> Response:
        return visits.page("away.html", 503)

    async def missing(request: Request, error: Exception) -> Response:
        return visits.page("gone.html", 404)

    return Starlette(
        routes=[
            Route("/console/", root, methods=["GET"]),
            Route("/console/static/{name}", asset, methods=["GET"]),
            Route("/console/setup/{token}", visits.open(show_setup), methods=["GET"]),
            Route("/console/setup/{token}", visits.open(use_setup), methods=["POST"]),
            Route("/console/sign-in", visits.open(show_sign_in), methods=["GET"]),
            Route("/console/sign-in", visits.open(sign_in), methods=["POST"]),
            Route("/console/sign-out", visits.signed_in(sign_out), methods=["POST"]),
            Route(HOME, visits.signed_in(show_provider_keys), methods=["GET"]),
            Route(HOME, visits.signed_in(add_provider_key), methods=["POST"]),
            Route("/console/calls", visits.signed_in(show_calls), methods=["GET"]),
        ],
        exception_handlers={StorageError: away, 404: missing, 405: missing},
    )


async def show_setup(visit: Visit) -> Response:
    """The form behind a one-time link; looking uses nothing up."""
    link = await links.find_link(visit.desk.database, visit.request.path_params["token"])
    return visit.page("gone.html", 404) if link is None else _setup_form(visit, link)


async def use_setup(visit: Visit) -> Response:
    """Use the link up: an owner comes into being, and its secrets are shown, once."""
    token = visit.request.path_params["token"]
    link = await links.find_link(visit.desk.database, token)
    if link is None:
        return visit.page("gone.html", 404)
    fields = read_form(await visit.body()).fields
    name = link.name or str(fields.get("name", ""))
    email = str(fields.get("email", "")).strip() or None
    try:
        witness = visit.desk.room.witness
        made = await links.redeem(visit.desk.database, witness, token, name, email)
    except ManageError as error:
        if error.code == "not_found":
            return visit.page("gone.html", 404)
        return _setup_form(visit, link, error.detail, name)
    page = visit.page(
        "welcome.html",
        201,
        account=made.account,
        api_key=made.api_key,
        recovery_code=made.recovery_code,
        snippets=filled(visit.url, made.api_key),
        can_sign_in=visit.can_sign_in,
    )
    if visit.can_sign_in:
        await visit.sign_in(page, made.api_key)
    return page


def _setup_form(visit: Visit, link: links.Link, problem: str = "", name: str = "") -> Response:
    return visit.page("setup.html", 422 if problem else 200, link=link, problem=problem, name=name)


async def show_sign_in(visit: Visit) -> Response:
    return visit.page("sign_in.html", problem="", can_sign_in=visit.can_sign_in)


async def sign_in(visit: Visit) -> Response:
    """Open a session with an XAI API key; what is wrong with a key is not told apart."""
    key = str(read_form(await visit.body()).fields.get("key", "")).strip()
    moved = RedirectResponse(HOME, 303, headers=SECURITY_HEADERS)
    if visit.can_sign_in and await visit.sign_in(moved, key):
        return moved
    problem = "This key does not open a vault here. Check it, or use the recovery code."
    return visit.page("sign_in.html", 401, problem=problem, can_sign_in=visit.can_sign_in)


async def sign_out(visit: Visit) -> Response:
    """End this session, or with ``everywhere`` all that the same key opened."""
    fields = read_form(await visit.body()).fields
    actor, token = visit.who
    await sessions.close_session(visit.desk, actor, token, everywhere="everywhere" in fields)
    moved = RedirectResponse("/console/sign-in", 303, headers=SECURITY_HEADERS)
    visit.forget_cookie(moved)
    return moved


async def show_provider_keys(visit: Visit) -> Response:
    return await _provider_keys(visit)


async def _provider_keys(visit: Visit, status: int = 200, **values: Any) -> Response:
    actor, _ = visit.who
    try:
        keys = await provider_keys.list_provider_keys(visit.desk, actor)
    except ManageError as error:
        return visit.page("forbidden.html", 403, problem=error.detail)
    shown = {"problem": "", "added": None, "typed": {}, **values}
    return visit.page(
        "provider_keys.html",
        status,
        keys=keys,
        providers=PROVIDERS,
        dialects=DEFAULT_AUTH,
        snippets=_snippets(visit.url, shown["added"]),
        **shown,
    )


def _snippets(url: str, added: provider_keys.Added | None) -> list[Snippet]:
    """Ready-made lines for the key just added, with a model that it serves."""
    if added is None:
        return []
    names = [name for name in served_names(added.key) if "*" not in name]
    return filled(url, "YOUR-XAI-API-KEY", names[0] if names else DEMO_MODEL)


async def add_provider_key(visit: Visit) -> Response:
    """Add a key from the form: a known provider, or a dialect and a base URL."""
    actor, _ = visit.who
    typed: dict[str, Any] = {}
    try:
        intake = read_form(await visit.body())
        typed = dict(intake.fields)
        url = str(intake.fields.pop("base_url", "")).strip()
        dialect = str(intake.fields.pop("dialect", ""))
        if not intake.fields.get("provider"):
            intake.fields.pop("provider", None)
        if url:
            intake.fields["endpoints"] = {dialect: url}
        intake.fields.setdefault("name", "")
        intake.fields["name"] = intake.fields["name"] or intake.fields.get("provider") or url
        added = await provider_keys.add_provider_key(visit.desk, actor, intake, verify=True)
    except ManageError as error:
        return await _provider_keys(visit, 422, problem=error.detail, typed=typed)
    return await _provider_keys(visit, 201, added=added)


async def show_calls(visit: Visit) -> Response:
    """The newest calls; with ``?rows`` only the rows, for the script that keeps them fresh."""
    actor, _ = visit.who
    page = await usage.list_records(
        visit.desk, actor, usage.Asked(), cursor=None, limit=SHOWN_CALLS
    )
    template = "call_rows.html" if "rows" in visit.request.query_params else "calls.html"
    return visit.page(template, calls=page["items"])
