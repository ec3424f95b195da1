"""An instance that ends drops no call of a client that sends back to back on a kept connection."""

import asyncio

import pytest

from tests.rig import Rig
from tests.system import test_money as money
from tests.waiting import until
from xairouter.gateway import resting

pytestmark = pytest.mark.own_rig
CLOSES = b"connection: close"
gate = money.gate


class Kept:
    """A client's connection."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    async def open(self) -> "Kept":
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._rig.port)
        return self

    def ask(self, model: str = "demo-large", *, stream: bool = False, whole: bool = True) -> None:
        body = b'{"model":"%b","stream":%b,"messages":[]}' % (
            model.encode(),
            b"true" if stream else b"false",
        )
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
            f"authorization: Bearer {self._rig.key}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + (body if whole else b""))
        self._left = b"" if whole else body

    def go_on(self) -> None:
        """Send the body of a request that was not whole."""
        self._writer.write(self._left)

    async def head(self) -> bytes:
        async with asyncio.timeout(60):
            return await self._reader.readuntil(b"\r\n\r\n")

    async def body(self, head: bytes) -> bytes:
        async with asyncio.timeout(60):
            if b"chunked" in head:
                return await self._reader.readuntil(b"\r\n0\r\n\r\n")
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            return await self._reader.readexactly(length)

    async def answer(self) -> bytes:
        """The head of the next reply, once it is whole; empty if the connection ends without one."""
        try:
            head = await self.head()
            await self.body(head)
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        return head

    async def rest(self) -> bytes:
        """What comes until the connection ends."""
        async with asyncio.timeout(60):
            return await self._reader.read()

    def close(self) -> None:
        self._writer.close()


class Waits:
    """In the place of what an instance that ends waits for: it goes on when the test says so."""

    def __init__(self, rig: Rig) -> None:
        self.is_over = asyncio.Event()
        self.seconds: list[float] = []
        rig.house.running.wait = self.wait

    async def wait(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await self.is_over.wait()


@pytest.fixture
def waits(rig: Rig) -> Waits:
    return Waits(rig)


@pytest.fixture(autouse=True)
def _no_connection_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resting, "MOMENT_SECONDS", 60.0)


@pytest.mark.parametrize("notice", [0.0, 3600.0])
async def test_a_stream_that_began_before_the_notice_may_be_followed_by_one_more_call(
    rig: Rig, waits: Waits, gate: money.Gate, notice: float
):
    await rig.add_provider_key()
    kept = await Kept(rig).open()
    kept.ask("fault-gate", stream=True)
    head = await kept.head()
    assert CLOSES not in head
    draining = asyncio.create_task(rig.house.running.drain(3600, notice))
    await until(lambda: rig.house.running.is_leaving)
    gate.go.set()
    await kept.body(head)
    kept.ask()
    told = await kept.answer()
    assert b" 200 OK" in told
    assert CLOSES in told
    assert await kept.rest() == b""
    waits.is_over.set()
    await draining
    assert (3600.0 in waits.seconds) is bool(notice)
    kept.close()
    records = await rig.records(expect=2)
    assert [row["outcome"] for row in records] == ["completed"] * 2


async def test_a_reply_that_begins_after_the_notice_says_so(rig: Rig, waits: Waits):
    await rig.add_provider_key()
    kept = await Kept(rig).open()
    kept.ask(whole=False)
    await until(lambda: rig._server.server_state.tasks)
    draining = asyncio.create_task(rig.house.running.drain(3600, 3600))
    await until(lambda: rig.house.running.is_leaving)
    kept.go_on()
    told = await kept.answer()
    assert b" 200 OK" in told
    assert CLOSES in told
    assert await kept.rest() == b""
    waits.is_over.set()
    await draining
    kept.close()


async def test_who_comes_anew_while_the_instance_ends_is_refused_and_so_is_everybody_after(
    rig: Rig, waits: Waits
):
    await rig.add_provider_key()
    kept, other, late = [await Kept(rig).open() for _ in range(3)]
    for one in (kept, late):
        one.ask()
        assert CLOSES not in await one.answer()
    draining = asyncio.create_task(rig.house.running.drain(3600))
    await until(lambda: rig.house.running.is_draining)
    other.ask()
    assert b" 503 " in await other.answer()
    kept.ask()
    assert b" 200 OK" in await kept.answer()
    waits.is_over.set()
    await draining
    late.ask()
    refused = await late.answer()
    assert b" 503 " in refused
    assert b"x-xairouter-error: draining" in refused
    for one in (kept, other, late):
        one.close()


async def test_a_connection_that_rests_ends_after_a_moment_and_not_before(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(resting, "MOMENT_SECONDS", 0.05)
    await rig.add_provider_key()
    resting_for_long, busy, unused = [await Kept(rig).open() for _ in range(3)]
    resting_for_long.ask()
    assert await resting_for_long.answer()
    await asyncio.sleep(0.1)
    busy.ask()
    assert await busy.answer()
    rig.house.running.is_leaving = True
    for connection in rig._server.server_state.connections:
        connection.shutdown()
    # Sent before the loop looks at any time again: however late it comes to that, it sees these first.
    busy.ask()
    unused.ask()
    for one in (busy, unused):
        told = await one.answer()
        assert b" 200 OK" in told
        assert CLOSES in told
    assert await resting_for_long.rest() == b""
    for one in (resting_for_long, busy, unused):
        one.close()


async def test_clients_that_never_pause_lose_no_call_to_a_server_that_ends(rig: Rig, waits: Waits):
    """A call is lost where a connection ends without an answer, and nothing had said that it would."""
    await rig.add_provider_key()
    lost: list[bytes] = []
    answered: list[bytes] = []
    told: list[Kept] = []
    has_noticed = False

    async def client() -> None:
        kept, is_told = await Kept(rig).open(), False
        while not is_told:
            kept.ask()
            head = await kept.answer()
            (answered if b" 200 OK" in head else lost).append(head)
            is_told = CLOSES in head or not head
        told.append(kept)
        kept.close()

    async def clients() -> None:
        while not has_noticed:
            await client()

    running = [asyncio.create_task(clients()) for _ in range(8)]
    await until(lambda: len(answered) >= 50)
    leaving = asyncio.create_task(rig.house.running.drain(3600, 3600))
    await until(lambda: len(told) >= 50)
    has_noticed = True  # The balancer, that is: nobody opens a connection any more.
    await asyncio.gather(*running)
    waits.is_over.set()
    await leaving
    assert lost == []
