"""One visit to a page: whose session it is, what may be sent, and the headers of every answer."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from xairouter import __version__
from xairouter.clock import now_ms
from xairouter.console.navigation import rooms_of
from xairouter.console.origin import Addresses, is_same_origin, page_headers
from xairouter.console.show import Show
from xairouter.console.words import Words, words_for
from xairouter.custody.intake import Intake, read_form
from xairouter.directory.identity import Identifier
from xairouter.domain.accounts import OwnerSettings
from xairouter.domain.calls import Refusal
from xairouter.domain.permissions import Permission
from xairouter.errors import ERRORS, ErrorCode, ManageError
from xairouter.manage import notices
from xairouter.manage.desk import Actor, Desk, StaleVaultError
from xairouter.manage.operators import PLAIN_COOKIE, SECURE_COOKIE, is_operator
from xairouter.manage.permissions import reach_of, role_of
from xairouter.manage.sessions import keep_alive, open_session
from xairouter.policy.decide import enter

HERE = Path(__file__).parent
T = TypeVar("T")
_MOST_BODY = 256 * 1024
_TRIES = 10
_SECURE, _PLAIN = "__Host-xairouter", "xairouter"
BOOSTED = Markup(
    'hx-boost="true" hx-target="#main" hx-select="#main" hx-select-oob="#trail" '
    'hx-swap="outerHTML show:window:top"'
)
"""What makes a form send itself by script, so that a server that is away takes nothing typed."""
RAIL_COOKIE, RAILS = "xairouter-rail", ("words", "icons")
THEME_COOKIE, THEMES = "xairouter-theme", ("auto", "light", "dark")
SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
        "font-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; "
        "base-uri 'none'"
    ),
    "x-frame-options": "DENY",
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
    """A request to a page, with what the page needs. ``url`` is the console's own address,
    ``calls_url`` the one that clients call."""

    request: Request
    desk: Desk
    identifier: Identifier
    url: str
    calls_url: str
    address: str
    words: Words
    settings: OwnerSettings = field(default_factory=OwnerSettings)
    is_operator: bool = False
    is_ending: Callable[[], bool] = bool
    _who: tuple[Actor, str] | None = field(default=None, repr=False)

    @property
    def who(self) -> tuple[Actor, str]:
        """The signed-in actor and the session's token; only on pages that ask for a session."""
        assert self._who is not None
        return self._who

    @property
    def actor(self) -> Actor:
        return self.who[0]

    def admit(self, who: tuple[Actor, str], settings: OwnerSettings) -> None:
        """This visit is a session's."""
        self._who, self.settings = who, settings

    def may(self, verb: Permission) -> bool:
        """Whether the signed-in key may do a verb; what it may not is not shown."""
        return reach_of(self.actor.caller, verb) is not None

    @property
    def query(self) -> Mapping[str, str]:
        return self.request.query_params

    @property
    def path(self) -> str:
        return self.request.url.path

    @property
    def is_https(self) -> bool:
        return self.url.startswith("https://")

    @property
    def is_fragment(self) -> bool:
        """Whether a script asks for the part of a page that changes."""
        headers = self.request.headers
        return "hx-request" in headers and "hx-boosted" not in headers

    @property
    def can_sign_in(self) -> bool:
        """Sessions need HTTPS, but on loopback, where nobody listens in between."""
        peer = self.request.client.host if self.request.client else ""
        try:
            return self.is_https or ip_address(peer).is_loopback
        except ValueError:
            return False

    @property
    def show(self) -> Show:
        settings = self.settings
        return Show(
            self.words, ZoneInfo(settings.time_zone), settings.currency, settings.currency_per_usd
        )

    async def page(self, template: str, status: int = 200, **values: Any) -> Response:
        """A rendered page with its frame; ``api`` may name the request that shows the same."""
        waiting = 0
        if self._who is not None and self.may(Permission.NOTICES_READ):
            waiting = await notices.count_notices(self.desk, self.actor)
        return self.render(template, status, waiting=waiting, **values)

    def render(self, template: str, status: int = 200, **values: Any) -> Response:
        """A rendered template, a page's or only a part of one."""
        caller = self._who[0].caller if self._who else None
        theme = self.request.cookies.get(THEME_COOKIE, "auto")
        done = self.query.get("done", "")
        given = {
            "t": self.words,
            "show": self.show,
            "lang": self.words.language,
            "theme": theme if theme in THEMES else "auto",
            "rail": self.request.cookies.get(RAIL_COOKIE, ""),
            "here": self.path,
            "url": self.url,
            "calls_url": self.calls_url,
            "signed_in": caller.account if caller else None,
            "role": role_of(caller) if caller else None,
            "is_operator": self.is_operator,
            "rooms": rooms_of(self.may) if caller else (),
            "may": self.may,
            "done": done if self.words.has(f"done.{done}") else "",
            "waiting": 0,
            "api": "",
            "trail": (),
            "now": now_ms(),
            "version": __version__,
            "boosted": BOOSTED,
            **values,
        }
        html = _TEMPLATES.get_template(template).render(given)
        headers = page_headers(SECURITY_HEADERS, self.url, self.calls_url)
        return HTMLResponse(html, status, headers=headers)

    async def problem(self, error: ManageError) -> Response:
        """A page that says what was refused and why."""
        return await self.page("problem.html", status_of(error), error=error)

    def see(self, path: str, done: str = "") -> Response:
        """On to another page, which says what was done (a key of ``done`` in the words)."""
        if done:
            path += ("&" if "?" in path else "?") + f"done={quote(done)}"
        return RedirectResponse(path, 303, headers=SECURITY_HEADERS)

    async def body(self) -> bytes:
        """A form's body, unparsed; raises ManageError if it is too large."""
        parts, size = [], 0
        async for chunk in self.request.stream():
            size += len(chunk)
            if size > _MOST_BODY:
                raise ManageError(ErrorCode.BODY_TOO_LARGE, "The form is too large.")
            parts.append(chunk)
        return b"".join(parts)

    async def intake(self) -> Intake:
        """A form that may carry a provider's secret."""
        return read_form(await self.body())

    async def form(self) -> dict[str, str]:
        """A form's fields, all of them text, without white space around."""
        fields = (await self.intake()).fields
        return {name: str(value).strip() for name, value in fields.items()}

    async def do(self, act: Callable[[Actor], Awaitable[T]]) -> T:
        """Do a verb; where the vault has moved meanwhile, open it anew with the session and
        repeat, a few times at most."""
        actor, token = self.who
        for _ in range(_TRIES):
            try:
                return await act(actor)
            except StaleVaultError:
                self.desk.directory.drop(actor.owner_id)
            identity = await self.identifier.resolve_session(token)
            if isinstance(identity, Refusal):
                raise ManageError(identity.code, identity.message)
            actor = Actor(identity.caller, identity.vault, self.address)
            self._who = (actor, token)
        raise ManageError(ErrorCode.CONFLICT, "The vault was changed at the same time; repeat.")

    async def sign_in(self, response: Response, api_key: str) -> bool:
        """Open a session with an XAI API key and put it into the response's cookie."""
        identity = await self.identifier.resolve({b"authorization": api_key.encode()}, b"")
        if isinstance(identity, Refusal):
            return False
        if enter(identity.caller, now_ms(), self.address, None) is not None:
            return False
        actor = Actor(identity.caller, identity.vault, self.address)
        token = await open_session(self.desk, actor)
        self.set_cookie(response, self._cookie_name, token)
        return True

    @property
    def _cookie_name(self) -> str:
        return _SECURE if self.is_https else _PLAIN

    @property
    def token(self) -> str:
        """The session's token as it came, checked by nobody yet."""
        return self.request.cookies.get(self._cookie_name, "")

    @property
    def operator_token(self) -> str:
        """The operator's session token as it came, checked by nobody yet."""
        return self.request.cookies.get(SECURE_COOKIE if self.is_https else PLAIN_COOKIE, "")

    def set_operator_cookie(self, response: Response, session: str) -> None:
        self.set_cookie(response, SECURE_COOKIE if self.is_https else PLAIN_COOKIE, session)

    def set_cookie(
        self, response: Response, name: str, value: str, *, path: str = "/", days: int | None = None
    ) -> None:
        """A cookie that no script reads and no other site sends; without ``days`` it goes with the
        browser."""
        response.set_cookie(
            name,
            value,
            path=path,
            max_age=None if days is None else days * 86_400,
            secure=self.is_https,
            httponly=True,
            samesite="strict",
        )

    def forget_cookie(self, response: Response) -> None:
        """Forget whichever session this browser has."""
        for name in (_SECURE, _PLAIN, SECURE_COOKIE, PLAIN_COOKIE):
            secure = name in (_SECURE, SECURE_COOKIE)
            response.delete_cookie(name, path="/", secure=secure, httponly=True)


def status_of(error: ManageError) -> int:
    """The HTTP status of a refused verb; a rejected provider key is a bad value here."""
    return 422 if error.code == ErrorCode.PROVIDER_KEY_REJECTED else ERRORS[error.code].status


class Visits:
    """Makes visits of requests; wraps pages into endpoints."""

    def __init__(
        self,
        desk: Desk,
        identifier: Identifier,
        addresses: Addresses,
        client_address: Callable[[Any, dict[bytes, bytes]], str],
        is_ending: Callable[[], bool],
    ) -> None:
        self._is_ending = is_ending
        self._desk = desk
        self._identifier = identifier
        self._addresses = addresses
        self._client_address = client_address

    def open(self, page: Page) -> Endpoint:
        """A page for everybody; its forms still come from this very site only."""

        async def endpoint(request: Request) -> Response:
            return await self._answer(page, self.visit(request))

        return endpoint

    def signed_in(self, page: Page) -> Endpoint:
        """A page that needs a session; without one, the way to sign in, and back from there."""

        async def endpoint(request: Request) -> Response:
            visit = self.visit(request)
            if not await self.enter(visit):
                return _to_sign_in(visit)
            return await self._answer(page, visit)

        return endpoint

    def operator(self, page: Page) -> Endpoint:
        """A page that needs the operator's session, which only a link of the command line opens."""

        async def endpoint(request: Request) -> Response:
            visit = self.visit(request)
            if not await is_operator(self._desk.database, visit.operator_token):
                return visit.render("operator_closed.html", 401)
            visit.is_operator = True
            return await self._answer(page, visit)

        return endpoint

    async def enter(self, visit: Visit) -> bool:
        """Let a visit in by its session's cookie; False if there is none that holds, or if its
        account may not be used from this address."""
        token = visit.token
        identity = await self._identifier.resolve_session(token) if token else None
        if identity is None or isinstance(identity, Refusal):
            return False
        if enter(identity.caller, now_ms(), visit.address, None) is not None:
            return False
        # What a page asks for by itself while nobody is there keeps no session alive.
        by_itself = visit.is_fragment or visit.path == "/console/live"
        if visit.request.method != "GET" or not by_itself:
            await keep_alive(self._desk, token)
        actor = Actor(identity.caller, identity.vault, visit.address)
        visit.admit((actor, token), identity.view.settings)
        return True

    async def sender(self, scope: Any) -> str:
        """Whose a request is, by its head alone: the owner's of its session, the operator's, or ""."""
        visit = self.visit(Request(scope))
        token = visit.token
        identity = await self._identifier.resolve_session(token) if token else None
        if identity is not None and not isinstance(identity, Refusal):
            return identity.caller.owner_id
        known = await is_operator(self._desk.database, visit.operator_token)
        return "operator" if known else ""

    async def refuse(self, scope: Any, receive: Any, send: Any, refusal: Refusal) -> None:
        """Answer a request whose body is not read."""
        visit = self.visit(Request(scope))
        response = await visit.problem(ManageError(refusal.code, refusal.message))
        await response(scope, receive, send)

    def visit(self, request: Request) -> Visit:
        """A visit by nobody yet."""
        headers = dict(request.scope["headers"])
        address = self._client_address(request.scope, headers)
        words = words_for(request.headers.get("accept-language", ""))
        return Visit(
            request,
            self._desk,
            self._identifier,
            self._addresses.console(request),
            self._addresses.calls(request),
            address,
            words,
            is_ending=self._is_ending,
        )

    async def _answer(self, page: Page, visit: Visit) -> Response:
        if visit.request.method == "POST" and not is_same_origin(visit.request):
            words = visit.words("problem.other_site")
            return await visit.problem(ManageError(ErrorCode.FORBIDDEN, str(words)))
        try:
            return await page(visit)
        except ManageError as error:
            return await visit.problem(error)


def _to_sign_in(visit: Visit) -> Response:
    """To the sign-in page; a script is told, so that what was typed stays where it is."""
    if "hx-request" in visit.request.headers:
        return Response(status_code=401, headers=SECURITY_HEADERS)
    path = "/console/sign-in"
    if visit.request.method == "GET" and visit.path != "/console/":
        query = visit.request.url.query
        path += "?to=" + quote(visit.path + (f"?{query}" if query else ""), safe="")
    return RedirectResponse(path, 303, headers=SECURITY_HEADERS)
