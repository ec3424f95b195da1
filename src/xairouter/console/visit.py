"""One visit to a page: whose session it is, what may be sent, and the headers of every answer."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from xairouter.directory.identity import Identifier
from xairouter.domain.calls import Refusal
from xairouter.errors import ManageError
from xairouter.manage.desk import Actor, Desk
from xairouter.manage.sessions import keep_alive, open_session

HERE = Path(__file__).parent
_MOST_BODY = 64 * 1024
_SECURE, _PLAIN = "__Host-xairouter", "xairouter"
SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
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
Page = Callable[["Visit"], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(slots=True)
class Visit:
    """A request to a page, with what the page needs."""

    request: Request
    desk: Desk
    identifier: Identifier
    url: str
    address: str
    _who: tuple[Actor, str] | None = field(default=None, repr=False)

    @property
    def who(self) -> tuple[Actor, str]:
        """The signed-in actor and the session's token; only on pages that ask for a session."""
        assert self._who is not None
        return self._who

    @property
    def is_https(self) -> bool:
        return self.url.startswith("https://")

    @property
    def can_sign_in(self) -> bool:
        """Sessions need HTTPS, but on loopback, where nobody listens in between."""
        peer = self.request.client.host if self.request.client else ""
        try:
            return self.is_https or ip_address(peer).is_loopback
        except ValueError:
            return False

    def page(self, template: str, status: int = 200, **values: Any) -> Response:
        """A rendered page."""
        account = self._who[0].caller.account if self._who else None
        html = _TEMPLATES.get_template(template).render(
            signed_in=account, here=self.request.url.path, **values
        )
        return HTMLResponse(html, status, headers=SECURITY_HEADERS)

    async def body(self) -> bytes:
        """A form's body, unparsed; raises ManageError if it is too large."""
        parts, size = [], 0
        async for chunk in self.request.stream():
            size += len(chunk)
            if size > _MOST_BODY:
                raise ManageError("body_too_large", "The form is too large.")
            parts.append(chunk)
        return b"".join(parts)

    async def sign_in(self, response: Response, api_key: str) -> bool:
        """Open a session with an XAI API key and put it into the response's cookie."""
        identity = await self.identifier.resolve({b"authorization": api_key.encode()}, b"")
        if isinstance(identity, Refusal):
            return False
        actor = Actor(identity.caller, identity.vault, self.address)
        token = await open_session(self.desk, actor)
        response.set_cookie(
            _SECURE if self.is_https else _PLAIN,
            token,
            path="/",
            secure=self.is_https,
            httponly=True,
            samesite="strict",
        )
        return True

    def forget_cookie(self, response: Response) -> None:
        for name in (_SECURE, _PLAIN):
            response.delete_cookie(name, path="/", secure=name == _SECURE, httponly=True)


class Visits:
    """Makes visits of requests; wraps pages into endpoints."""

    def __init__(
        self,
        desk: Desk,
        identifier: Identifier,
        public_url: Callable[[Request], str],
        client_address: Callable[[Any, dict[bytes, bytes]], str],
    ) -> None:
        self._desk = desk
        self._identifier = identifier
        self._public_url = public_url
        self._client_address = client_address

    def page(self, template: str, status: int = 200) -> Response:
        """A page that needs to know nothing."""
        html = _TEMPLATES.get_template(template).render(signed_in=None, here="")
        return HTMLResponse(html, status, headers=SECURITY_HEADERS)

    def open(self, page: Page) -> Endpoint:
        """A page for everybody; its forms still come from this very site only."""

        async def endpoint(request: Request) -> Response:
            return await self._answer(page, self._visit(request))

        return endpoint

    def signed_in(self, page: Page) -> Endpoint:
        """A page that needs a session; without one, the way to sign in."""

        async def endpoint(request: Request) -> Response:
            visit = self._visit(request)
            token = request.cookies.get(_SECURE if visit.is_https else _PLAIN, "")
            identity = await self._identifier.resolve_session(token) if token else None
            if identity is None or isinstance(identity, Refusal):
                return RedirectResponse("/console/sign-in", 303, headers=SECURITY_HEADERS)
            await keep_alive(self._desk, token)
            visit._who = (Actor(identity.caller, identity.vault, visit.address), token)  # noqa: SLF001
            return await self._answer(page, visit)

        return endpoint

    def _visit(self, request: Request) -> Visit:
        address = self._client_address(request.scope, dict(request.scope["headers"]))
        return Visit(request, self._desk, self._identifier, self._public_url(request), address)

    async def _answer(self, page: Page, visit: Visit) -> Response:
        if visit.request.method == "POST" and not _is_same_origin(visit.request):
            return visit.page(
                "forbidden.html",
                403,
                problem="The form was sent from another site; nothing was done.",
            )
        try:
            return await page(visit)
        except ManageError as error:
            return visit.page("forbidden.html", 403, problem=error.detail)


def _is_same_origin(request: Request) -> bool:
    """Whether a form came from this very site, as far as the browser says."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    # "null" is what browsers send from a page whose referrer policy is no-referrer.
    return origin in (None, "null") or urlsplit(origin).netloc == request.headers.get("host")
