"""The server protocol by itself, on connections in memory: what it lets through, what it refuses, and
what it holds of a connection meanwhile."""

import asyncio
from typing import Any

import pytest

from tests.wire import Edge, Wire
from xairouter.gateway.edge import HEADER_BYTES, MOST_FIELDS, READ_BYTES, EdgeProtocol
from xairouter.gateway.link import LINK

MOST_HELD = 128 * 1024
"""What a connection may hold of bytes whose sender nobody knows."""


class Asked:
    """An application that notes what it is asked, and answers 200 with the body it got.

    It reads a body only ``if reads``, and waits for ``go`` before it does anything.
    """

    def __init__(self, *, reads: bool = True) -> None:
        self.requests: list[tuple[str, str, dict[bytes, bytes], bytes]] = []
        self.go = asyncio.Event()
        self.go.set()
        self.begun = 0
        self._reads = reads

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.begun += 1
        await self.go.wait()
        body = b""
        while self._reads:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message["body"]
            if not message["more_body"]:
                break
        self.requests.append((scope["method"], scope["path"], dict(scope["headers"]), body))
        length = str(len(body)).encode()
        link = scope.pop(LINK)
        link.start(200, [(b"content-length", length)])
        link.write(body)
        link.end()


def held(wire: Wire) -> int:
    """The bytes that a connection's protocol holds now: head, body, and what it has not parsed."""
    protocol = wire.protocol
    assert isinstance(protocol, EdgeProtocol)
    headers = protocol.scope["headers"] if protocol.scope else []
    fields = sum(len(name) + len(value) + 64 for name, value in headers)
    body = len(protocol.cycle.body) if protocol.cycle is not None else 0
    assert not protocol.pipeline
    return fields + len(getattr(protocol, "url", b"") or b"") + body + len(protocol._unread)


GET = b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"

# --- framing

BODY = b"hello"
SIZED = b"content-length: 5"
CHUNKED = b"transfer-encoding: chunked"
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
REFUSED: dict[str, tuple[bytes, list[bytes], bytes, int]] = {
    "gzip, chunked": (b"1.1", [b"transfer-encoding: gzip, chunked"], CHUNKS, 400),
    "identity, chunked": (b"1.1", [b"transfer-encoding: identity, chunked"], CHUNKS, 400),
    "deflate in a line before": (
        b"1.1",
        [b"transfer-encoding: deflate", CHUNKED],
        CHUNKS,
        400,
    ),
    "chunked, chunked": (b"1.1", [b"transfer-encoding: chunked, chunked"], CHUNKS, 400),
    "an empty coding": (b"1.1", [b"transfer-encoding: , chunked"], CHUNKS, 400),
    "chunked with a parameter": (b"1.1", [b"transfer-encoding: chunked;a=b"], CHUNKS, 400),
    "identity": (b"1.1", [b"transfer-encoding: identity"], b"", 400),
    "chunked and length": (b"1.1", [CHUNKED, SIZED], CHUNKS, 400),
    "chunked in HTTP/1.0": (b"1.0", [CHUNKED], CHUNKS, 400),
    "HTTP/2.0": (b"2.0", [SIZED], BODY, 505),
    "HTTP/0.9": (b"0.9", [SIZED], BODY, 505),
    "a length twice": (b"1.1", [SIZED, SIZED], BODY, 400),
    "a host twice": (b"1.1", [b"host: x", SIZED], BODY, 400),
    "two hosts": (b"1.1", [b"host: y", SIZED], BODY, 400),
}
HOSTS = [b"a b", b"user@x", b"x/y", b"x?y", b"x#y", b"x\\y", b"\xe4.example", b"<x>", b'"x"']


def _request(version: bytes, lines: list[bytes], body: bytes, host: bytes | None = b"x") -> bytes:
    first = [] if host is None else [b"host: " + host]
    return b"\r\n".join([b"POST / HTTP/" + version, *first, *lines, b"", body])


@pytest.mark.parametrize("pieces", [1, 7, 100_000])
@pytest.mark.parametrize("name", REFUSED)
async def test_framing_that_another_server_may_read_differently_is_refused(name: str, pieces: int):
    version, lines, body, status = REFUSED[name]
    asked = Asked()
    wire = Edge(asked).connect()
    data = _request(version, lines, body) + GET % 2
    for at in range(0, len(data), pieces):
        wire.send(data[at : at + pieces])
        await wire.settled()
    (reply,) = await wire.ended()
    assert (reply.status, reply.code) == (status, "invalid_request")
    assert reply.headers["connection"] == "close"
    assert asked.requests == []


@pytest.mark.parametrize("host", [None, *HOSTS])
async def test_a_request_names_one_host(host: bytes | None):
    asked = Asked()
    wire = Edge(asked).connect()
    wire.send(_request(b"1.1", [SIZED], BODY, host))
    (reply,) = await wire.ended()
    assert (reply.status, asked.requests) == (400, [])


@pytest.mark.parametrize("host", [b"x", b"x:80", b"[::1]:8080", b"a-b.example:65535", b""])
async def test_every_right_host_passes(host: bytes):
    asked = Asked()
    wire = Edge(asked).connect()
    wire.send(_request(b"1.1", [SIZED], BODY, host))
    (reply,) = await wire.answered()
    assert (reply.status, reply.body) == (200, BODY)


async def test_http_1_0_needs_no_host_and_gets_one_answer():
    wire = Edge(Asked()).connect()
    wire.send(_request(b"1.0", [SIZED], BODY, None) + GET % 2)
    (reply,) = await wire.ended()
    assert (reply.status, reply.body) == (200, BODY)


@pytest.mark.parametrize(
    "method", [b"TRACE", b"CONNECT", b"PROPFIND", b"MKCOL", b"PURGE", b"QUERY"]
)
async def test_methods_that_are_not_served_are_405(method: bytes):
    asked = Asked()
    wire = Edge(asked).connect()
    target = b"x:443" if method == b"CONNECT" else b"/"
    wire.send(method + b" " + target + b" HTTP/1.1\r\nhost: x\r\n\r\n" + GET % 2)
    (reply,) = await wire.ended()
    assert (reply.status, asked.requests) == (405, [])
    assert "TRACE" not in reply.headers["allow"]


async def test_a_trailer_is_no_header():
    """A proxy in front looks at headers alone: what it would have taken out must not come in behind."""
    asked = Asked()
    wire = Edge(asked).connect()
    trailer = (
        b"x-forwarded-for: 6.6.6.6\r\nauthorization: Bearer other\r\ncontent-encoding: gzip\r\n"
    )
    wire.send(_request(b"1.1", [CHUNKED], b"5\r\nhello\r\n0\r\n" + trailer + b"\r\n") + GET % 2)
    await wire.answered(2)
    (_, _, headers, body), (_, path, _, _) = asked.requests
    assert headers == {b"host": b"x", b"transfer-encoding": b"chunked"}
    assert (body, path) == (BODY, "/2")


# --- upgrades

JDK = (
    b"POST /v1/chat HTTP/1.1\r\n"
    b"Connection: Upgrade, HTTP2-Settings\r\n"
    b"Content-Length: 5\r\n"
    b"Host: localhost:8080\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAABgAGAAA\r\n"
    b"Upgrade: h2c\r\n"
    b"User-Agent: Java-http-client/21.0.4\r\n"
    b"Content-Type: application/json\r\n"
    b"\r\n"
)
"""A request as Java's HttpClient sends it by default. (No need to know HTTP/2: RFC 9113 §3.1.)"""
JDK_CHUNKED = JDK.replace(b"Content-Length: 5", b"Transfer-encoding: chunked")
CURL = (
    b"GET /a HTTP/1.1\r\nHost: x\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n"
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
)


@pytest.mark.parametrize("pieces", [1, 7, 150, 100_000])
@pytest.mark.parametrize(
    ("first", "body"),
    [(JDK + BODY, BODY), (JDK_CHUNKED + CHUNKS, BODY), (CURL, b"")],
    ids=["java", "java, chunked", "curl --http2"],
)
async def test_an_upgrade_that_is_not_served_is_ignored(first: bytes, body: bytes, pieces: int):
    asked = Asked()
    wire = Edge(asked).connect()
    data = first + first + GET % 3
    for at in range(0, len(data), pieces):
        wire.send(data[at : at + pieces])
        await wire.settled()
    replies = await wire.answered(3)
    assert [reply.status for reply in replies] == [200, 200, 200]
    assert [request[3] for request in asked.requests] == [body, body, b""]
    assert not any("upgrade" in reply.headers for reply in replies)


@pytest.mark.parametrize("protocol", [b"h2c", b"TLS/1.0", b"foo", b"IRC/6.9, h2c", b"websocket/2"])
async def test_a_body_behind_an_ignored_upgrade_is_no_request(protocol: bytes):
    asked = Asked()
    wire = Edge(asked).connect()
    hidden = GET % 9
    wire.send(
        b"POST / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: %b\r\n"
        b"content-length: %d\r\n\r\n%b" % (protocol, len(hidden), hidden)
    )
    await wire.answered()
    wire.send(GET % 2)
    await wire.answered(2)
    assert [(path, body) for _, path, _, body in asked.requests] == [("/", hidden), ("/2", b"")]


# --- nothing, half a head, garbage


async def test_a_connection_that_never_sent_a_byte_is_closed_without_a_word():
    wire = Edge(Asked(), header_seconds=0.01).connect()
    await wire.ended()
    assert wire.received == b""


@pytest.mark.parametrize("sent", [b"G", b"GET / HTTP/1.1\r\nhost: x\r\n", b"\r\nPOST /"])
async def test_a_head_that_stays_half_is_answered(sent: bytes):
    wire = Edge(Asked(), header_seconds=0.01).connect()
    wire.send(sent)
    (reply,) = await wire.ended()
    assert reply.status == 400
    assert b"did not arrive in time" in reply.body


async def test_empty_lines_alone_are_no_request_and_keep_no_connection_open():
    wire = Edge(Asked(), header_seconds=0.01).connect()
    wire.send(GET % 1)
    await wire.answered()
    wire.send(b"\r\n")
    assert len(await wire.ended()) == 1
    endless = Edge(Asked()).connect()
    endless.send(b"\r\n" * HEADER_BYTES)
    (reply,) = await endless.ended()
    assert reply.status == 400


# --- one request at a time


@pytest.mark.parametrize("pieces", [1, 5, 1000, 1_000_000])
async def test_pipelined_requests_are_answered_in_order_whatever_the_pieces(pieces: int):
    asked = Asked()
    wire = Edge(asked).connect()
    tricky = b"0\r\n\r\nGET /hidden HTTP/1.1\r\n\r\n"
    wanted = [tricky, b"", tricky, b"", b"\r\n\r\n"]
    chunk = b"%x\r\n%b\r\n" % (len(tricky), tricky)
    data = (
        POST % len(tricky)
        + tricky
        + GET % 1
        + _request(b"1.1", [CHUNKED], chunk + b"0\r\na: b\r\n\r\n")
        + b"\r\n"
        + GET % 2
        + _request(b"1.1", [CHUNKED], b"4;e\r\n\r\n\r\n\r\n0\r\n\r\n")
    )
    for at in range(0, len(data), pieces):
        wire.send(data[at : at + pieces])
        await wire.settled()
    replies = await wire.answered(5)
    assert [reply.body for reply in replies] == wanted
    assert [request[3] for request in asked.requests] == wanted


async def test_what_is_pipelined_waits_in_the_socket_and_unparsed():
    asked = Asked()
    asked.go.clear()
    wire = Edge(asked).connect()
    wire.send(GET % 1 * 2_000)
    await wire.settled()
    assert asked.begun == 1
    assert wire.taken <= READ_BYTES
    assert held(wire) <= READ_BYTES + 1024
    asked.go.set()
    await wire.until(lambda: len(asked.requests) == 2_000)
    assert wire.taken == 2_000 * len(GET % 1)


async def test_what_follows_the_last_request_of_a_connection_is_not_read():
    asked = Asked()
    wire = Edge(asked).connect()
    wire.send(b"GET /1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" + GET % 2)
    assert len(await wire.ended()) == len(asked.requests) == 1


async def test_bytes_behind_a_request_that_begin_none_get_no_answer_of_their_own():
    wire = Edge(Asked()).connect()
    wire.send(GET % 1 + b"\x00\x01garbage")
    (reply,) = await wire.ended()
    assert reply.status == 200


# --- what is held before anybody knows whose it is

ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "a target": (b"GET /", b"a" * 1000),
    "a header's name": (b"GET / HTTP/1.1\r\nhost: x\r\n", b"a" * 1000),
    "a header's value": (b"GET / HTTP/1.1\r\nhost: x\r\na: ", b"b" * 1000),
    "headers": (b"GET / HTTP/1.1\r\nhost: x\r\n", b"a:b\r\n" * 200),
    "a body": (POST % 100_000_000, b"a" * 1000),
    "chunks": (_request(b"1.1", [CHUNKED], b""), b"3e8\r\n" + b"a" * 1000 + b"\r\n"),
    "small chunks": (_request(b"1.1", [CHUNKED], b""), b"1\r\na\r\n" * 200),
    "a chunk's extension": (_request(b"1.1", [CHUNKED], b"1;"), b"a" * 1000),
    "a trailer": (_request(b"1.1", [CHUNKED], b"0\r\na: "), b"b" * 1000),
    "trailers": (_request(b"1.1", [CHUNKED], b"0\r\n"), b"a: b\r\n" * 200),
    "an upgrade's body": (JDK.replace(b"th: 5", b"th: 99999999"), b"a" * 1000),
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_a_request_without_end_holds_a_bounded_number_of_bytes(name: str):
    """The application has not begun to read: nobody has looked at a key."""
    first, more = ENDLESS[name]
    asked = Asked()
    asked.go.clear()
    wire = Edge(asked).connect()
    wire.send(first)
    for _ in range(1000):
        wire.send(more)
        await wire.settled()
        assert held(wire) <= MOST_HELD
        if wire.has_ended or wire.unread:
            break
    else:
        raise AssertionError("a megabyte was taken in")
    assert wire.taken <= MOST_HELD


async def test_a_head_may_have_many_fields_but_not_any_number():
    asked = Asked()
    edge = Edge(asked)
    fields = b"".join(b"x-%d: y\r\n" % number for number in range(MOST_FIELDS - 1))
    wire = edge.connect()
    wire.send(b"GET / HTTP/1.1\r\nhost: x\r\n" + fields + b"\r\n")
    assert (await wire.answered())[0].status == 200
    wire = edge.connect()
    wire.send(b"GET / HTTP/1.1\r\nhost: x\r\nx-more: y\r\n" + fields + b"\r\n")
    (reply,) = await wire.ended()
    assert reply.status == 400
    assert b"larger than 64 KB or more than" in reply.body


async def test_a_reply_before_the_body_ends_the_connection_and_reaches_the_client():
    """The rest of the body is thrown away for a while: a reset would take the reply with it."""
    asked = Asked(reads=False)
    wire = Edge(asked).connect()
    wire.send(POST % 1_000_000 + b"a" * 500_000)
    (reply,) = await wire.ended()
    assert (reply.status, reply.headers["connection"]) == (200, "close")
    await wire.until(lambda: not wire.unread)
    assert held(wire) <= MOST_HELD


@pytest.mark.parametrize("status", [204, 304])
async def test_a_reply_without_content_has_no_content(status: int):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        link = scope.pop(LINK)
        link.start(status, [(b"content-length", b"5")])
        link.write(b"hello")
        link.end()

    wire = Edge(app).connect()
    wire.send(GET % 1 + GET % 2)
    first, second = await wire.answered(2)
    assert (first.status, second.status, first.body) == (status, status, b"")
    # RFC 9110 §8.6: not with 204; with 304 it is the length that a 200 would have had.
    assert ("content-length" in first.headers) == (status == 304)
