"""What a call takes, counted instead of timed: the figures are the same however busy the machine is.

``python bench/counts.py`` prints the bytecodes and Python calls of a JSON call governed by a tree of
three, and of a streamed event, by module. ``--valgrind`` adds the machine's instructions of the JSON
call by library, as callgrind counts them: the difference of two runs, so that the start is left out.
The whole path in Python runs, from the server protocol's bytes to the drained ledger; the two ends of
the network are stand-ins in the same process, which leaves out the kernel.
"""

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import uvloop
from stages import reply_body, request_body, set_up

from xairouter import turns
from xairouter.app import House, make_server
from xairouter.settings import load
from xairouter.upstream.connection import Connection
from xairouter.upstream.http_client import HttpClient

CONNECTIONS = 16
EVENTS = 100
BODY = reply_body()
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\nx-request-id: req_1\r\n%b\r\n\r\n"
JSON_REPLY = HEAD % (b"application/json", b"content-length: %d" % len(BODY)) + BODY
STREAM_HEAD = HEAD % (b"text/event-stream", b"transfer-encoding: chunked")
EVENT = b'data: {"id":"c-1","choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % (b"x" * 200)
CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
LAST_CHUNK = b"0\r\n\r\n"


class _End:
    """One end of a network that is not there: a transport that takes everything."""

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        address = {"peername": ("127.0.0.1", 5), "sockname": ("127.0.0.1", 8080)}
        return address.get(name, default)

    def close(self, *_: Any) -> None:
        """Nothing is open."""

    abort = pause_reading = resume_reading = set_protocol = close


class Provider(_End):
    """Answers whatever is written, in the loop's next turn: with one reply, or event by event."""

    def __init__(self, connection: Connection, *, streams: bool) -> None:
        self._connection, self._streams = connection, streams
        self._loop = asyncio.get_running_loop()

    def write(self, data: bytes) -> None:
        pieces = (STREAM_HEAD, *(CHUNK,) * EVENTS, LAST_CHUNK) if self._streams else (JSON_REPLY,)
        self._loop.call_soon(self._send, iter(pieces))

    def _send(self, pieces: Iterator[bytes]) -> None:
        piece = next(pieces, None)
        if piece is not None:
            self._connection.get_buffer(-1)[: len(piece)] = piece
            self._connection.buffer_updated(len(piece))
            self._loop.call_soon(self._send, pieces)


class Client(_End):
    """Sends its request again as soon as the reply is whole, as long as ``more`` says so."""

    def __init__(self, request: bytes, last: bytes, more: Callable[[], bool]) -> None:
        self._request, self._last, self._more = request, last, more
        self.protocol: Any = None

    def write(self, data: bytes) -> None:
        if data.endswith(self._last) and self._more():
            self.send()

    def send(self) -> None:
        asyncio.get_running_loop().call_soon(self._deliver)

    def _deliver(self) -> None:
        """As an event loop hands over what it has read."""
        size = len(self._request)
        self.protocol.get_buffer(-1)[:size] = self._request
        self.protocol.buffer_updated(size)


class Counting:
    """Bytecodes and calls of everything in Python that runs while it ``is_on``, in all threads."""

    def __init__(self) -> None:
        self.is_on = False
        self.codes: Counter[CodeType] = Counter()
        self.calls = 0

    def begin(self) -> None:
        """From now on, new frames are watched."""
        threading.settrace(self._trace)
        sys.settrace(self._trace)

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            self.calls += self.is_on
        elif event == "opcode" and self.is_on:
            self.codes[frame.f_code] += 1
        return self._trace

    def by_module(self) -> Counter[str]:
        """Bytecodes by the module's path, shortened."""
        found: Counter[str] = Counter()
        here = str(Path(__file__).parent)
        for code, count in self.codes.items():
            if not code.co_filename.startswith(here):
                found[re.sub(r".*/(?:site-packages|src|python3\.\d+)/", "", code.co_filename)] += (
                    count
                )
        return found


async def make_calls(count: int, *, streams: bool, counting: Counting | None = None) -> None:
    """A router without a network, and so many calls through it, after some that warm it up."""

    async def opened(self: HttpClient, pool: Any, place: Any) -> Connection:
        connection = Connection(lambda one: self._keep(pool, place, one), set())
        connection.connection_made(Provider(connection, streams=streams))  # type: ignore[arg-type]
        return connection

    async def forever() -> None:
        await asyncio.Event().wait()

    HttpClient._open_connection = opened  # type: ignore[method-assign]
    # While it is counted, each step takes as long as only what is long does otherwise.
    turns.FREE_SECONDS = turns.SLICE_SECONDS = 3600.0
    with tempfile.TemporaryDirectory(prefix="bench-counts-") as folder:
        house = House(load(data_dir=Path(folder), allow_private_providers=True, port=0))
        await house.start()
        _, key = await set_up(house)
        # A traced call is slow: by the real clock, frames of its progress would be counted as well.
        house.running.now = partial(float, 1000.0)
        for loop in house._loops:
            loop.cancel()  # What goes on by the clock is no call's.
        server, bound = make_server(house, forever)
        config = server.config
        config.load()
        body = request_body()
        if streams:
            body = body.replace(b"{", b'{"stream": true, ', 1)
        request = (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:8080\r\n"
            b"authorization: Bearer %b\r\ncontent-type: application/json\r\n"
            b"user-agent: OpenAI/Python 2.9\r\ncontent-length: %d\r\n\r\n%b"
        ) % (key.encode(), len(body), body)

        async def go(calls: int) -> None:
            left, done = calls, asyncio.Event()

            def more() -> bool:
                nonlocal left
                left -= 1
                if left <= 0:
                    done.set()
                return left >= CONNECTIONS

            for _ in range(min(CONNECTIONS, calls)):
                client = Client(request, LAST_CHUNK if streams else BODY, more)
                client.protocol = config.http_protocol_class(  # type: ignore[call-arg]
                    config=config,
                    server_state=server.server_state,
                    app_state={},
                    _loop=asyncio.get_running_loop(),
                )
                client.protocol.connection_made(client)
                client.send()
            await done.wait()
            await house.drain.drain()

        await go(CONNECTIONS * 10)
        if counting is not None:
            counting.is_on = True
        await go(count)
        if counting is not None:
            counting.is_on = False
        bound.close()
        await house.stop()


def bytecodes(count: int, *, streams: bool) -> tuple[Counter[str], float]:
    """Bytecodes by module and Python calls, both of one call."""
    counting = Counting()
    counting.begin()
    uvloop.run(make_calls(count, streams=streams, counting=counting))
    sys.settrace(None)
    return Counter({m: n // count for m, n in counting.by_module().items()}), counting.calls / count


def instructions() -> Counter[str]:
    """The machine's instructions of one JSON call, by library."""
    few, many = 300, 1300
    found: list[Counter[str]] = []
    with tempfile.TemporaryDirectory(prefix="bench-callgrind-") as folder:
        for count in (few, many):
            into = f"{folder}/{count}"
            command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={into}"]
            ran = [*command, sys.executable, __file__, "--calls", str(count)]
            subprocess.run(ran, check=True, capture_output=True)
            told = subprocess.run(
                ["callgrind_annotate", "--threshold=100", into],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            by_library: Counter[str] = Counter()
            for line in re.finditer(r"^ *([\d,]+) \([^)]*\) +(\S*:.*)$", told, re.MULTILINE):
                named = re.search(r"\[(?:.*/)?(.*)\]$", line[2])
                # What a compiler put into its callers is named by its source alone.
                library = named[1] if named else "the interpreter, inlined"
                by_library[library] += int(line[1].replace(",", ""))
            found.append(by_library)
    less, more = found
    return Counter({name: (more[name] - less[name]) // (many - few) for name in more})


def show(title: str, counts: Counter[str], most: int = 14) -> None:
    print(f"\n{title}: {sum(counts.values()):,}")
    for name, count in counts.most_common(most):
        print(f"  {count:>9,}  {name}")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--valgrind", action="store_true", help="count the machine's instructions")
    asked.add_argument("--calls", type=int, help="only make so many calls")
    given = asked.parse_args()
    if given.calls is not None:
        uvloop.run(make_calls(given.calls, streams=False))
        return
    by_module, calls = bytecodes(500, streams=False)
    show(f"bytecodes of a JSON call ({calls:.0f} Python calls)", by_module)
    streamed, calls_streamed = bytecodes(50, streams=True)
    streamed.subtract(by_module)
    event = Counter({name: round(count / EVENTS) for name, count in streamed.items()})
    more = (calls_streamed - calls) / EVENTS
    show(f"bytecodes of a streamed event ({more:.1f} Python calls)", +event)
    if given.valgrind:
        show("instructions of a JSON call, by library", instructions())


if __name__ == "__main__":
    main()
