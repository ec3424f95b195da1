"""A router in this process with a stand-in provider beside it, and a plain HTTP client."""

import asyncio
import json
import socket
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import aiohttp
import sqlalchemy as sa

from tests.servers import files_of, postgres_files, sqlite_database
from tests.waiting import until
from xairouter.app import House, make_server
from xairouter.manage.owners import Secrets, create_owner, delete_owner, list_owners
from xairouter.providers.prices import PriceList, compile_price_list
from xairouter.settings import Settings
from xairouter.standin.server import StandIn
from xairouter.storage import changes
from xairouter.storage.database import Database
from xairouter.storage.tables import metadata

SECRET = "sk-standin-A1b2C3d4E5f6G7h8J9k0"
DIALECTS = (
    "openai_chat",
    "openai_completions",
    "openai_responses",
    "openai_embeddings",
    "anthropic_messages",
    "gemini_generate",
)


@cache
def price_list() -> PriceList:
    """Compiled once for all tests of a process."""
    return compile_price_list()


@dataclass(frozen=True)
class Answer:
    """A whole HTTP reply."""

    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        return self.headers.get("x-xairouter-error")


@dataclass
class Rig:
    """The parts of a running installation."""

    house: House
    standin: StandIn
    standin_port: int
    port: int
    key: str
    owner_id: str
    recovery_code: str
    _server: Any
    _listening: socket.socket
    _ticks: asyncio.Task[None]
    session: aiohttp.ClientSession
    is_beside: bool = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def standin_url(self) -> str:
        return f"http://127.0.0.1:{self.standin_port}"

    def endpoints(self, *dialects: str) -> dict[str, str]:
        """The stand-in's base URLs, as each dialect's SDK takes them."""
        return {
            name: self.standin_url + ("/v1" if name.startswith("openai") else "")
            for name in dialects or DIALECTS
        }

    async def ask(
        self, method: str, path: str, body: Any = None, *, key: str | None = "", **headers: str
    ) -> Answer:
        """One request; ``key`` "" is the owner's, None sends none."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent.setdefault("authorization", f"Bearer {key or self.key}")
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        async with self.session.request(
            method, self.url + path, data=data, headers=sent, allow_redirects=False
        ) as reply:
            return Answer(
                reply.status, {k.lower(): v for k, v in reply.headers.items()}, await reply.read()
            )

    async def add_provider_key(self, *, key: str = "", verify: bool = False, **fields: Any) -> Any:
        """Add a provider key to the stand-in for all dialects; returns its view."""
        body = {
            "name": "standin",
            "endpoints": self.endpoints(),
            "secret": SECRET,
            "models": ["*"],
            **fields,
        }
        answer = await self.ask(
            "POST", f"/api/v1/provider-keys?verify={str(verify).lower()}", body, key=key
        )
        assert answer.status == 201, answer.body
        return answer.json()

    async def add_account(self, name: str = "team", *, key: str = "", **fields: Any) -> Any:
        """Make a sub-account; the answer has the account, its first key and that key's secret."""
        made = await self.ask("POST", "/api/v1/accounts", {"name": name, **fields}, key=key)
        assert made.status == 201, made.body
        return made.json()

    async def new_owner(self, name: str) -> Any:
        return await _new_owner(self.house, name)

    async def records(self, *, key: str = "", expect: int | None = None, query: str = "") -> Any:
        """Usage records, newest first, once everything finished is stored."""
        items: list[Any] = []
        for _ in range(3000):
            await self.house.drain.drain()
            # The journal is empty when the last finished call is stored, whoever stores it.
            if self.house.journal.size == 0 or expect is not None:
                answer = await self.ask("GET", f"/api/v1/usage/records?limit=500{query}", key=key)
                items = answer.json()["items"]
                if expect is None or len(items) >= expect:
                    break
            await asyncio.sleep(0.02)
        if expect is not None:
            assert len(items) == expect, items
        return items

    async def record(self, *, key: str = "") -> Any:
        """The only usage record there is."""
        return (await self.records(expect=1, key=key))[0]

    async def caught_up(self) -> None:
        """Until every change made so far is known here: what is loaded after that stays, and is there
        when the database is away."""
        async with self.house.database.read() as connection:
            last = await changes.last_seq(connection)
        await until(lambda: self.house.directory._known_to >= last)

    async def chat(self, model: str = "demo-large", *, key: str = "", **fields: Any) -> Answer:
        """One chat completion."""
        body = {"model": model, "messages": [{"role": "user", "content": "hello there"}], **fields}
        return await self.ask("POST", "/v1/chat/completions", body, key=key)

    async def raw(self, data: bytes, *, wait: float = 5.0) -> bytes:
        """Send bytes as they are; everything that comes back until the end of the connection, or
        until nothing has come behind it for so long that this process was awake."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        found = b""
        try:
            async with asyncio.timeout(120):
                found = await reader.read(65536)
            while found and (chunk := await _soon(reader, wait)):
                found += chunk
        except TimeoutError:
            pass
        finally:
            writer.close()
        return found

    async def sql(self, *statements: tuple[str, tuple[Any, ...]] | str) -> list[tuple[Any, ...]]:
        """Run statements beside the router, as somebody with the database in hand would.

        A ``?`` stands for the next value. Returns the last statement's rows, if it has any.
        """
        database = Database(self.house.settings.effective_database_url)
        rows: list[tuple[Any, ...]] = []
        try:
            async with database.write() as connection:
                for one in statements:
                    text, values = (one, ()) if isinstance(one, str) else one
                    for number in range(len(values)):
                        text = text.replace("?", f":v{number}", 1)
                    bound = {f"v{number}": value for number, value in enumerate(values)}
                    done = await connection.execute(sa.text(text), bound)
                    rows = [tuple(row) for row in done] if done.returns_rows else []
        finally:
            await database.close()
        return rows

    async def copy_database(self, copy: Path) -> None:
        """Everything in the database as an SQLite file, as a backup would take it."""
        target = sa.create_engine(f"sqlite:///{copy}")
        metadata.create_all(target)
        async with self.house.database.read() as connection:
            for table in metadata.sorted_tables:
                rows = [
                    dict(row) for row in (await connection.execute(sa.select(table))).mappings()
                ]
                with target.begin() as other:
                    if rows:
                        other.execute(table.insert(), rows)
        target.dispose()

    async def files(self) -> dict[str, bytes]:
        """Every file in which something may be stored: data directory and database."""
        url = self.house.settings.database_url
        found = files_of(self.house.settings.data_dir)
        return found | await asyncio.to_thread(postgres_files, url) if url else found

    async def with_new_owner(self) -> "Rig":
        """The same router with an owner, a stand-in and client connections of a test's own."""
        made = await _new_owner(self.house, "acme")
        standin = StandIn()
        return replace(
            self,
            standin=standin,
            standin_port=await standin.start(),
            key=made.api_key,
            owner_id=made.account.id,
            recovery_code=made.recovery_code or "",
            session=_client(),
        )

    async def delete_owners(self) -> None:
        """Leave the installation without owners, as a new one is."""
        for owner in await list_owners(self.house.database):
            await delete_owner(self.house.database, owner.id)
            await self.house.directory.changed(owner.id)

    async def leave(self) -> None:
        """Undo ``with_new_owner``; the router goes on."""
        await self.session.close()
        await self.standin.stop()
        await self.delete_owners()

    async def stop(self) -> None:
        await self.session.close()
        # What uvicorn's own loop and the reading of changes would notice at their next look, a
        # tenth and a quarter of a second later.
        self._ticks.cancel()
        await self._server.shutdown(sockets=[self._listening])
        self.house._stop.set()
        self.house.directory._hurry.set()
        await self.house.stop()
        if not self.is_beside:
            await self.standin.stop()


async def _soon(reader: asyncio.StreamReader, seconds: float) -> bytes:
    """The next bytes, empty at the end of the connection; raises TimeoutError after so many twentieths
    of a second without any. In each of them the loop has looked: a machine that stands still for
    seconds uses up one."""
    coming = asyncio.ensure_future(reader.read(65536))
    try:
        for _ in range(max(1, round(seconds * 20))):
            await asyncio.wait({coming}, timeout=0.05)
            if coming.done():
                return coming.result()
        raise TimeoutError
    finally:
        coming.cancel()


async def _new_owner(house: House, name: str) -> Secrets:
    return await create_owner(house.database, house.room.witness, name, None, seen_by_operator=True)


def _client() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(connector=connector, auto_decompress=True)


async def start_rig(data_dir: Path, *, beside: Rig | None = None, **settings: Any) -> Rig:
    """Start a router on a free port; ``beside`` another one of the same installation, it knows the
    same owner and stand-in."""
    options: dict[str, Any] = {"allow_private_providers": True, "port": 0, **settings}
    settings_made = Settings(data_dir=data_dir, **options)
    if not settings_made.database_url:
        sqlite_database(data_dir / "xairouter.db")
    house = House(settings_made, price_list())
    await house.start()
    if beside is None:
        made = await _new_owner(house, "acme")
        known = made.api_key, made.account.id, made.recovery_code or ""
        standin = StandIn()
        standin_port = await standin.start()
    else:
        known = beside.key, beside.owner_id, beside.recovery_code
        standin, standin_port = beside.standin, beside.standin_port
    server, bound = make_server(house, partial(house.running.drain, 0.2))
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup(sockets=[bound])
    return Rig(
        house,
        standin,
        standin_port,
        int(bound.getsockname()[1]),
        *known,
        server,
        bound,
        asyncio.create_task(server.main_loop()),
        _client(),
        is_beside=beside is not None,
    )
