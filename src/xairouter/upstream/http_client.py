"""The driver of ``interface.Client``: connections kept by pool, provider key and origin.

A pool is an owner's; inside it each provider key has connections of its own, so that what a provider
sends too much can reach no other key's call. HTTP/1.1 without cookies, redirects, settings of the
environment or automatic replay; each address is checked in the moment of connecting.
"""

import asyncio
import socket
import ssl
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from aiohappyeyeballs import start_connection

from xairouter.errors import ErrorCode, UpstreamError
from xairouter.upstream.connection import TIMEOUT, UNREACHABLE, Connection
from xairouter.upstream.egress import Egress
from xairouter.upstream.interface import Limits, WireRequest
from xairouter.upstream.names import AddressInfo, Names, Threads, UnknownNameError
from xairouter.upstream.proxy import Proxy, TunnelError
from xairouter.upstream.reply import HttpReply
from xairouter.upstream.shortage import is_local_shortage

IDLE_SECONDS = 10.0
"""The longest that a connection is kept without a request."""
SWEEP_SECONDS = 2.5
EYEBALLS_SECONDS = 0.25
"""How long one address family may try alone, RFC 8305 §5."""
OVERLOADED = ErrorCode.OVERLOADED
_MOST_TARGETS = 4096
_LONGEST_TARGET = 1024
_WITH_BODY = ("POST", "PUT", "PATCH")
_Origin = tuple[str, int, bool]
"""Host, port, whether TLS."""
_Place = tuple[str, _Origin]
"""The provider key and the origin whose requests a connection serves."""


@dataclass(frozen=True, slots=True)
class _Target:
    """A URL without its query, taken apart: where to connect, and what the request says."""

    origin: _Origin
    path: str
    authority: str
    refused: str | None = None


@dataclass(slots=True)
class _Pool:
    """The names that an owner's calls know, and the idle connections."""

    names: Names
    free: dict[_Place, list[Connection]] = field(default_factory=dict)
    is_gone: bool = False


class HttpClient:
    """The client: pools of connections by owner, the least recently used let go."""

    MAX_POOLS = 512

    def __init__(self, egress: Egress, *, proxy: Proxy | None = None) -> None:
        self._egress = egress
        self._proxy = proxy
        self._tls: ssl.SSLContext | None = None
        self._threads = Threads()
        self._pools: OrderedDict[str, _Pool] = OrderedDict()
        self._targets: dict[str, _Target] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._open: set[Connection] = set()

    async def send(
        self, pool: str, request: WireRequest, limits: Limits, *, is_fresh: bool = False
    ) -> HttpReply:
        base, mark, query = request.url.partition("?")
        target = self._target(base)
        if target.refused is not None:
            raise UpstreamError(
                UNREACHABLE,
                f"The provider's address is not allowed: {target.refused}.",
                sent=False,
            )
        head = _head(request, target, mark + query)
        if head is None:
            raise UpstreamError(
                UNREACHABLE, "The request has characters that HTTP does not allow.", sent=False
            )
        of_owner = self._pool(pool)
        place = request.key_id, target.origin
        connection = None if is_fresh else _idle(of_owner, place)
        if connection is None:
            connection = await self._connect(of_owner, place, limits.connect)
        return await connection.exchange(head, request.body, limits.first_byte)

    async def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for connection in list(self._open):
            connection.abort()
        self._pools.clear()
        self._threads.close()
        # The transports close in the loop's next turn.
        await asyncio.sleep(0)

    def _target(self, base: str) -> _Target:
        """Taken apart once."""
        found = self._targets.get(base)
        if found is None:
            found = _take_apart(base, self._egress)
            if len(self._targets) >= _MOST_TARGETS:
                self._targets.clear()
            if len(base) <= _LONGEST_TARGET:
                self._targets[base] = found
        return found

    def _pool(self, name: str) -> _Pool:
        found = self._pools.get(name)
        if found is None:
            # A webhook has another pool than its owner's calls, and no threads of its own.
            owner = name.rpartition(":")[2]
            found = self._pools[name] = _Pool(Names(self._threads, owner))
            if len(self._pools) > self.MAX_POOLS:
                _, oldest = self._pools.popitem(last=False)
                _let_go(oldest)
        else:
            self._pools.move_to_end(name)
        return found

    async def _connect(self, pool: _Pool, place: _Place, seconds: float) -> Connection:
        """A new connection; raises UpstreamError, with no byte of a request sent."""
        failure, code, is_short = "", UNREACHABLE, False
        try:
            async with asyncio.timeout(seconds):
                return await self._open_connection(pool, place)
        except TimeoutError:
            failure, code = "The connection to the provider timed out.", TIMEOUT
        except ssl.SSLCertVerificationError:
            failure = "The provider's TLS certificate is not valid."
        except ssl.SSLError as error:
            failure, is_short = "No TLS connection to the provider.", is_local_shortage(error)
        except _AddressRefusedError:
            failure = "The provider's address is not allowed."
        except UnknownNameError as error:
            failure, is_short = "The provider's name does not resolve.", is_local_shortage(error)
        except TunnelError:
            failure = "The proxy opened no tunnel to the provider."
        except (OSError, RuntimeError, ValueError) as error:
            failure, is_short = "No connection to the provider.", is_local_shortage(error)
        if is_short:
            # Nothing that the provider has done.
            failure, code = "The router has no room for a further connection now.", OVERLOADED
        # Raised outside the block: no library's error, and nothing that it holds, goes along.
        raise UpstreamError(code, failure, sent=False)

    async def _open_connection(self, pool: _Pool, place: _Place) -> Connection:
        host, port, is_tls = place[1]
        # What is not encrypted is a private provider, which needs no way out.
        proxy = self._proxy if is_tls else None
        if proxy is not None:
            there = await pool.names.resolve(proxy.host, proxy.port)
        else:
            there = self._allowed(await pool.names.resolve(host, port))
        opened = await start_connection(
            there, happy_eyeballs_delay=EYEBALLS_SECONDS, loop=asyncio.get_running_loop()
        )
        connection: Connection | None = None
        try:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if proxy is not None:
                await proxy.open_tunnel(opened, host, port)
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(lambda freed: self._keep(pool, place, freed), self._open),
                sock=opened,
                ssl=self._tls_context() if is_tls else None,
                server_hostname=host if is_tls else None,
            )
        finally:
            if connection is None:
                opened.close()
        return connection

    def _allowed(self, found: Sequence[AddressInfo]) -> list[AddressInfo]:
        """The addresses that a provider may have; the very ones that are connected to next."""
        allowed = [
            info
            for info in found
            if self._egress.refuse_address(str(info[4][0]), int(info[4][1])) is None
        ]
        if not allowed:
            raise _AddressRefusedError
        return allowed

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    def _keep(self, pool: _Pool, place: _Place, freed: Connection) -> None:
        """A connection has served; it may serve its place again."""
        if pool.is_gone:
            freed.abort()
            return
        freed.free_since = time.monotonic()
        pool.free.setdefault(place, []).append(freed)
        if self._sweeping is None:
            loop = asyncio.get_running_loop()
            self._sweeping = loop.call_later(SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        """Close what would be idle for too long at the next sweep. The last one used is the first
        one used again, so those that a burst has left behind reach that age."""
        self._sweeping = None
        limit = time.monotonic() - IDLE_SECONDS + SWEEP_SECONDS
        are_left = False
        for pool in self._pools.values():
            for place, free in list(pool.free.items()):
                kept: list[Connection] = []
                for connection in free:
                    if connection.is_open and connection.free_since > limit:
                        kept.append(connection)
                    else:
                        connection.abort()
                if kept:
                    pool.free[place] = kept
                    are_left = True
                else:
                    del pool.free[place]
        if are_left:
            loop = asyncio.get_running_loop()
            self._sweeping = loop.call_later(SWEEP_SECONDS, self._sweep)


@asynccontextmanager
async def opened(egress: Egress) -> AsyncIterator[HttpClient]:
    """A client for a while."""
    client = HttpClient(egress)
    try:
        yield client
    finally:
        await client.close()


class _AddressRefusedError(Exception):
    """No address of the name is allowed."""


def _idle(pool: _Pool, place: _Place) -> Connection | None:
    """An idle connection that is fit to serve; those that are not are closed."""
    free = pool.free.get(place)
    limit = time.monotonic() - IDLE_SECONDS
    while free:
        connection = free.pop()
        if connection.free_since > limit and connection.is_clean():
            return connection
        connection.abort()
    return None


def _let_go(pool: _Pool) -> None:
    """Close what is idle; what is under way closes at its end."""
    pool.is_gone = True
    for free in pool.free.values():
        for connection in free:
            connection.abort()
    pool.free.clear()


def _take_apart(base: str, egress: Egress) -> _Target:
    refused = egress.refuse_url(base, may_escape=True)
    if refused is not None:
        return _Target(("", 0, False), "", "", refused)
    parts = urlsplit(base)
    is_tls = parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    return _Target((parts.hostname or "", port, is_tls), parts.path or "/", parts.netloc)


def _head(request: WireRequest, target: _Target, query: str) -> bytes | None:
    """The request's head; None if something in it would break out of its place."""
    lines = [*map(": ".join, request.headers), ""]
    text = "\r\n".join(lines)
    if (
        text.count("\r") != len(request.headers)
        or text.count("\n") != len(request.headers)
        or "\0" in text
        or not (query.isascii() and query.isprintable() and " " not in query)
    ):
        return None
    if request.body or request.method in _WITH_BODY:
        text += f"content-length: {len(request.body)}\r\n"
    head = (
        f"{request.method} {target.path}{query} HTTP/1.1\r\nhost: {target.authority}\r\n{text}\r\n"
    )
    try:
        return head.encode("latin-1")
    except UnicodeEncodeError:
        return None
