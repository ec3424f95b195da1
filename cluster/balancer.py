"""A small load balancer: TCP connections go round the instances that say they are ready.

It looks at ``/readyz`` of each four times a second, gives a new connection to the next one that is
ready, and tries another if that one does not take it. It never looks into what passes, so an open
stream stays where it is. Where an instance ends a connection that rests, the client's is kept for a
moment: what it sends next was never read by anybody, and goes to another instance. What was sent to an
instance and not answered is never sent again: it may have been read. For trying out; a real
installation has its own.
"""

import asyncio
import contextlib
from collections.abc import Sequence

LOOK_SECONDS = 0.25
KEPT_SECONDS = 2.0
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
        with contextlib.suppress(OSError, TimeoutError):
            waiting = await reader.read(_PIECE)
            while waiting and (there := await self._connect()) is not None:
                way = _Way(reader, writer, *there)
                if not await way.pass_on(waiting):
                    break
                waiting = way.unsent
                if not waiting:
                    async with asyncio.timeout(KEPT_SECONDS):
                        waiting = await reader.read(_PIECE)
        writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """A connection to the next instance that takes one."""
        for _ in range(len(self.ports)):
            if not self.ready:
                break
            self._next += 1
            port = self.ready[self._next % len(self.ready)]
            try:
                return await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                self.ready = [one for one in self.ready if one != port]
        return None


class _Way:
    """From a client to one instance and back, until one of them ends it."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        back: asyncio.StreamWriter,
    ) -> None:
        self._client, self._to_client = reader, writer
        self._instance, self._to_instance = there, back
        self._is_answered = False
        self.unsent = b""

    async def pass_on(self, first: bytes) -> bool:
        """Pass everything on; whether the instance ended it while nothing was on its way."""
        self._to_instance.write(first)
        asking = asyncio.create_task(self._ask())
        try:
            while data := await self._instance.read(_PIECE):
                self._is_answered = True
                self._to_client.write(data)
                await self._to_client.drain()
        except OSError:
            self._is_answered = False
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            self._to_instance.close()
        return self._is_answered and not self._client.at_eof()

    async def _ask(self) -> None:
        while not self._instance.at_eof():
            data = await self._client.read(_PIECE)
            if not data:
                break
            if self._instance.at_eof():
                self.unsent = data
                return
            self._is_answered = False
            self._to_instance.write(data)
            await self._to_instance.drain()
        self._to_instance.close()


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
