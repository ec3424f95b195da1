"""One provider's flood leaves turns of the event loop to everybody else."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from xairouter.upstream.connection import READ_BYTES
from xairouter.upstream.egress import Egress
from xairouter.upstream.http_client import HttpClient
from xairouter.upstream.interface import Limits, WireRequest

SIZE = 4 * 1024 * 1024
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


async def _flood(writer: asyncio.StreamWriter, framing: str) -> None:
    """A whole reply of ``SIZE`` bytes, written in one piece."""
    event = b'data: {"usage":{}}\n\n'
    body = (event * (SIZE // len(event) + 1))[:SIZE]
    if framing == "length":
        writer.write(HEAD + b"content-length: %d\r\n\r\n" % SIZE + body)
    elif framing == "close":
        writer.write(HEAD + b"connection: close\r\n\r\n" + body)
    else:
        small = b"10\r\n" + b"x" * 16 + b"\r\n"
        writer.write(
            HEAD + b"transfer-encoding: chunked\r\n\r\n" + small * (SIZE // 16) + b"0\r\n\r\n"
        )
    await writer.drain()
    writer.close()


async def _taken_in_each_turn(framing: str, *, at_once: bool) -> Counter[int]:
    """Bytes of the reply that were taken in each turn of the event loop."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await _flood(writer, framing)

    taken: Counter[int] = Counter()
    turn = 0
    is_over = False

    async def count_turns() -> None:
        nonlocal turn
        while not is_over:
            turn += 1
            await asyncio.sleep(0)

    def take(chunk: bytes) -> bool:
        taken[turn] += len(chunk)
        return True

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = HttpClient(Egress(allow_private=True))
    counting = asyncio.create_task(count_turns())
    request = WireRequest("GET", f"http://127.0.0.1:{port}/", (), b"")
    reply = await client.send("owner", request, Limits(10, 10))
    if at_once:
        reply.on_piece(take)
    while chunk := await reply.read():
        taken[turn] += len(chunk)
    is_over = True
    await counting
    await client.close()
    server.close()
    return taken


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("framing", ["length", "close", "chunked"])
@pytest.mark.parametrize("at_once", [True, False], ids=["at_once", "read"])
def test_a_flood_is_taken_in_small_steps(
    run: Callable[[Coroutine[Any, Any, Counter[int]]], Counter[int]], framing: str, at_once: bool
):
    taken = run(_taken_in_each_turn(framing, at_once=at_once))
    assert taken.total() == SIZE
    assert max(taken.values()) <= 2 * READ_BYTES
