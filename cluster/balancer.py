"""A small load balancer: TCP connections go round the instances that say they are ready.

It looks at ``/readyz`` of each four times a second, gives a new connection to the next one that is
ready, and tries another if that one does not take it. It never looks into what passes, so an open
stream stays where it is. For trying out; a real installation has its own.
"""

import asyncio
import contextlib
from collections.abc import Sequence

LOOK_SECONDS = 0.25
_PIECE = 64 * 1024


class Balancer:
    """In front of instances on ports of this machine."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.ports = list(ports)
        self.ready: list[int] = []
        self._next = 0
        self._looking: asyncio.Task[None] | None = None
        self._server: asyncio.Server | None = None

    async def start(self, port: int = 0) -> int:
        """Listen on loopback; returns the port."""
        await self._look()
        self._looking = asyncio.create_task(self._keep_looking())
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, backlog=2048)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        if self._server is not None:
            self._server.close()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self._look()

    async def _look(self) -> None:
        answers = await asyncio.gather(*(_is_ready(port) for port in self.ports))
        self.ready = [port for port, well in zip(self.ports, answers, strict=True) if well]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(len(self.ports)):
            if not self.ready:
                break
            self._next += 1
            port = self.ready[self._next % len(self.ready)]
            try:
                there, back = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                self.ready = [one for one in self.ready if one != port]
                continue
            await asyncio.gather(_pour(reader, back), _pour(there, writer))
            return
        writer.close()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_PIECE):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()


async def _is_ready(port: int) -> bool:
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(1):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"GET /readyz HTTP/1.1\r\nhost: balancer\r\nconnection: close\r\n\r\n")
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    return False
