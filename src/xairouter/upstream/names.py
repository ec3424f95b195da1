"""From a host's name to addresses: look-ups in threads, shared out among owners, remembered for a while.

A thread waits in the system's resolver for as long as that pleases, also when nobody waits for its
answer any more. So it counts as its owner's until it has ended, and an owner has a few of them.
"""

import asyncio
import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

from xairouter.turns import Places
from xairouter.upstream.shortage import is_local_shortage

AddressInfo = tuple[Any, Any, int, str, tuple[Any, ...]]
"""As ``socket.getaddrinfo`` gives it: family, kind, protocol, canonical name, address."""

DEADLINE_SECONDS = 5
MOST_THREADS = 64
COMMON_THREADS = 32
"""While so many are busy, an owner gets one only if it has none."""
AT_ONCE = 4
KEPT_SECONDS = 30
UNKNOWN_SECONDS = 3
"""So long a name that has no address, or whose look-up took too long, is not looked up again."""
MOST_KEPT = 256


class UnknownNameError(Exception):
    """A name has no address, or none came in time."""


class Threads:
    """The threads in which names are looked up, shared by all pools; made when first needed."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._places = Places(MOST_THREADS, AT_ONCE, COMMON_THREADS)

    async def look_up(self, whose: str, host: str, port: int) -> list[AddressInfo]:
        """Ask the system; raises what ``getaddrinfo`` does, and RuntimeError where no thread can be
        started. Who gives up waiting leaves the thread to its owner until it ends."""
        await self._places.take(whose)
        job: Future[list[AddressInfo]] | None = None
        try:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="resolve")
            job = self._pool.submit(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        finally:
            if job is None:
                self._places.give_back(whose)
        job.add_done_callback(partial(self._ended, asyncio.get_running_loop(), whose))
        return await asyncio.wrap_future(job)

    def _ended(self, loop: asyncio.AbstractEventLoop, whose: str, _job: object) -> None:
        """In the thread: its place is free again, if there still is a loop that cares."""
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._places.give_back, whose)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


class Names:
    """The names of one pool, each looked up once at a time, with a deadline."""

    def __init__(self, threads: Threads, whose: str) -> None:
        self._threads = threads
        self._whose = whose
        self._known: dict[tuple[str, int], tuple[float, list[AddressInfo]]] = {}
        self._asked: dict[tuple[str, int], asyncio.Task[list[AddressInfo]]] = {}

    async def resolve(self, host: str, port: int) -> list[AddressInfo]:
        """The addresses of a host, at least one; raises UnknownNameError."""
        name = host, port
        known = self._known.get(name)
        if known is not None and time.monotonic() < known[0]:
            found = known[1]
        else:
            task = self._asked.get(name)
            if task is None:
                task = self._asked[name] = asyncio.create_task(self._ask(*name))
                task.add_done_callback(partial(self._answered, name))
            # Others may wait for the same answer.
            found = await asyncio.shield(task)
        if not found:
            raise UnknownNameError
        return found

    async def _ask(self, host: str, port: int) -> list[AddressInfo]:
        """Look a name up, and remember what came of it; empty if it has no address."""
        found: list[AddressInfo] = []
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                found = await self._threads.look_up(self._whose, host, port)
        except (OSError, UnicodeError) as error:
            if is_local_shortage(error):
                return []
        if len(self._known) >= MOST_KEPT:
            self._known.clear()
        kept = KEPT_SECONDS if found else UNKNOWN_SECONDS
        self._known[host, port] = time.monotonic() + kept, found
        return found

    def _answered(self, name: tuple[str, int], task: asyncio.Task[list[AddressInfo]]) -> None:
        del self._asked[name]
        if not task.cancelled():
            task.exception()  # Whoever waits for it is told; nobody has to.
