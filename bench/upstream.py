"""The upstream of the benchmarks: answers at once with a fixed reply, or streams events in time.

``python bench/upstream.py PORT [CERTIFICATE]``. A model named ``json-N`` gets a JSON reply of about
N bytes; ``stream-N-MS`` a stream of N events, MS milliseconds apart (0: as fast as the other side reads).
``close-N`` is ``json-N`` on a connection that ends with it. ``fault-…`` goes wrong: ``500``, ``429``,
``reset`` (no answer), ``cut`` (a stream that breaks off), ``garbage`` (no HTTP), ``late`` (five seconds).
"""

import asyncio
import json
import re
import ssl
import sys

import httptools
import uvloop

EVENT = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1780000000,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":null}]}\n\n' % (b"x" * 180)
)
LAST = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1780000000,"model":"m",'
    b'"choices":[],"usage":{"prompt_tokens":20,"completion_tokens":100,"total_tokens":120}}\n\n'
    b"data: [DONE]\n\n"
)
MODEL = re.compile(rb'"model":\s*"([^"]+)"')
IN_PATH = re.compile(rb"/models/([^:]+):")
ANTHROPIC = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":'
    b'{"type":"text_delta","text":"%s"}}\n\n' % (b"x" * 180),
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","type":"message",'
    b'"role":"assistant","model":"m","content":[],"usage":{"input_tokens":20,"output_tokens":1}}}\n\n',
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
    b'"usage":{"output_tokens":100}}\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n',
)
GEMINI = (
    b'data: {"candidates":[{"content":{"role":"model","parts":[{"text":"%s"}]},"index":0}]}\r\n\r\n'
    % (b"x" * 180),
    b"",
    b'data: {"candidates":[{"content":{"role":"model","parts":[{"text":""}]},"finishReason":"STOP"}],'
    b'"usageMetadata":{"promptTokenCount":20,"candidatesTokenCount":100}}\r\n\r\n',
)


def json_reply(size: int) -> bytes:
    """A chat completion of about so many bytes, with usage."""
    document = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1780000000,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "x" * max(0, size - 300)},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 20, "completion_tokens": 100, "total_tokens": 120},
    }
    body = json.dumps(document).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


class Connection(asyncio.Protocol):
    """One connection; requests come one after the other."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.parser = httptools.HttpRequestParser(self)
        self.body: list[bytes] = []
        self.replies: dict[bytes, bytes] = {}
        self.may_write = asyncio.Event()
        self.may_write.set()

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def pause_writing(self) -> None:
        self.may_write.clear()

    def resume_writing(self) -> None:
        self.may_write.set()

    def on_message_begin(self) -> None:
        self.body.clear()
        self.url = b""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        found = IN_PATH.search(self.url) or MODEL.search(b"".join(self.body))
        kind, *numbers = found.group(1).split(b"-") if found else (b"json", b"900")
        if kind == b"fault":
            self.fail(numbers[0])
            return
        if kind == b"stream":
            task = asyncio.ensure_future(self.stream(int(numbers[0]), int(numbers[1]) / 1000))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            return
        name = numbers[0] if numbers else b"900"
        if name not in self.replies:
            self.replies[name] = json_reply(int(name))
        reply = self.replies[name]
        if kind == b"close":
            self.transport.write(reply.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1))
            self.transport.close()
        else:
            self.transport.write(reply)

    def fail(self, how: bytes) -> None:
        """Go wrong in one of the ways that providers have."""
        match how:
            case b"500" | b"429":
                self.transport.write(
                    b"HTTP/1.1 %b X\r\ncontent-type: application/json\r\n"
                    b'content-length: 31\r\n\r\n{"error":{"message":"so it is"}}' % how
                )
            case b"cut":
                self.transport.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                    b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(EVENT), EVENT)
                )
                asyncio.get_running_loop().call_later(0.05, self.transport.abort)
            case b"garbage":
                self.transport.write(b"\x16\x03\x01 no HTTP at all\r\n\r\n")
            case b"late":
                asyncio.get_running_loop().call_later(5, self.transport.abort)
            case _:
                self.transport.abort()

    def shape(self) -> tuple[bytes, bytes, bytes]:
        """An event, the first one, the last ones, as the path wants them."""
        if b"/messages" in self.url:
            return ANTHROPIC
        return GEMINI if b"/models/" in self.url else (EVENT, b"", LAST)

    async def stream(self, count: int, pause: float) -> None:
        event, first, last = self.shape()
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        if first:
            self.transport.write(b"%x\r\n%s\r\n" % (len(first), first))
        loop = asyncio.get_running_loop()
        chunk = b"%x\r\n%s\r\n" % (len(event), event)
        due = loop.time()
        for _ in range(count):
            if pause:
                due += pause
                await asyncio.sleep(max(0, due - loop.time()))
            await self.may_write.wait()
            if self.transport.is_closing():
                return
            self.transport.write(chunk)
            if not pause:
                await asyncio.sleep(0)
        self.transport.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(last), last))


async def main(port: int, certificate: str | None = None) -> None:
    tls = None
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
    server = await asyncio.get_running_loop().create_server(
        Connection, "127.0.0.1", port, backlog=8192, ssl=tls
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), *sys.argv[2:3]))
