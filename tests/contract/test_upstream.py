"""The contract of an upstream client, run on every driver."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.reference_client import AiohttpClient
from tests.servers import certificate
from tests.waiting import at_rest, until
from xairouter.errors import ConfigError, UpstreamError
from xairouter.standin.faults import FAULTS, Reply, Wire
from xairouter.standin.server import StandIn
from xairouter.upstream.egress import Egress
from xairouter.upstream.http_client import HttpClient
from xairouter.upstream.interface import Client, Limits, WireRequest, whole
from xairouter.upstream.proxy import Proxy

DRIVERS = {"own": HttpClient, "aiohttp": AiohttpClient}
LIMITS = Limits(connect=60, first_byte=60)


@pytest.fixture(params=DRIVERS)
async def client(request) -> AsyncIterator[Client]:
    made = DRIVERS[request.param](Egress(allow_private=True))
    yield made
    await made.close()


@pytest.fixture
async def standin() -> AsyncIterator[tuple[StandIn, str]]:
    made = StandIn()
    port = await made.start()
    yield made, f"http://127.0.0.1:{port}"
    await made.stop()


def _post(url: str, body: bytes = b"{}", **headers: str) -> WireRequest:
    return WireRequest("POST", url, tuple(headers.items()), body)


def _chat(model: str = "m") -> bytes:
    return b'{"model":"%s","messages":[]}' % model.encode()


async def test_sends_exactly_what_it_is_given(client, standin):
    server, url = standin
    sent = {"content-type": "application/json", "x-api-key": "k", "accept-encoding": "identity"}
    reply = await client.send(
        "p", _post(url + "/v1/chat/completions?a=%2F&b", _chat(), **sent), LIMITS
    )
    assert reply.status == 200
    assert dict(reply.headers)["content-type"] == "application/json"
    await whole(reply)
    received = server.requests[-1]
    assert received.query == "a=%2F&b"
    assert received.body == _chat()
    assert received.headers == {
        **sent,
        "host": url.removeprefix("http://"),
        "content-length": str(len(_chat())),
    }


@pytest.mark.parametrize("size", [0, 1, 70_000, 5_000_000])
async def test_bodies_of_any_size_arrive_whole(client, standin, size: int):
    server, url = standin
    body = b'{"model":"m","messages":[],"x":"' + b"y" * size + b'"}'
    await whole(await client.send("p", _post(url + "/v1/chat/completions", body), LIMITS))
    assert server.requests[-1].body == body


async def test_a_connection_is_used_again_within_a_pool_and_never_by_another(client, standin):
    server, url = standin
    for pool in ("one", "one", "one", "two", "two"):
        await whole(await client.send(pool, _post(url + "/v1/chat/completions", _chat()), LIMITS))
    assert server.connections == 2


@pytest.mark.parametrize(
    "fault", ["fault-surplus", "fault-wrong-length", "fault-reset-after", "fault-early-reply"]
)
async def test_a_connection_that_did_not_end_cleanly_is_not_used_again(client, standin, fault):
    server, url = standin
    reply = await client.send("p", _post(url + "/v1/chat/completions", _chat(fault)), LIMITS)
    try:
        await whole(reply)
    except UpstreamError:
        await reply.close()
    await whole(await client.send("p", _post(url + "/v1/chat/completions", _chat()), LIMITS))
    assert server.connections == 2


async def test_a_reply_that_is_left_unread_ends_its_connection(client, standin):
    server, url = standin
    reply = await client.send("p", _post(url + "/v1/chat/completions", _chat("fault-slow")), LIMITS)
    await reply.read()
    await reply.close()
    await until(lambda: not server._writers)


@pytest.mark.parametrize("fault", ["fault-reset-before", "fault-not-http"])
async def test_no_reply_is_unreachable_after_sending_and_never_sent_twice(client, standin, fault):
    server, url = standin
    with pytest.raises(UpstreamError) as caught:
        await client.send("p", _post(url + "/v1/chat/completions", _chat(fault)), LIMITS)
    assert (caught.value.code, caught.value.sent) == ("upstream_unreachable", True)
    assert caught.value.__context__ is None
    assert len(server.requests) == 1


async def test_a_get_on_a_connection_that_died_is_not_replayed(client, standin):
    """An automatic replay would be a request that no attempt announced."""
    server, url = standin
    server.scripted = Reply(200, (), b"x")
    await whole(await client.send("p", WireRequest("GET", url + "/v1/x", (), b""), LIMITS))
    server.failing = {"": "fault-reset-before"}
    server.scripted = None
    with pytest.raises(UpstreamError):
        await client.send("p", WireRequest("GET", url + "/v1/x", (), b""), LIMITS)
    assert len(server.requests) == 2


async def test_nobody_there_is_unreachable_and_surely_not_sent(client):
    with pytest.raises(UpstreamError) as caught:
        await client.send("p", _post("http://127.0.0.1:9/"), LIMITS)
    assert (caught.value.code, caught.value.sent) == ("upstream_unreachable", False)


async def test_silence_is_a_timeout(client, standin):
    _, url = standin
    with pytest.raises(UpstreamError) as caught:
        await client.send(
            "p", _post(url + "/v1/chat/completions", _chat("fault-timeout")), Limits(0.2, 0.2)
        )
    assert caught.value.code == "upstream_timeout"


async def test_a_reply_cut_off_raises_when_read(client, standin):
    _, url = standin
    for fault in ("fault-reset-after", "fault-wrong-length"):
        reply = await client.send("p", _post(url + "/v1/chat/completions", _chat(fault)), LIMITS)
        with pytest.raises(UpstreamError) as caught:
            await whole(reply)
        assert caught.value.__context__ is None
        await reply.close()


async def test_compressed_bytes_and_redirects_come_as_they_are(client, standin):
    import gzip

    _, url = standin
    reply = await client.send("p", _post(url + "/v1/chat/completions", _chat("fault-gzip")), LIMITS)
    assert gzip.decompress(await whole(reply)).startswith(b"{")
    redirect = await client.send(
        "p", _post(url + "/v1/chat/completions", _chat("fault-redirect")), LIMITS
    )
    assert redirect.status == 307
    await whole(redirect)


async def test_cookies_and_proxies_of_the_environment_are_not_used(client, standin, monkeypatch):
    server, url = standin
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    for _ in range(2):
        await whole(await client.send("p", _post(url + "/v1/chat/completions", _chat()), LIMITS))
    assert "cookie" not in server.requests[-1].headers


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/",
        "http://[::ffff:169.254.169.254]/",
        "http://2852039166/",
        "http://0.0.0.0:80/",
    ],
)
async def test_refused_addresses_are_refused_when_connecting_too(client, url: str):
    with pytest.raises(UpstreamError) as caught:
        await client.send("p", _post(url), LIMITS)
    assert caught.value.sent is False
    assert "not allowed" in str(caught.value)


@contextlib.asynccontextmanager
async def _tls(folder: Path):
    """A server with a certificate of its own making, that answers like the others; its URL, the
    certificate's file, and what came decrypted."""
    pem = certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    async with _raw(OK + b"content-length: 2\r\n\r\nhi", tls=context) as (url, came):
        yield url.replace("http://", "https://"), pem, came


async def test_a_certificate_that_is_not_trusted_ends_it_before_any_byte(client, tmp_path: Path):
    async with _tls(tmp_path) as (url, _, came):
        with pytest.raises(UpstreamError) as caught:
            await client.send("p", _post(url), LIMITS)
    assert caught.value.sent is False
    assert "certificate" in str(caught.value)
    assert came == []


@pytest.mark.parametrize("client", ["own"], indirect=True)
async def test_an_authority_of_the_installation_is_trusted(client, tmp_path: Path, monkeypatch):
    async with _tls(tmp_path) as (url, pem, came):
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        assert await whole(await client.send("p", _post(url), LIMITS)) == b"hi"
        # Its name counts, too.
        with pytest.raises(UpstreamError, match="certificate"):
            await client.send("p", _post(url.replace("127.0.0.1", "localhost")), LIMITS)
    assert len(came) == 1


@contextlib.asynccontextmanager
async def _proxy(answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n"):
    """A proxy that opens tunnels, or answers something else; its address, and what it was asked."""
    asked: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        if b" 200 " not in answer:
            writer.close()
            return
        port = int(asked[-1].split(b" ")[1].rpartition(b":")[2])
        there, back = await asyncio.open_connection("127.0.0.1", port)
        writers.append(back)
        await asyncio.gather(pour(reader, back), pour(there, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


async def test_a_proxy_tunnels_what_is_encrypted_and_sees_nothing_of_it(
    tmp_path: Path, monkeypatch, standin
):
    _, plain = standin
    async with _tls(tmp_path) as (url, pem, came), _proxy() as (proxy, asked):
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        made = HttpClient(Egress(allow_private=True), proxy=Proxy.of(f"http://me:pa%3Fss@{proxy}"))
        for _ in range(2):
            assert await whole(await made.send("p", _post(url, x="secret"), LIMITS)) == b"hi"
            if len(came) == 1:
                made._pools.clear()  # so that the second one opens a tunnel of its own
        await whole(await made.send("p", _post(plain + "/v1/chat/completions", _chat()), LIMITS))
        await made.close()
        place = url.removeprefix("https://").partition("/")[0].encode()
        assert len(asked) == 2, "what is not encrypted goes the straight way"
        assert asked[0] == (
            b"CONNECT %b HTTP/1.1\r\nhost: %b\r\nproxy-authorization: Basic bWU6cGE/c3M=\r\n\r\n"
            % (place, place)
        )
        assert all(b"secret" in one for one in came)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nmore",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 " + b"x" * 20_000,
    ],
    ids=["refuses", "goes on", "is none", "endless"],
)
async def test_a_proxy_that_opens_no_tunnel_gets_no_request(answer: bytes, tmp_path, monkeypatch):
    async with _tls(tmp_path) as (url, pem, came), _proxy(answer) as (proxy, _):
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        made = HttpClient(Egress(allow_private=True), proxy=Proxy.of(f"http://{proxy}"))
        with pytest.raises(UpstreamError, match="tunnel") as caught:
            await made.send("p", _post(url), LIMITS)
        assert caught.value.sent is False
        await made.close()
        assert came == []


@pytest.mark.parametrize("url", ["https://p:1", "http://p", "p:3128", "http://p:1/x", "http://p:x"])
def test_a_proxy_s_address_is_understood_or_refused(url: str):
    with pytest.raises(ConfigError, match="XAIROUTER_PROVIDER_PROXY"):
        Proxy.of(url)


async def test_many_pools_do_not_grow_without_bound(client, standin, monkeypatch):
    _, url = standin
    monkeypatch.setattr(type(client), "MAX_POOLS", 5)
    for number in range(12):
        request = _post(url + "/v1/chat/completions", _chat())
        await whole(await client.send(f"pool-{number}", request, LIMITS))
    assert len(client._pools) <= 6


@contextlib.asynccontextmanager
async def _raw(
    *answers: bytes,
    closes: bool = False,
    reads: int = 1 << 16,
    tls: ssl.SSLContext | None = None,
):
    """A server that answers each connection's requests with these bytes; its URL and what came."""
    came: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(ConnectionError):
            for answer in answers:
                came.append(await reader.read(reads))
                writer.write(answer)
                await writer.drain()
            if closes:
                writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/x", came
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("answer", "closes", "body"),
    [
        (OK + b"\r\nuntil the end", True, b"until the end"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + OK + b"content-length: 2\r\n\r\nab", False, b"ab"),
        (
            OK + b"transfer-encoding: chunked\r\n\r\n1;x=y\r\na\r\n0\r\nlate: 1\r\n\r\n",
            False,
            b"a",
        ),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na", True, b"a"),
    ],
    ids=["to the end of the connection", "interim replies", "trailers", "HTTP/1.0"],
)
async def test_every_framing_of_a_reply_is_read(client, answer, closes, body):
    async with _raw(answer, closes=closes) as (url, _):
        reply = await client.send("p", _post(url), LIMITS)
        assert (reply.status, await whole(reply)) == (200, body)
        assert "late" not in dict(reply.headers)


@pytest.mark.parametrize(
    "head",
    [
        b"content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        b"content-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"content-length: -1\r\n\r\nab",
        b"x: " + b"y" * 300_000 + b"\r\n\r\n",
    ],
    ids=["length and chunks", "two lengths", "no length", "endless header"],
)
async def test_a_reply_whose_framing_is_in_doubt_is_no_reply(client, head):
    async with _raw(OK + head) as (url, _):
        with pytest.raises(UpstreamError) as caught:
            async with asyncio.timeout(120):
                await whole(await client.send("p", _post(url), LIMITS))
        assert caught.value.code == "upstream_unreachable"


@pytest.mark.parametrize("client", ["own"], indirect=True)
async def test_what_comes_behind_a_reply_is_never_the_next_one(client):
    """A provider begins a second reply before it was asked for one, and ends it afterwards."""

    surplus = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"{}")
            writer.write(OK + b"content-length: 5\r\n\r\nfirst")
            await asyncio.sleep(0.05)
            writer.write(OK + b"content-length: 6\r\n")
            surplus.set()
            await reader.readuntil(b"{}")
            writer.write(b"\r\nstolen")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    for _ in range(2):
        surplus.clear()
        assert await whole(await client.send("p", _post(url), LIMITS)) == b"first"
        await surplus.wait()
        await asyncio.sleep(0.02)  # On loopback, what was sent is there when the loop looks next.
    await client.close()
    await asyncio.sleep(0.05)
    server.close()


@pytest.mark.parametrize("client", ["own"], indirect=True)
async def test_a_coding_that_nobody_asked_for_is_no_reply(client):
    async with _raw(OK + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n") as (url, _):
        with pytest.raises(UpstreamError):
            await client.send("p", _post(url), LIMITS)


@pytest.mark.parametrize("client", ["own"], indirect=True)
async def test_trailers_without_end_are_cut_off(client):
    flood = b"".join(b"x-%d: %s\r\n" % (n, b"y" * 100) for n in range(5000))
    async with _raw(OK + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + flood) as (url, _):
        with pytest.raises(UpstreamError):
            async with asyncio.timeout(120):
                await whole(await client.send("p", _post(url), LIMITS))


@pytest.mark.parametrize(
    ("name", "value"),
    [("x", "a\r\ny: b"), ("x\r\ny", "b"), ("x", "a\nb"), ("x", "a\0b")],
)
async def test_nothing_breaks_out_of_a_header(client, name: str, value: str):
    async with _raw(OK + b"content-length: 0\r\n\r\n") as (url, came):
        with pytest.raises(UpstreamError):
            await client.send("p", WireRequest("POST", url, ((name, value),), b""), LIMITS)
        assert came == []


@pytest.mark.parametrize("client", ["own"], indirect=True)
async def test_a_header_that_http_cannot_say_is_not_sent(client):
    async with _raw(OK + b"content-length: 0\r\n\r\n") as (url, came):
        with pytest.raises(UpstreamError):
            await client.send("p", WireRequest("POST", url, (("x", "€"),), b""), LIMITS)
        assert came == []


@pytest.mark.parametrize("client", ["own"], indirect=True)
@pytest.mark.parametrize("query", ["a b", "a\r\nb", "é"])
async def test_nothing_breaks_out_of_the_request_line(client, query: str):
    async with _raw(OK + b"content-length: 0\r\n\r\n") as (url, came):
        with contextlib.suppress(UpstreamError):
            await client.send("p", _post(f"{url}?{query}"), LIMITS)
        assert not any(b"a b" in one or b"\r\nb" in one or b"\xe9" in one for one in came)


async def test_an_answer_in_the_middle_of_a_large_request_is_passed_on(client):
    """The server answers and reads no further: a refusal of the size, say."""
    answer = b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno"
    async with _raw(answer, reads=100) as (url, _):
        async with asyncio.timeout(120):
            for _ in range(2):  # The second time on another connection.
                reply = await client.send("p", _post(url, b"x" * 20_000_000), LIMITS)
                assert (reply.status, await whole(reply)) == (413, b"no")


async def test_a_caller_that_leaves_ends_the_connection(client):
    came, is_over = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        came.set()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        is_over.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    asking = asyncio.create_task(client.send("p", _post(url), LIMITS))
    await came.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    async with asyncio.timeout(120):
        await is_over.wait()
    server.close()


async def test_a_reader_that_waits_holds_the_provider_up(client, standin, monkeypatch):
    """Of an endless reply that nobody reads only buffers are taken."""
    sent = 0

    async def flood(wire: Wire, reply: Reply, secret: str) -> None:
        nonlocal sent
        await wire.head(reply, transfer_encoding="chunked")
        while True:
            await wire.chunk(b"x" * 65_536)
            sent += 65_536

    monkeypatch.setitem(FAULTS, "fault-flood", flood)
    _, url = standin
    reply = await client.send(
        "p", _post(url + "/v1/chat/completions", _chat("fault-flood")), LIMITS
    )
    await reply.read()
    assert await at_rest(lambda: sent, 40_000_000) < 40_000_000
    assert len(await reply.read()) < 2_000_000
    await reply.close()


@pytest.mark.parametrize("client", ["own"], indirect=True)
async def test_connections_at_rest_are_closed_after_a_while(client, standin, monkeypatch):
    from xairouter.upstream import http_client

    monkeypatch.setattr(http_client, "SWEEP_SECONDS", 0.05)
    monkeypatch.setattr(http_client, "IDLE_SECONDS", 0.1)
    server, url = standin
    await whole(await client.send("p", _post(url + "/v1/chat/completions", _chat()), LIMITS))
    async with asyncio.timeout(120):
        while server._writers:
            await asyncio.sleep(0.02)
    await whole(await client.send("p", _post(url + "/v1/chat/completions", _chat()), LIMITS))
    assert server.connections == 2


async def test_the_second_address_serves_where_the_first_one_does_not(client, standin, monkeypatch):
    import socket

    _, url = standin
    port = int(url.rpartition(":")[2])

    def two(host, port, **_):
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in ("127.0.0.9", "127.0.0.1")
        ]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    reply = await client.send(
        "p", _post(f"http://provider.test:{port}/v1/chat/completions", _chat()), LIMITS
    )
    assert reply.status == 200
    await whole(reply)
