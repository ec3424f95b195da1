"""The aiohttp driver of ``interface.Client``.

One session per pool (an owner), so that no connection ever serves two owners. HTTP/1.1, no
cookies, no environment proxies, no redirects, no automatic replay; each socket's address is
checked in the moment of connecting.
"""

import asyncio
import socket
import ssl
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractResolver, AbstractStreamWriter, ResolveResult
from aiohttp.payload import Payload
from yarl import URL

from xairouter.errors import ErrorCode, UpstreamError
from xairouter.upstream.egress import Egress
from xairouter.upstream.interface import Headers, Limits, WireRequest

_WRITE_BLOCK = 64 * 1024
_READ_BUFFER = 64 * 1024
_IDLE_SECONDS = 30
_UNREACHABLE, _TIMEOUT = ErrorCode.UPSTREAM_UNREACHABLE, ErrorCode.UPSTREAM_TIMEOUT


class _AddressRefusedError(OSError):
    """Raised by the socket factory; the connector reports it as a failed connection."""


class _Body(Payload):
    """A request body written in blocks, so that a large one does not hold up the loop."""

    _default_content_type = "application/json"

    def __init__(self, value: bytes) -> None:
        super().__init__(value)
        self._size = len(value)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("A request body is not shown.")

    async def write(self, writer: AbstractStreamWriter) -> None:
        view = memoryview(self._value)
        for at in range(0, len(view), _WRITE_BLOCK):
            await writer.write(view[at : at + _WRITE_BLOCK])

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        await self.write(writer)


class AiohttpReply:
    """A reply. Holds the library's object privately; only status, headers and bytes come out."""

    __slots__ = ("_response", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Headers = tuple(
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in response.raw_headers
        )

    def __repr__(self) -> str:
        return f"<Reply {self.status}>"

    async def read(self) -> bytes:
        failure = None
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, ConnectionError, TimeoutError, OSError) as error:
            failure = type(error).__name__
        # Raised outside the block: the library's error keeps the request in its context.
        raise UpstreamError(_UNREACHABLE, f"The provider's reply broke off ({failure}).", sent=True)

    def on_piece(self, take: Callable[[bytes], bool]) -> bool:
        """Everything comes by ``read``."""
        return False

    async def close(self) -> None:
        response = self._response
        if response.content.is_eof() and response.content.exception() is None:
            response.release()
        else:
            response.close()


class AiohttpClient:
    """The client: pools of connections by owner, the least recently used let go."""

    MAX_POOLS = 512

    def __init__(self, egress: Egress, *, cafile: str | None = None) -> None:
        self._egress = egress
        self._tls = ssl.create_default_context(cafile=cafile)
        self._pools: OrderedDict[str, aiohttp.ClientSession] = OrderedDict()
        self._threads = ThreadPoolExecutor(16, thread_name_prefix="resolve")

    async def send(
        self, pool: str, request: WireRequest, limits: Limits, *, is_fresh: bool = False
    ) -> AiohttpReply:
        # A pool for each (owner, provider key): more of them than ours has, with the same effect.
        session = await self._session(f"{pool}/{request.key_id}/{id(request) if is_fresh else 0}")
        refused = self._egress.refuse_url(request.url.partition("?")[0], may_escape=True)
        if refused:
            raise UpstreamError(
                _UNREACHABLE, f"The provider's address is not allowed: {refused}.", sent=False
            )
        failure = ""
        code, sent = _UNREACHABLE, True
        headers = [(name, value) for name, value in request.headers]
        try:
            async with asyncio.timeout(limits.connect + limits.first_byte):
                response = await session.request(
                    request.method,
                    URL(request.url, encoded=True),
                    headers=headers,
                    data=_Body(request.body) if request.body else None,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(
                        total=None,
                        connect=limits.connect,
                        sock_connect=limits.connect,
                        sock_read=None,
                    ),
                )
            return AiohttpReply(response)
        except aiohttp.ConnectionTimeoutError:
            failure, code, sent = "The connection to the provider timed out.", _TIMEOUT, False
        except (TimeoutError, aiohttp.ServerTimeoutError):
            failure, code = "The provider did not answer in time.", _TIMEOUT
        except aiohttp.ClientConnectorCertificateError:
            failure, sent = "The provider's TLS certificate is not valid.", False
        except aiohttp.ClientConnectorDNSError:
            failure, sent = "The provider's name does not resolve.", False
        except aiohttp.ClientConnectorError as error:
            sent = False
            failure = "No connection to the provider."
            if isinstance(error.os_error, _AddressRefusedError):
                failure = "The provider's address is not allowed."
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = f"The exchange with the provider broke off ({type(error).__name__})."
        # Raised outside the block: the library's errors keep the request, key included.
        raise UpstreamError(code, failure, sent=sent)

    async def close(self) -> None:
        for session in self._pools.values():
            await session.close()
        self._pools.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _session(self, pool: str) -> aiohttp.ClientSession:
        found = self._pools.get(pool)
        if found is not None:
            self._pools.move_to_end(pool)
            return found
        connector = aiohttp.TCPConnector(
            limit=0,
            ssl=self._tls,
            keepalive_timeout=_IDLE_SECONDS,
            enable_cleanup_closed=False,
            resolver=_Resolver(self._threads),
            ttl_dns_cache=30,
            socket_factory=self._socket,
        )
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=_READ_BUFFER,
            skip_auto_headers=(
                hdrs.USER_AGENT,
                hdrs.ACCEPT,
                hdrs.ACCEPT_ENCODING,
                hdrs.CONTENT_TYPE,
            ),
            max_line_size=32 * 1024,
            max_field_size=32 * 1024,
        )
        # A replayed request would be an attempt that no frame announced.
        session._retry_connection = False
        self._pools[pool] = session
        await self._let_go()
        return session

    async def _let_go(self) -> None:
        """Close the least recently used pools that serve nothing."""
        if len(self._pools) <= self.MAX_POOLS:
            return
        for pool, session in list(self._pools.items()):
            connector = session.connector
            if connector is not None and not connector._acquired:
                del self._pools[pool]
                await session.close()
                return

    def _socket(self, info: Any) -> socket.socket:
        """Make the socket for one resolved address, unless the address is not allowed."""
        family, kind, protocol, _, address = info
        refused = self._egress.refuse_address(str(address[0]), int(address[1]))
        if refused:
            raise _AddressRefusedError(f"address refused: {refused}")
        made = socket.socket(family=family, type=kind, proto=protocol)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made


class _Resolver(AbstractResolver):
    """Name resolution for one pool: its own threads, a cap per pool, a deadline, so that one
    owner's slow names hold up nobody else."""

    DEADLINE_SECONDS = 5
    AT_ONCE = 4

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads
        self._slots = asyncio.Semaphore(self.AT_ONCE)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        look_up = partial(socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM)
        try:
            async with asyncio.timeout(self.DEADLINE_SECONDS), self._slots:
                found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        except (TimeoutError, UnicodeError):
            raise OSError(None, "the name did not resolve") from None
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """The threads belong to the client."""
