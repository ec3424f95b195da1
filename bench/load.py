"""The client of the benchmarks: closed-loop load, open-loop latency, many streams at once.

Runs as a process of its own, ``python bench/load.py`` with its task as JSON on standard input, and
prints what it found as JSON. It speaks plain HTTP/1.1 and counts events by their empty lines.
"""

import asyncio
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httptools
import uvloop


@dataclass
class Task:
    """What to do. ``kind`` – closed or open loop, or idle connections. ``shape`` – whose API, below a
    ``prefix``. ``keys`` – a file of keys of which each call takes another one, in place of ``key``."""

    kind: str
    host: str
    port: int
    model: str
    key: str
    shape: str = "openai"
    prefix: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    keys: str | None = None
    calls: int = 1000
    connections: int = 32
    rate: float = 0.0
    body_bytes: int = 300
    stream: bool = False


@dataclass
class Found:
    """Calls answered with 200, others, events seen, seconds in all, latencies in milliseconds."""

    good: int = 0
    bad: int = 0
    events: int = 0
    seconds: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)


class Caller(asyncio.Protocol):
    """One connection that makes a call at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.done: asyncio.Future[int] | None = None
        self.events = 0

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self.done is not None and not self.done.done():
            self.done.set_result(0)

    def on_body(self, body: bytes) -> None:
        self.events += body.count(b"\n\n") + body.count(b"\r\n\r\n")

    def on_message_complete(self) -> None:
        if not self.parser.should_keep_alive():
            self.transport.close()
        if self.done is not None and not self.done.done():
            self.done.set_result(self.parser.get_status_code())

    def call(self, request: bytes) -> "asyncio.Future[int]":
        self.parser = httptools.HttpResponseParser(self)
        self.done = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self.done


PATHS = {
    "openai": "/v1/chat/completions",
    "image": "/v1/chat/completions",
    "embeddings": "/v1/embeddings",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/{model}:{verb}",
}


def document_of(task: Task) -> dict[str, Any]:
    """The body in its shape, without its text."""
    said: Any = ""
    match task.shape:
        case "gemini":
            return {"contents": [{"role": "user", "parts": [{"text": said}]}]}
        case "embeddings":
            return {"model": task.model, "input": ["y" * (task.body_bytes // 100)] * 100}
        case "image":
            link = {"url": "data:image/png;base64," + "A" * task.body_bytes}
            said = [{"type": "image_url", "image_url": link}]
    more = {"max_tokens": 1000} if task.shape == "anthropic" else {}
    messages = [{"role": "user", "content": said}]
    return {"model": task.model, "stream": task.stream, "messages": messages, **more}


def body_of(task: Task) -> bytes:
    """The body, as long as the task says."""
    document = document_of(task)
    text = "y" * max(1, task.body_bytes - len(json.dumps(document)))
    if task.shape == "gemini":
        document["contents"][0]["parts"][0]["text"] = text
    elif task.shape in ("openai", "anthropic"):
        document["messages"][0]["content"] = text
    return json.dumps(document).encode()


def request_of(task: Task, key: str) -> bytes:
    """The whole request."""
    verb = "streamGenerateContent?alt=sse" if task.stream else "generateContent"
    path = task.prefix + PATHS[task.shape].format(model=task.model, verb=verb)
    body = body_of(task)
    more = "".join(f"{name}: {value}\r\n" for name, value in task.headers.items())
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {task.host}:{task.port}\r\n"
        f"authorization: Bearer {key}\r\ncontent-type: application/json\r\n{more}"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def requests_of(task: Task) -> Iterator[bytes]:
    """The request of each call."""
    if task.keys is None:
        return itertools.repeat(request_of(task, task.key))
    keys = Path(task.keys).read_text().split()
    return itertools.cycle([request_of(task, key) for key in keys])


async def _callers(task: Task, count: int) -> list[Caller]:
    loop = asyncio.get_running_loop()
    made: list[Caller] = []
    for _ in range(count):
        _, caller = await loop.create_connection(Caller, task.host, task.port)
        made.append(caller)
    return made


async def closed(task: Task) -> Found:
    """Each connection makes its next call when the last one is answered."""
    found, requests = Found(), requests_of(task)
    callers = await _callers(task, task.connections)
    left = task.calls

    async def go(caller: Caller) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            began = time.perf_counter()
            status = await caller.call(next(requests))
            found.latencies_ms.append(round((time.perf_counter() - began) * 1000, 3))
            if status == 200:
                found.good += 1
            else:
                found.bad += 1
                if status == 0:
                    return
            if left > 0 and caller.transport.is_closing():
                (caller,) = await _callers(task, 1)

    began = time.perf_counter()
    await asyncio.gather(*(go(caller) for caller in callers))
    found.seconds = time.perf_counter() - began
    found.events = sum(caller.events for caller in callers)
    return found


async def open_loop(task: Task) -> Found:
    """Calls start when they are due, whatever became of the earlier ones; latency counts from
    when a call was due, so that a stall is seen by all that it held up."""
    found, requests = Found(), requests_of(task)
    idle: asyncio.Queue[Caller] = asyncio.Queue()
    for caller in await _callers(task, task.connections):
        idle.put_nowait(caller)
    start = time.perf_counter() + 0.1

    async def one(due: float) -> None:
        caller = await idle.get()
        if caller.transport.is_closing():  # Some servers close what rests for five seconds.
            (caller,) = await _callers(task, 1)
        status = await caller.call(next(requests))
        found.latencies_ms.append(round((time.perf_counter() - due) * 1000, 3))
        found.good += status == 200
        found.bad += status != 200
        if caller.transport.is_closing():
            (caller,) = await _callers(task, 1)
        idle.put_nowait(caller)

    tasks = []
    for number in range(task.calls):
        due = start + number / task.rate
        if due > time.perf_counter():
            await asyncio.sleep(due - time.perf_counter())
        tasks.append(asyncio.create_task(one(due)))
    await asyncio.gather(*tasks)
    found.seconds = time.perf_counter() - start
    return found


async def idle(task: Task) -> Found:
    """Connections that have made a call each and rest, for ``rate`` seconds."""
    requests = requests_of(task)
    found = Found()
    for caller in await _callers(task, task.connections):
        found.good += await caller.call(next(requests)) == 200
    print(found.good, file=sys.stderr, flush=True)
    await asyncio.sleep(task.rate)
    return found


async def main(task: Task) -> Found:
    if task.kind == "idle":
        return await idle(task)
    return await (open_loop(task) if task.kind == "open" else closed(task))


if __name__ == "__main__":
    said = json.dumps(asdict(uvloop.run(main(Task(**json.load(sys.stdin))))))
    # A loop may have left the pipe such that a long line does not go in at once.
    os.set_blocking(sys.stdout.fileno(), True)
    print(said, flush=True)
