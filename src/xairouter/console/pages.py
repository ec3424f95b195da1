"""The console's first room: the page behind a one-time link, where an owner comes into being.

GET shows the form and uses nothing up; POST uses the link up and shows the XAI API key and the
recovery code, once. Nobody but the person at the browser sees them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route

from xairouter.console.snippets import ADD_A_KEY, filled
from xairouter.errors import ManageError, StorageError
from xairouter.manage.desk import Desk
from xairouter.manage.links import Link, find_link, redeem

HERE = Path(__file__).parent
_FILES = {"console.css": "text/css", "console.js": "text/javascript"}
_MOST_BODY = 16 * 1024
SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
_TEMPLATES = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=select_autoescape(default=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def console_app(desk: Desk, public_url: Callable[[Request], str]) -> Starlette:
    """The console as an application under /console."""

    def page(template: str, status: int = 200, **values: Any) -> Response:
        html = _TEMPLATES.get_template(template).render(**values)
        return HTMLResponse(html, status, headers=SECURITY_HEADERS)

    def gone() -> Response:
        return page("gone.html", 404)

    def form(link: Link, problem: str = "", name: str = "", status: int = 200) -> Response:
        return page("setup.html", status, link=link, problem=problem, name=name or link.name or "")

    async def show(request: Request) -> Response:
        link = await find_link(desk.database, request.path_params["token"])
        return gone() if link is None else form(link)

    async def use(request: Request) -> Response:
        token = request.path_params["token"]
        link = await find_link(desk.database, token)
        if link is None:
            return gone()
        if not _is_same_origin(request):
            return form(link, "The form was sent from another site; nothing was done.", status=403)
        fields = parse_qs((await _body(request)).decode("utf-8", "replace"))
        name = link.name or fields.get("name", [""])[0]
        email = fields.get("email", [""])[0].strip() or None
        try:
            made = await redeem(desk.database, desk.room.witness, token, name, email)
        except ManageError as error:
            if error.code == "not_found":
                return gone()
            return form(link, error.detail, name, status=422)
        url = public_url(request)
        return page(
            "welcome.html",
            201,
            account=made.account,
            api_key=made.api_key,
            recovery_code=made.recovery_code,
            add_a_key=ADD_A_KEY.format(url=url, key=made.api_key),
            snippets=filled(url, made.api_key),
        )

    async def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _FILES:
            return gone()
        headers = {**SECURITY_HEADERS, "cache-control": "public, max-age=3600"}
        return FileResponse(HERE / "static" / name, media_type=_FILES[name], headers=headers)

    async def away(request: Request, error: Exception) -> Response:
        return page("away.html", 503)

    async def missing(request: Request, error: Exception) -> Response:
        return gone()

    return Starlette(
        routes=[
            Route("/console/setup/{token}", show, methods=["GET"]),
            Route("/console/setup/{token}", use, methods=["POST"]),
            Route("/console/static/{name}", asset, methods=["GET"]),
        ],
        exception_handlers={StorageError: away, 404: missing, 405: missing},
    )


def _is_same_origin(request: Request) -> bool:
    """Whether a form came from this very site, as far as the browser says."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    # "null" is what browsers send from a page whose referrer policy is no-referrer.
    return origin in (None, "null") or urlsplit(origin).netloc == request.headers.get("host")


async def _body(request: Request) -> bytes:
    """A small form; more than 16 KB is none of ours."""
    parts, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > _MOST_BODY:
            raise ManageError("body_too_large", "The form is too large.")
        parts.append(chunk)
    return b"".join(parts)
