"""The way of a request: health and data plane here, the rest to the applications beside it."""

import hmac
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import msgspec

from xairouter.clock import fresh_id
from xairouter.dialects.paths import find
from xairouter.dialects.table import asking_dialect
from xairouter.domain.calls import Refusal
from xairouter.errors import ErrorCode
from xairouter.gateway.bodies import Begin, BodyBudget, Guarded, Receive, Scope, Send
from xairouter.gateway.browser import (
    PREFLIGHT,
    SAFE_HEADERS,
    App,
    ByHost,
    CrossOrigin,
    is_for_a_page,
    is_preflight,
)
from xairouter.gateway.link import LINK, Link
from xairouter.gateway.local import is_direct
from xairouter.gateway.models import answer_models
from xairouter.gateway.pipeline import Pipeline
from xairouter.gateway.talk import Talk, client_address
from xairouter.gateway.work import Parts
from xairouter.observe import Metrics, log
from xairouter.settings import Settings

Ready = Callable[[], tuple[bool, dict[str, Any]]]
_NO_PAGE = Refusal(
    ErrorCode.FORBIDDEN,
    "A reply is data for a program; a browser may not show it or run it as a page.",
)
_NO_ORIGIN = Refusal(ErrorCode.FORBIDDEN, "Scripts of this origin may not call the router.")
_CONSOLE = "/console/"


class Gateway:
    """The ASGI application of the process."""

    def __init__(
        self,
        parts: Parts,
        budget: BodyBudget,
        mounted: Mapping[str, Guarded],
        *,
        ready: Ready,
        metrics_token: str,
        cross_origin: CrossOrigin | None = None,
    ) -> None:
        self._pipeline = Pipeline(parts)
        self._parts = parts
        self._metrics: Metrics = parts.metrics
        self._budget = budget
        self._mounted = mounted
        self._ready = ready
        self._metrics_token = metrics_token
        self._cross_origin = cross_origin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        for prefix, app in self._mounted.items():
            if path.startswith(prefix):
                link: Link = scope.pop(LINK)
                await app(scope, receive, _marked(link), link)
                return
        talk = Talk(scope, receive, fresh_id("call"), self._budget)
        if b"upgrade" in talk.headers and talk.header(b"upgrade").lower() == "websocket":
            dialect = asking_dialect(path, talk.headers)
            await self._wait_for_turn(talk)
            talk.refuse(
                dialect,
                Refusal(
                    ErrorCode.UPGRADE_UNSUPPORTED,
                    "WebSockets are not supported here; use plain HTTP.",
                ),
            )
            return
        try:
            if path in _OWN:
                await self._wait_for_turn(talk, is_probe=True)
                await _OWN[path](self, talk)
            else:
                await self._find_way(talk, path)
        except Exception as error:  # noqa: BLE001 -- the outer edge of the data plane
            log.error("request_failed", call_id=talk.call_id, exc_info=error)
            if talk.has_started:
                talk.link.abort()
                return
            refusal = Refusal(
                ErrorCode.INTERNAL_ERROR, "The router failed while answering this request."
            )
            talk.refuse(asking_dialect(path, talk.headers), refusal)

    async def _find_way(self, talk: Talk, path: str) -> None:
        """To the pipeline, to the list of models, or nowhere."""
        if self._cross_origin is not None and self._is_preflight(talk, path, self._cross_origin):
            return
        if is_for_a_page(talk.headers):
            await self._wait_for_turn(talk)
            self._metrics.refused(ErrorCode.FORBIDDEN)
            talk.refuse(asking_dialect(path, talk.headers), _NO_PAGE)
            return
        match = find(talk.method, talk.path)
        if match is None:
            await self._wait_for_turn(talk)
            dialect = asking_dialect(path, talk.headers)
            self._metrics.refused(ErrorCode.UNKNOWN_PATH)
            talk.refuse(
                dialect,
                Refusal(
                    ErrorCode.UNKNOWN_PATH,
                    f"There is no operation {talk.method} {path[:200]} here.",
                ),
            )
        elif match.operation.dialect == "models":
            await answer_models(talk, match, self._parts)
        else:
            await self._pipeline.handle(talk, match)

    async def _wait_for_turn(self, talk: Talk, *, is_probe: bool = False) -> None:
        """Until a request without a credential may be answered; probes of health have a share of
        their own."""
        shares = self._parts.admission
        share = shares.probes if is_probe else shares.anonymous
        await share.turn(client_address(talk.scope, talk.headers, self._parts.trusted_proxies))

    def _is_preflight(self, talk: Talk, path: str, cross_origin: CrossOrigin) -> bool:
        """Let scripts of allowed origins read the reply; answer a preflight, which has no credential."""
        talk.cross_origin = cross_origin.headers_for(talk.headers)
        if not is_preflight(talk.method, talk.headers):
            return False
        if cross_origin.allows(talk.headers):
            talk.start(204, PREFLIGHT)
            talk.end()
        else:
            self._metrics.refused(ErrorCode.FORBIDDEN)
            talk.refuse(asking_dialect(path, talk.headers), _NO_ORIGIN)
        return True

    async def _root(self, talk: Talk) -> None:
        """Clients probe ``HEAD /``; a browser is sent to the console, where that is here."""
        if talk.method == "GET" and _CONSOLE in self._mounted:
            talk.answer(307, b"{}", [(b"location", _CONSOLE.encode())])
            return
        talk.answer(
            200, msgspec.json.encode({"name": "XAI Router", "openapi": "/api/v1/openapi.json"})
        )

    async def _healthz(self, talk: Talk) -> None:
        talk.answer(200, b'{"status":"alive"}')

    async def _readyz(self, talk: Talk) -> None:
        is_ready, state = self._ready()
        talk.answer(200 if is_ready else 503, msgspec.json.encode(state))

    async def _show_metrics(self, talk: Talk) -> None:
        """Prometheus text; for loopback without a proxy in between, or with the token."""
        token = talk.header(b"authorization").removeprefix("Bearer ")
        allowed = bool(self._metrics_token) and hmac.compare_digest(
            token.encode(), self._metrics_token.encode()
        )
        if not allowed:
            allowed = is_direct(talk.scope, talk.headers)
        if not allowed:
            talk.answer(403, b'{"error":"metrics are for loopback or the metrics token"}')
            return
        text = self._metrics.text()
        talk.start(
            200,
            [
                (b"content-type", b"text/plain; version=0.0.4; charset=utf-8"),
                (b"content-length", b"%d" % len(text)),
                (b"x-xairouter-origin", b"gateway"),
            ],
        )
        talk.end(text)


class ConsoleGateway(Gateway):
    """The same without the data plane: what answers at the console's own host."""

    async def _find_way(self, talk: Talk, path: str) -> None:
        self._metrics.refused(ErrorCode.UNKNOWN_PATH)
        talk.refuse(
            asking_dialect(path, talk.headers),
            Refusal(
                ErrorCode.UNKNOWN_PATH,
                "Calls are not answered at this host, which is the console's.",
            ),
        )


def application_of(
    settings: Settings,
    parts: Parts,
    budget: BodyBudget,
    mounted: Mapping[str, Guarded],
    ready: Ready,
) -> App:
    """What a server serves: one gateway, or two where the console has a host of its own."""
    common: dict[str, Any] = {"ready": ready, "metrics_token": settings.metrics_token}
    origins = settings.allowed_origins
    cross_origin = CrossOrigin(origins) if origins else None
    if not settings.console_host:
        return Gateway(parts, budget, mounted, cross_origin=cross_origin, **common)
    calls = Gateway(parts, budget, {}, cross_origin=cross_origin, **common)
    console = ConsoleGateway(parts, budget, mounted, **common)
    return ByHost(settings.console_host, console, calls)


def begins(parts: Parts) -> Begin:
    """Waits for the turns of requests beside the data plane."""

    async def begin(scope: Scope, sender: str) -> None:
        if sender:
            await parts.admission.turn(sender)
        else:
            headers = dict(scope["headers"])
            address = client_address(scope, headers, parts.trusted_proxies)
            await parts.admission.anonymous.turn(address)

    return begin


def _marked(link: Link) -> Send:
    """A ``send`` that adds the headers which every reply of ours carries."""

    async def marked(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            names = {name for name, _ in message["headers"]}
            added = [header for header in SAFE_HEADERS if header[0] not in names]
            if b"x-xairouter-call-id" not in names:
                call_id = fresh_id("call").encode()
                added += (
                    (b"x-xairouter-call-id", call_id),
                    (b"x-request-id", call_id),
                    (b"x-xairouter-origin", b"gateway"),
                )
            message["headers"] = [*message["headers"], *added]
        await link.send(message)

    return marked


_OWN: dict[str, Callable[[Gateway, Talk], Awaitable[None]]] = {
    "/": Gateway._root,  # noqa: SLF001 -- the table belongs to the class
    "/healthz": Gateway._healthz,  # noqa: SLF001
    "/readyz": Gateway._readyz,  # noqa: SLF001
    "/metrics": Gateway._show_metrics,  # noqa: SLF001
}
