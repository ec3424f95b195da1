"""The way of a request: health and data plane here, the rest to the applications beside it."""

import hmac
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import msgspec

from xairouter.clock import fresh_id
from xairouter.dialects.paths import find
from xairouter.dialects.table import asking_dialect
from xairouter.directory.identity import Identifier
from xairouter.domain.calls import Refusal
from xairouter.gateway.models import answer_models
from xairouter.gateway.pipeline import Pipeline
from xairouter.gateway.talk import CLOSES, BodyBudget, Receive, Scope, Send, Talk
from xairouter.gateway.work import Parts
from xairouter.observe import Metrics, log

App = Callable[[Scope, Receive, Send], Awaitable[None]]
Ready = Callable[[], tuple[bool, dict[str, Any]]]


class Gateway:
    """The ASGI application of the process."""

    def __init__(
        self,
        parts: Parts,
        budget: BodyBudget,
        mounted: Mapping[str, App],
        *,
        ready: Ready,
        metrics_token: str,
    ) -> None:
        self._pipeline = Pipeline(parts)
        self._running = parts.running
        self._identifier: Identifier = parts.identifier
        self._trusted = parts.trusted_proxies
        self._metrics: Metrics = parts.metrics
        self._budget = budget
        self._mounted = mounted
        self._ready = ready
        self._metrics_token = metrics_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        for prefix, app in self._mounted.items():
            if path.startswith(prefix):
                await app(scope, receive, _marked(send, closes=self._running.is_leaving))
                return
        talk = Talk(scope, receive, fresh_id("call"), self._budget)
        # Who keeps connections open is to open the next one elsewhere.
        talk.closes = self._running.is_leaving
        if b"upgrade" in talk.headers and talk.header(b"upgrade").lower() == "websocket":
            dialect = asking_dialect(path, talk.headers)
            talk.refuse(
                dialect,
                Refusal(
                    "upgrade_unsupported", "WebSockets are not supported here; use plain HTTP."
                ),
            )
            return
        if path in _OWN:
            await _OWN[path](self, talk)
            return
        try:
            await self._find_way(talk, path)
        except Exception as error:  # noqa: BLE001 -- the outer edge of the data plane
            log.error("request_failed", call_id=talk.call_id, exc_info=error)
            if talk.has_started:
                talk.link.abort()
                return
            refusal = Refusal("internal_error", "The router failed while answering this request.")
            talk.refuse(asking_dialect(path, talk.headers), refusal)

    async def _find_way(self, talk: Talk, path: str) -> None:
        """To the pipeline, to the list of models, or nowhere."""
        match = find(talk.method, talk.path)
        if match is None:
            dialect = asking_dialect(path, talk.headers)
            self._metrics.refusals.labels("unknown_path").inc()
            talk.refuse(
                dialect,
                Refusal("unknown_path", f"There is no operation {talk.method} {path[:200]} here."),
            )
        elif match.operation.dialect == "models":
            await answer_models(talk, match, self._identifier, self._trusted)
        else:
            await self._pipeline.handle(talk, match)

    async def _root(self, talk: Talk) -> None:
        """Clients probe ``HEAD /``; a browser gets a word of where it is."""
        talk.answer(
            200, msgspec.json.encode({"name": "XAI Router", "openapi": "/api/v1/openapi.json"})
        )

    async def _healthz(self, talk: Talk) -> None:
        talk.answer(200, b'{"status":"alive"}')

    async def _readyz(self, talk: Talk) -> None:
        is_ready, state = self._ready()
        talk.answer(200 if is_ready else 503, msgspec.json.encode(state))

    async def _show_metrics(self, talk: Talk) -> None:
        """Prometheus text; for loopback without forwarding headers, or with the token."""
        token = talk.header(b"authorization").removeprefix("Bearer ")
        allowed = bool(self._metrics_token) and hmac.compare_digest(
            token.encode(), self._metrics_token.encode()
        )
        if not allowed:
            peer = talk.scope["client"][0] if talk.scope.get("client") else ""
            direct = not any(
                name in talk.headers for name in (b"x-forwarded-for", b"forwarded", b"x-real-ip")
            )
            allowed = direct and peer in ("127.0.0.1", "::1")
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


def _marked(send: Send, *, closes: bool) -> Send:
    """A ``send`` that adds the headers which every reply of ours carries."""

    async def marked(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            names = {name for name, _ in message["headers"]}
            if b"x-xairouter-call-id" not in names:
                call_id = fresh_id("call").encode()
                message["headers"] = [
                    *message["headers"],
                    (b"x-xairouter-call-id", call_id),
                    (b"x-request-id", call_id),
                    (b"x-xairouter-origin", b"gateway"),
                    *(CLOSES if closes else ()),
                ]
        await send(message)

    return marked


_OWN: dict[str, Callable[[Gateway, Talk], Awaitable[None]]] = {
    "/": Gateway._root,  # noqa: SLF001 -- the table belongs to the class
    "/healthz": Gateway._healthz,  # noqa: SLF001
    "/readyz": Gateway._readyz,  # noqa: SLF001
    "/metrics": Gateway._show_metrics,  # noqa: SLF001
}
