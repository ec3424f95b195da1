"""Faults on demand: a model named ``fault-…`` makes its call go wrong in that way.

``FAULTS`` is the table. A fault changes how a finished reply goes out; it gets the reply and the
connection's writer.
"""

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import msgspec

Headers = dict[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply about to go out: whole (``body``) or as a stream of events (``events``)."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    events: tuple[bytes, ...] = ()
    pause: float = 0.0


class Wire:
    """Writes HTTP/1.1 by hand, so that everything can be done wrong."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer

    async def put(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, reply: Reply, **framing: str) -> None:
        lines = [f"HTTP/1.1 {reply.status} X"]
        lines += [f"{name}: {value}" for name, value in reply.headers]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in framing.items()]
        await self.put("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")

    async def send(self, reply: Reply) -> None:
        """The reply as it should be."""
        if not reply.events:
            await self.head(reply, content_length=str(len(reply.body)))
            await self.put(reply.body)
            return
        await self.head(reply, transfer_encoding="chunked")
        for event in reply.events:
            await self.chunk(event)
            if reply.pause:
                await asyncio.sleep(reply.pause)
        await self.put(b"0\r\n\r\n")

    async def chunk(self, data: bytes) -> None:
        await self.put(b"%x\r\n%s\r\n" % (len(data), data))

    def reset(self) -> None:
        """End the connection without a clean end."""
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()


Fault = Callable[[Wire, Reply, str], Awaitable[None]]


def _status(status: int, *headers: tuple[str, str], message: str = "") -> Fault:
    async def play(wire: Wire, reply: Reply, secret: str) -> None:
        text = message.format(secret=secret) or f"The stand-in was asked to answer {status}."
        error = {"message": text, "type": "standin_error", "code": status, "status": "STANDIN"}
        body = msgspec.json.encode({"type": "error", "error": error})
        await wire.send(Reply(status, (("content-type", "application/json"), *headers), body))

    return play


async def _timeout(wire: Wire, reply: Reply, secret: str) -> None:
    """Never answers; ends when the other side does."""
    await asyncio.sleep(3600)


async def _reset_before(wire: Wire, reply: Reply, secret: str) -> None:
    wire.reset()


async def _reset_after(wire: Wire, reply: Reply, secret: str) -> None:
    """The head and about half of the reply, then a reset."""
    if reply.events:
        await wire.head(reply, transfer_encoding="chunked")
        for event in reply.events[: max(1, len(reply.events) // 2)]:
            await wire.chunk(event)
    else:
        await wire.head(reply, content_length=str(len(reply.body)))
        await wire.put(reply.body[: len(reply.body) // 2])
    await asyncio.sleep(0.05)
    wire.reset()


async def _half_json(wire: Wire, reply: Reply, secret: str) -> None:
    """Half a body with a clean end."""
    await wire.send(replace(reply, body=reply.body[: len(reply.body) // 2], events=()))


async def _cut_stream(wire: Wire, reply: Reply, secret: str) -> None:
    """Half of the events with a clean end, the last one torn."""
    events = list(reply.events[: len(reply.events) // 2 + 1])
    if events:
        events[-1] = events[-1][: len(events[-1]) // 2]
    await wire.send(replace(reply, events=tuple(events)))


async def _wrong_length(wire: Wire, reply: Reply, secret: str) -> None:
    """Promises more bytes than it sends."""
    body = reply.body or b"".join(reply.events)
    await wire.head(reply, content_length=str(len(body) + 100))
    await wire.put(body)
    wire.close()


async def _surplus(wire: Wire, reply: Reply, secret: str) -> None:
    """Sends bytes behind the end of the reply: a smuggled second one."""
    body = reply.body or b"".join(reply.events)
    await wire.head(reply, content_length=str(len(body)))
    smuggled = b"HTTP/1.1 200 X\r\ncontent-length: 6\r\n\r\nstolen"
    await wire.put(body + smuggled)


async def _drip(wire: Wire, reply: Reply, secret: str) -> None:
    """One byte at a time."""
    data = reply.body or b"".join(reply.events)
    await wire.head(reply, transfer_encoding="chunked")
    for byte in data:
        await wire.chunk(bytes([byte]))
    await wire.put(b"0\r\n\r\n")


async def _garbage(wire: Wire, reply: Reply, secret: str) -> None:
    """An event stream that is none."""
    events = (
        b"\x00\xff\xfe{{{ not an event\n\n",
        b'data: {"usage": "no"}\n\n',
        b"data: {broken\n\n",
        b":\n\n\r\n\r\n",
    )
    headers = (("content-type", "text/event-stream"),)
    await wire.send(Reply(200, headers, events=events))


async def _not_http(wire: Wire, reply: Reply, secret: str) -> None:
    await wire.put(b"220 mail.example ESMTP\r\n")
    wire.close()


async def _gzip(wire: Wire, reply: Reply, secret: str) -> None:
    body = gzip.compress(reply.body or b"".join(reply.events))
    await wire.send(
        replace(reply, headers=(*reply.headers, ("content-encoding", "gzip")), body=body, events=())
    )


async def _slow(wire: Wire, reply: Reply, secret: str) -> None:
    """The reply as it should be, an event every 50 ms, over and over."""
    await wire.head(reply, transfer_encoding="chunked")
    while True:
        for event in reply.events or (reply.body,):
            await wire.chunk(event)
            await asyncio.sleep(0.05)


async def _paced(wire: Wire, reply: Reply, secret: str) -> None:
    """The reply as it should be, an event every 50 ms, once."""
    await wire.send(replace(reply, pause=0.05))


async def _flood(wire: Wire, reply: Reply, secret: str) -> None:
    """100 MB as fast as the other side reads."""
    await wire.head(reply, transfer_encoding="chunked")
    block = b"data: " + b"x" * 65_536 + b"\n\n"
    for _ in range(1600):
        await wire.chunk(block)
    await wire.put(b"0\r\n\r\n")


async def _error_event(wire: Wire, reply: Reply, secret: str) -> None:
    """A stream that turns into an error, as overloaded providers do."""
    error = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'
    events = (*reply.events[:2], b"event: error\ndata: " + error + b"\n\n")
    await wire.send(replace(reply, events=events))


async def _no_usage(wire: Wire, reply: Reply, secret: str) -> None:
    """The reply as it should be, but silent about what it used."""
    events = tuple(event for event in reply.events if b"usage" not in event)
    body = reply.body
    if body:
        document = msgspec.json.decode(body)
        document.pop("usage", None)
        document.pop("usageMetadata", None)
        body = msgspec.json.encode(document)
    await wire.send(replace(reply, body=body, events=events))


async def _quoting_header(wire: Wire, reply: Reply, secret: str) -> None:
    await wire.send(replace(reply, headers=(*reply.headers, ("x-debug", f"key={secret}"))))


async def _gzip_quote(wire: Wire, reply: Reply, secret: str) -> None:
    body = gzip.compress(b'{"error":{"message":"bad key %s"}}' % secret.encode())
    headers = (("content-type", "application/json"), ("content-encoding", "gzip"))
    await wire.send(Reply(500, headers, body))


async def _strange_status(wire: Wire, reply: Reply, secret: str) -> None:
    await wire.send(replace(reply, status=799))


async def _control_header(wire: Wire, reply: Reply, secret: str) -> None:
    """A header value with a byte that no server would send on."""
    headers = (*reply.headers, ("x-weird", "a\x01b"), ("x-fine", "caf\xe9"))
    await wire.send(replace(reply, headers=headers))


async def _early_reply(wire: Wire, reply: Reply, secret: str) -> None:
    """Answers and closes at once."""
    await wire.head(reply, content_length=str(len(reply.body)), connection="close")
    await wire.put(reply.body)
    wire.close()


FAULTS: dict[str, Fault] = {
    "fault-400": _status(400),
    "fault-401": _status(401, message="Incorrect API key provided: {secret}."),
    "fault-403": _status(403),
    "fault-404": _status(404),
    "fault-429": _status(429, ("retry-after", "7"), ("x-ratelimit-reset-requests", "7s")),
    "fault-500": _status(500),
    "fault-503": _status(503, ("retry-after", "3")),
    "fault-529": _status(529),
    "fault-quote": _status(500, message="Internal error for key {secret} at backend."),
    "fault-quote-header": _quoting_header,
    "fault-quote-gzip": _gzip_quote,
    "fault-brotli-error": _status(500, ("content-encoding", "br")),
    "fault-redirect": _status(307, ("location", "http://127.0.0.1:1/steal")),
    "fault-timeout": _timeout,
    "fault-reset-before": _reset_before,
    "fault-reset-after": _reset_after,
    "fault-half-json": _half_json,
    "fault-cut-stream": _cut_stream,
    "fault-wrong-length": _wrong_length,
    "fault-surplus": _surplus,
    "fault-drip": _drip,
    "fault-garbage": _garbage,
    "fault-not-http": _not_http,
    "fault-gzip": _gzip,
    "fault-slow": _slow,
    "fault-paced": _paced,
    "fault-flood": _flood,
    "fault-error-event": _error_event,
    "fault-no-usage": _no_usage,
    "fault-early-reply": _early_reply,
    "fault-strange-status": _strange_status,
    "fault-control-header": _control_header,
}
