"""The stand-in's listener: HTTP/1.1 by hand, a record of every request, replies and faults."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import httptools
import msgspec

from xairouter.standin import replies
from xairouter.standin.faults import FAULTS, Reply, Wire

_GEMINI = re.compile(r"/(?:v1|v1beta)/models/(.+):(\w+)\Z")
_PREFIXES = ("/v1beta/openai", "/anthropic/v1", "/openai/v1", "/v1")
_STORED = re.compile(r"/responses/([\w-]+)(?:/(cancel|input_items))?\Z")
NOISE = (
    ("set-cookie", "standin=1; Path=/"),
    ("openai-organization", "org-standin"),
    ("x-ratelimit-remaining-requests", "41"),
    ("cf-ray", "standin"),
    ("alt-svc", 'h3=":443"'),
)
"""Headers that real providers send and that must not reach clients."""


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came in."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes = field(repr=False)

    @property
    def secret(self) -> str:
        """The credential, whichever header carried it."""
        for name in ("x-api-key", "x-goog-api-key", "api-key"):
            if name in self.headers:
                return self.headers[name]
        return self.headers.get("authorization", "").removeprefix("Bearer ")

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class _Parsed:
    """Callbacks of the request parser."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.is_complete = False
        self.wants_continue = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.is_complete = True


class StandIn:
    """A provider in this process. ``requests`` holds what it received, in order.

    ``rejected`` lists secrets it answers with 401 and a quote of the key; ``required`` the only
    ones it accepts (empty: any, none too). ``failing`` maps a secret to the fault it always meets;
    ``scripted``, if set, is what every call is answered; ``documents`` maps the end of a path to
    what a GET of it shows.
    """

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.rejected: set[str] = set()
        self.required: set[str] = set()
        self.failing: dict[str, str] = {}
        self.scripted: Reply | None = None
        self.documents: dict[str, dict[str, Any]] = {}
        self.connections = 0
        self._stored: dict[str, tuple[str, dict[str, Any]]] = {}
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen; returns the port."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=1 << 20)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in list(self._writers):
                writer.transport.abort()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        wire = Wire(writer)
        try:
            while (received := await _read(reader)) is not None:
                if not received.path.startswith("/_standin"):
                    self.requests.append(received)
                await self._answer(wire, received)
                if writer.is_closing():
                    break
        except (ConnectionError, httptools.HttpParserError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, wire: Wire, received: Received) -> None:
        if self.scripted is not None:
            await wire.send(self.scripted)
            return
        secret = received.secret
        fault = self.failing.get(secret)
        if fault is None and (
            secret in self.rejected or (self.required and secret not in self.required)
        ):
            fault = "fault-401"
        if fault is None:
            fault = self._named_fault(received)
        reply = self._reply(received)
        reply = Reply(
            reply.status,
            (*reply.headers, *NOISE, ("x-request-id", "req-standin")),
            reply.body,
            reply.events,
            reply.pause,
        )
        if fault in FAULTS:
            await FAULTS[fault](wire, reply, secret)
        else:
            await wire.send(reply)

    def _named_fault(self, received: Received) -> str | None:
        gemini = _GEMINI.match(received.path)
        if gemini:
            return gemini.group(1)
        found = re.search(rb'"model"\s*:\s*"(fault-[\w-]+)"', received.body)
        return found.group(1).decode() if found else None

    def _reply(self, received: Received) -> Reply:
        number = len(self.requests)
        gemini = _GEMINI.match(received.path)
        if received.path == "/_standin/requests":
            return self._show()
        if gemini and received.method == "POST":
            body = {**received.json(), "model": gemini.group(1)}
            verb = gemini.group(2)
            if verb == "countTokens":
                return replies.gemini_count(body, number)
            if verb in ("embedContent", "batchEmbedContents"):
                return replies.gemini_embed(body, number)
            return replies.gemini(
                body, number, stream=verb.startswith("stream"), sse="alt=sse" in received.query
            )
        if received.path.startswith("/v1beta/models"):
            return replies.models_gemini()
        path = received.path
        for prefix in _PREFIXES:
            if path.startswith(prefix + "/"):
                path = path.removeprefix(prefix)
                break
        if received.method == "GET" and path in self.documents:
            return replies.whole(self.documents[path])
        if path in ("/models", "/models/user"):
            anthropic = "anthropic-version" in received.headers
            return replies.models_anthropic() if anthropic else replies.models_openai()
        stored = _STORED.match(path)
        if stored and (received.method != "POST" or stored.group(2)):
            return self._stored_reply(received, stored.group(1), stored.group(2))
        answer = replies.POSTS.get(path)
        if answer is None or received.method != "POST":
            return replies.whole({"error": {"message": f"no such path {path}"}}, 404)
        reply = answer(received.json(), number)
        if path == "/responses":
            asked = {**received.json(), "stream": False, "background": False}
            document = replies.responses(asked, number)
            kept = msgspec.json.decode(document.body)
            self._stored[kept["id"]] = (received.secret, kept)
        return reply

    def _stored_reply(self, received: Received, response_id: str, verb: str | None) -> Reply:
        """Stored responses belong to the key that made them, as at the real provider."""
        secret, document = self._stored.get(response_id, ("", {}))
        if not document or secret != received.secret:
            return replies.whole(
                {"error": {"message": f"{response_id} not found", "type": "invalid_request_error"}},
                404,
            )
        if received.method == "DELETE":
            del self._stored[response_id]
            return replies.whole({"id": response_id, "object": "response", "deleted": True})
        if verb == "input_items":
            return replies.whole(
                {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
            )
        if "stream=true" in received.query:
            return replies.response_events(document)
        return replies.whole({**document, "status": "cancelled"} if verb else document)

    def _show(self) -> Reply:
        """What was received, for people: credentials included, this is a stand-in."""
        return replies.whole(
            {
                "requests": [
                    {
                        "method": r.method,
                        "path": r.path,
                        "query": r.query,
                        "secret": r.secret,
                        "body": r.body.decode("utf-8", "replace"),
                    }
                    for r in self.requests
                ]
            }
        )


async def _read(reader: asyncio.StreamReader) -> Received | None:
    """The next request of a connection, None at its end."""
    parsed = _Parsed()
    parser = httptools.HttpRequestParser(parsed)
    while not parsed.is_complete:
        data = await reader.read(65_536)
        if not data:
            return None
        parser.feed_data(data)
    url = httptools.parse_url(parsed.url)
    return Received(
        parser.get_method().decode(),
        unquote(url.path.decode()),
        (url.query or b"").decode(),
        parsed.headers,
        bytes(parsed.body),
    )


async def run_standin(host: str, port: int, listening: Callable[[int], None]) -> None:
    """Serve until cancelled; ``listening`` is told the port."""
    standin = StandIn()
    listening(await standin.start(host, port))
    try:
        await asyncio.Event().wait()
    finally:
        await standin.stop()
