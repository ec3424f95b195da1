"""A connection to a provider that serves again: what a provider may have left on it, and when.

The provider is played with plain sockets in the test's own thread, so that what has come to the
kernel and what the event loop has seen of it is certain, not a matter of time.
"""

import asyncio
import contextlib
import select
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.servers import certificate
from xairouter.errors import StaleConnectionError, UpstreamError
from xairouter.upstream import connection as connection_module
from xairouter.upstream import http_client
from xairouter.upstream.egress import Egress
from xairouter.upstream.http_client import HttpClient
from xairouter.upstream.interface import Limits, WireRequest, whole

LIMITS = Limits(connect=60, first_byte=60)
WAIT_MS = 10_000


def _reply(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


STOLEN = _reply(b"stolen")


class Peer:
    """A provider's end of one connection."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def asked(self) -> bytes:
        """The next request, to its body's end."""
        came = b""
        while not came.endswith(b"{}"):
            piece = await asyncio.get_running_loop().sock_recv(self._socket, 65536)
            assert piece, "the connection was closed before a request was whole"
            came += piece
        return came

    def send(self, data: bytes) -> None:
        self._socket.send(data)

    def finish(self) -> None:
        """A clean end."""
        self._socket.close()

    def reset(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


class Provider:
    """A listener; ``peers`` in the order in which they came."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1/x"
        self._opened: list[socket.socket] = []

    async def peer(self) -> Peer:
        async with asyncio.timeout(120):
            opened, _ = await asyncio.get_running_loop().sock_accept(self._listener)
        opened.setblocking(False)
        self._opened.append(opened)
        return Peer(opened)

    @property
    def has_another(self) -> bool:
        """Whether somebody else has connected."""
        return bool(select.select([self._listener], [], [], 0)[0])

    def close(self) -> None:
        for opened in (*self._opened, self._listener):
            opened.close()


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    made = Provider()
    yield made
    made.close()


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    made = HttpClient(Egress(allow_private=True))
    yield made
    await made.close()


def _post(url: str, key: str = "key-a", body: bytes = b"{}") -> WireRequest:
    return WireRequest("POST", url, (), body, key)


def _start(client: HttpClient, url: str, key: str = "key-a") -> asyncio.Task[bytes]:
    """A call under way."""

    async def go() -> bytes:
        return await whole(await client.send("owner", _post(url, key), LIMITS))

    return asyncio.create_task(go())


async def _served(client: HttpClient, provider: Provider, behind: bytes = b"") -> Peer:
    """A connection that has served one call, with bytes in the same segment as its reply's end."""
    call = _start(client, provider.url)
    peer = await provider.peer()
    await peer.asked()
    peer.send(_reply(b"first") + behind)
    assert await call == b"first"
    return peer


def _wait_until_the_kernel_has_it(client: HttpClient) -> None:
    """Until something stands to be read at every open connection; the loop does not run meanwhile."""
    for connection in client._open:
        assert connection._transport is not None
        looked = select.poll()
        looked.register(connection._transport.get_extra_info("socket").fileno(), select.POLLIN)
        assert looked.poll(WAIT_MS)


async def _gets_its_own(client: HttpClient, provider: Provider, key: str = "key-a") -> None:
    """The next call is served, on a connection of its own."""
    call = _start(client, provider.url, key)
    peer = await provider.peer()
    await peer.asked()
    peer.send(_reply(b"second"))
    assert await call == b"second"


@pytest.mark.parametrize("size", range(1, len(STOLEN) + 1))
async def test_a_surplus_that_no_one_has_read_yet_is_nobody_s_reply(client, provider, size: int):
    """Any beginning of a second reply, in the kernel but not yet seen by the event loop."""
    peer = await _served(client, provider)
    peer.send(STOLEN[:size])
    _wait_until_the_kernel_has_it(client)
    await _gets_its_own(client, provider)


@pytest.mark.parametrize("cut", range(1, len(STOLEN) + 1))
async def test_a_surplus_in_the_reply_s_own_segment_is_nobody_s_reply(client, provider, cut: int):
    """Cut anywhere: the rest comes when the next call waits for its reply."""
    peer = await _served(client, provider, STOLEN[:cut])
    call = _start(client, provider.url)
    second = await provider.peer()
    await second.asked()
    with contextlib.suppress(ConnectionError):  # It is closed already.
        peer.send(STOLEN[cut:])
    second.send(_reply(b"second"))
    assert await call == b"second"


@pytest.mark.parametrize("behind", [b"\r\n", b"\n", b"x", b"\0", b"0\r\n\r\n", b" ", b"HTTP/1.1"])
async def test_whatever_comes_behind_a_reply_is_nobody_s_reply(client, provider, behind: bytes):
    peer = await _served(client, provider)
    peer.send(behind)
    _wait_until_the_kernel_has_it(client)
    await _gets_its_own(client, provider)


@pytest.mark.parametrize("turns", [0, 1, 2, 5, 20])
async def test_a_second_reply_reaches_no_other_key_of_the_owner(client, provider, turns: int):
    """However late it comes, even when the other key's call has been sent: each provider key has
    connections of its own."""
    peer = await _served(client, provider)
    call = _start(client, provider.url, "key-b")
    for _ in range(turns):
        await asyncio.sleep(0)
    peer.send(STOLEN)
    second = await provider.peer()
    assert await second.asked()
    for _ in range(5):
        await asyncio.sleep(0)
    second.send(_reply(b"second"))
    assert await call == b"second"


async def test_a_key_s_own_connection_serves_it_again(client, provider):
    peer = await _served(client, provider)
    call = _start(client, provider.url)
    await peer.asked()
    peer.send(_reply(b"again"))
    assert await call == b"again"
    assert not provider.has_another


async def test_a_fresh_connection_is_taken_where_it_is_asked_for(client, provider):
    await _served(client, provider)
    call = asyncio.create_task(client.send("owner", _post(provider.url), LIMITS, is_fresh=True))
    peer = await provider.peer()
    await peer.asked()
    peer.send(_reply(b"x"))
    assert await whole(await call) == b"x"


@pytest.mark.parametrize("end", [Peer.finish, Peer.reset])
async def test_an_end_that_no_one_has_seen_yet_costs_no_call(client, provider, end):
    """The provider closes a connection in the moment in which it is to serve again."""
    peer = await _served(client, provider)
    end(peer)
    _wait_until_the_kernel_has_it(client)
    await _gets_its_own(client, provider)


@pytest.mark.parametrize("end", [Peer.finish, Peer.reset])
async def test_a_reused_connection_that_ends_before_a_reply_is_stale(client, provider, end):
    peer = await _served(client, provider)
    call = _start(client, provider.url)
    await peer.asked()
    end(peer)
    with pytest.raises(StaleConnectionError) as caught:
        await call
    assert caught.value.sent is True
    assert not provider.has_another, "the client itself sends nothing twice"


@pytest.mark.parametrize("end", [Peer.finish, Peer.reset])
async def test_a_new_connection_that_ends_before_a_reply_is_not_stale(client, provider, end):
    call = _start(client, provider.url)
    peer = await provider.peer()
    await peer.asked()
    end(peer)
    with pytest.raises(UpstreamError) as caught:
        await call
    assert not isinstance(caught.value, StaleConnectionError)


@pytest.mark.parametrize("said", [b"H", b"\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_one_byte_of_a_reply_and_it_is_not_stale(client, provider, said: bytes):
    """The provider has the request: it is not sent a second time."""
    peer = await _served(client, provider)
    call = _start(client, provider.url)
    await peer.asked()
    peer.send(said)
    peer.finish()
    with pytest.raises(UpstreamError) as caught:
        await call
    assert not isinstance(caught.value, StaleConnectionError)


async def test_a_provider_that_took_its_time_is_not_stale(client, provider, monkeypatch):
    """It may have worked on the request, and billed it."""
    monkeypatch.setattr(connection_module, "REPLAY_SECONDS", -1.0)
    peer = await _served(client, provider)
    call = _start(client, provider.url)
    await peer.asked()
    peer.finish()
    with pytest.raises(UpstreamError) as caught:
        await call
    assert not isinstance(caught.value, StaleConnectionError)


async def test_silence_on_a_reused_connection_is_a_timeout_and_not_stale(client, provider):
    peer = await _served(client, provider)
    with pytest.raises(UpstreamError) as caught:
        await client.send("owner", _post(provider.url), Limits(connect=10, first_byte=0.05))
    assert caught.value.code == "upstream_timeout"
    assert not isinstance(caught.value, StaleConnectionError)
    del peer


async def test_a_connection_is_idle_for_ten_seconds_at_most(client, provider, monkeypatch):
    assert http_client.IDLE_SECONDS <= 10
    await _served(client, provider)
    monkeypatch.setattr(http_client, "IDLE_SECONDS", 0.0)  # So that it has been idle for as long.
    await _gets_its_own(client, provider)


async def test_a_flood_of_interim_replies_is_cut_off(client, provider):
    call = _start(client, provider.url)
    peer = await provider.peer()
    await peer.asked()

    async def flood() -> None:
        while not call.done():
            try:
                peer.send(b"HTTP/1.1 100 Continue\r\nx: y\r\n\r\n" * 100)
            except BlockingIOError:
                pass
            except ConnectionError:
                return
            await asyncio.sleep(0)

    async with asyncio.timeout(60):
        await flood()
        with pytest.raises(UpstreamError, match="too large a head"):
            await call


async def test_a_reply_to_half_a_request_ends_its_connection(client, provider):
    """The rest of the request would be read as the next one."""
    call = asyncio.create_task(
        client.send("owner", _post(provider.url, body=b"x" * 30_000_000), LIMITS)
    )
    peer = await provider.peer()
    await asyncio.get_running_loop().sock_recv(peer._socket, 1000)
    peer.send(_reply(b"early"))
    assert await whole(await call) == b"early"
    await _gets_its_own(client, provider)


@pytest.mark.parametrize("end", [Peer.finish, Peer.reset])
async def test_a_provider_that_leaves_or_speaks_at_once_is_no_endless_wait(client, provider, end):
    call = _start(client, provider.url)
    peer = await provider.peer()
    peer.send(b"220 mail.example ESMTP\r\n")
    end(peer)
    async with asyncio.timeout(60):
        with pytest.raises(UpstreamError):
            await call


async def test_what_comes_behind_a_reply_under_tls_is_nobody_s_reply(
    client, tmp_path: Path, monkeypatch
):
    """A second reply in a TLS record of its own, which is there when the first one has been read."""
    pem = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    bodies = iter((b"first", b"second", b"third"))
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            while await reader.readuntil(b"{}"):
                writer.write(_reply(next(bodies)))
                writer.write(STOLEN)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/x"
    for body in (b"first", b"second", b"third"):
        assert await _start(client, url) == body
        # Whatever the second record needs to come, it has come.
        _wait_until_the_kernel_has_it(client)
    server.close()
    for writer in writers:
        writer.transport.abort()
    await asyncio.sleep(0)
