"""The client's side of one call: what was asked, and how to answer. ``closes`` has the reply be the
last one on its connection."""

import asyncio
import ipaddress
import zlib
from collections.abc import Iterable

from xairouter.dialects.inflate import MOST_TIMES, Inflater, TooDenseError, unfold
from xairouter.dialects.interface import Dialect
from xairouter.domain.calls import Refusal
from xairouter.errors import ERRORS, ErrorCode
from xairouter.gateway.bodies import LATE, TOO_MANY, Arrival, BodyBudget, BodyTimes, Receive, Scope
from xairouter.gateway.link import LINK, Link

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


MOST_PROXIES = 32
"""Addresses of X-Forwarded-For that are looked at, from its end."""
CLOSES = ((b"connection", b"close"),)


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """A repeated header counts as its values joined, as RFC 9110 §5.3 has it."""
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        found.setdefault(name, []).append(value)
    return {name: b", ".join(values) for name, values in found.items()}


class Talk:
    """One request and its answer. ``has_started`` and ``status`` say what the client got so far."""

    __slots__ = (
        "_budget",
        "_is_read",
        "_owner_id",
        "_receive",
        "_taken",
        "call_id",
        "closes",
        "cross_origin",
        "has_started",
        "headers",
        "limits",
        "link",
        "method",
        "path",
        "query",
        "receipt",
        "scope",
        "status",
    )

    def __init__(self, scope: Scope, receive: Receive, call_id: str, budget: BodyBudget) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.path: bytes = scope.get("raw_path") or scope["path"].encode()
        self.query: bytes = scope.get("query_string", b"")
        sent: list[tuple[bytes, bytes]] = scope["headers"]
        self.headers: dict[bytes, bytes] = dict(sent)
        if len(self.headers) != len(sent):
            self.headers = _joined(sent)
        # Taken out: a scope that holds its own link would be garbage that only the collector finds.
        self.link: Link = scope.pop(LINK)
        self.call_id = call_id
        self.status: int | None = None
        self.has_started = False
        self.closes = False
        self.cross_origin: tuple[tuple[bytes, bytes], ...] = ()
        self.receipt: list[tuple[bytes, bytes]] = []
        self.limits: list[tuple[bytes, bytes]] = []
        self._receive = receive
        self._budget = budget
        self._taken = 0
        self._owner_id = ""
        self._is_read = False

    def header(self, name: bytes) -> str:
        """A request header as text, "" if absent."""
        return self.headers.get(name, b"").decode("latin-1")

    async def read_body(self, owner_id: str, most: int, times: BodyTimes) -> bytes | Refusal:
        """The whole body, decompressed; raises ClientGoneError if it ends early.

        Its bytes count for the owner against the budget until ``release``.
        """
        encoding = self.header(b"content-encoding").strip().lower()
        if encoding not in ("", "identity", "gzip"):
            return Refusal(ErrorCode.INVALID_REQUEST, "The body's encoding must be gzip or none.")
        declared = self.header(b"content-length")
        if declared.isdigit() and int(declared) > most:
            return Refusal(ErrorCode.BODY_TOO_LARGE, f"The body is larger than {most} bytes.")
        self._owner_id = owner_id
        inflater = Inflater() if encoding == "gzip" else None
        parts: list[bytes] = []
        if self.link.is_whole and not self._is_read:
            self._is_read = True
            refusal = await self._keep(self.link.take_body(), inflater, parts, most)
        else:
            refusal = await self._read_on(Arrival(self._receive, times), inflater, parts, most)
        if refusal is not None:
            return refusal
        if inflater is not None and parts and not inflater.is_whole:
            return Refusal(ErrorCode.INVALID_REQUEST, "The body's gzip data is cut off.")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _read_on(
        self, arrival: Arrival, inflater: Inflater | None, parts: list[bytes], most: int
    ) -> Refusal | None:
        """Read a body that is not whole yet to its end."""
        self.link.widen()
        while not self._is_read:
            piece = await arrival.next()
            if piece is None:
                return LATE
            data, more = piece
            refusal = await self._keep(data, inflater, parts, most)
            if refusal is not None:
                return refusal
            self._is_read = not more
        return None

    async def _keep(
        self, chunk: bytes, inflater: Inflater | None, parts: list[bytes], most: int
    ) -> Refusal | None:
        """Add the next bytes of the body to its parts, unfolded and counted."""
        try:
            for piece in (chunk,) if inflater is None else unfold(inflater, chunk):
                if self._taken + len(piece) > most:
                    return Refusal(
                        ErrorCode.BODY_TOO_LARGE, f"The body is larger than {most} bytes."
                    )
                if not self._budget.take(self._owner_id, len(piece)):
                    return TOO_MANY
                self._taken += len(piece)
                parts.append(piece)
                if inflater is not None:
                    await asyncio.sleep(0)  # A few bytes may unfold into many blocks.
        except TooDenseError:
            return Refusal(
                ErrorCode.BODY_TOO_LARGE,
                f"The body's gzip data unfolds to more than {MOST_TIMES} times its size.",
            )
        except zlib.error:
            return Refusal(ErrorCode.INVALID_REQUEST, "The body is not valid gzip.")
        if inflater is not None and inflater.has_rest:
            return Refusal(ErrorCode.INVALID_REQUEST, "The body goes on behind its gzip end.")
        return None

    def release(self) -> None:
        """The body is needed no more."""
        self._budget.give_back(self._owner_id, self._taken)
        self._taken = 0

    def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Send the reply's head, with the headers that every reply carries."""
        call_id = self.call_id.encode()
        self.link.start(
            status,
            (
                *headers,
                (b"x-xairouter-call-id", call_id),
                (b"x-request-id", call_id),
                *self.receipt,
                *self.limits,
                *self.cross_origin,
                *(CLOSES if self.closes else ()),
            ),
        )
        self.status = status
        self.has_started = True

    def end(self, data: bytes = b"") -> None:
        """Send the last piece of the body."""
        self.link.write(data)
        self.link.end()

    def answer(self, status: int, body: bytes, extra: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """A whole JSON reply of our own."""
        self.start(
            status,
            [
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(body)),
                (b"x-xairouter-origin", b"gateway"),
                *extra,
            ],
        )
        self.end(body)

    def refuse(self, dialect: Dialect, refusal: Refusal) -> None:
        """Our “no” in the client's dialect."""
        row = ERRORS[refusal.code]
        extra = [(b"x-xairouter-error", refusal.code.encode())]
        if not row.retry_helps or (row.status == 429 and refusal.retry_after is None):
            extra.append((b"x-should-retry", b"false"))
        if refusal.retry_after is not None:
            extra.append((b"retry-after", b"%d" % max(1, refusal.retry_after)))
        if not self._is_read and self.method == "POST":
            # The rest of the body is not awaited, so the connection cannot serve another request.
            self.closes = True
        self.answer(row.status, dialect.refuse(row, refusal, self.call_id), extra)


def client_address(scope: Scope, headers: dict[bytes, bytes], trusted: tuple[Network, ...]) -> str:
    """The client's IP address: the peer, or, where the peer is a trusted proxy, the last address
    in X-Forwarded-For that is not one."""
    peer = scope["client"][0] if scope.get("client") else ""
    if not trusted or not _is_trusted(peer, trusted):
        return str(peer)
    forwarded = headers.get(b"x-forwarded-for", b"").decode("latin-1")
    for part in reversed(forwarded.rsplit(",", MOST_PROXIES)[-MOST_PROXIES:]):
        address = part.strip()
        try:
            ipaddress.ip_address(address)
        except ValueError:
            break
        if not _is_trusted(address, trusted):
            return address
        peer = address
    return str(peer)


def _is_trusted(address: str, trusted: tuple[Network, ...]) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in trusted)
