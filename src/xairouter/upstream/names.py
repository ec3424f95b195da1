"""From a host's name to addresses: look-ups in threads, remembered for a while, bounded per pool."""

import asyncio
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

AddressInfo = tuple[Any, Any, int, str, tuple[Any, ...]]
"""As ``socket.getaddrinfo`` gives it: family, kind, protocol, canonical name, address."""

DEADLINE_SECONDS = 5
AT_ONCE = 4
KEPT_SECONDS = 30
MOST_KEPT = 256


class UnknownNameError(Exception):
    """A name has no address, or none came in time."""


class Threads:
    """The threads in which names are looked up, shared by all pools; made when first needed."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def get(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(16, thread_name_prefix="resolve")
        return self._pool

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


class Names:
    """The names of one pool. Few look-ups at once and a deadline for each, so that one owner's slow
    names hold up nobody else."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._known: dict[tuple[str, int], tuple[float, list[AddressInfo]]] = {}

    async def resolve(self, host: str, port: int) -> list[AddressInfo]:
        """The addresses of a host, at least one; raises UnknownNameError."""
        known = self._known.get((host, port))
        now = time.monotonic()
        if known is not None and now < known[0]:
            return known[1]
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found: list[AddressInfo] = []
        try:
            async with asyncio.timeout(DEADLINE_SECONDS), self._slots:
                loop = asyncio.get_running_loop()
                found = await loop.run_in_executor(self._threads.get(), look_up)
        except (OSError, UnicodeError):
            found = []
        if not found:
            raise UnknownNameError
        if len(self._known) >= MOST_KEPT:
            self._known.clear()
        self._known[host, port] = now + KEPT_SECONDS, found
        return found
