"""What instances tell each other, so that none waits for its next look into the database.

Whoever reads the ``changes`` table tells the others what it read, from which number to which. So a
message says both what to forget and how far its reader has come: an instance that hears an unbroken
run of numbers knows as much as one that reads the table itself, and one that hears a gap knows that
it missed something. Beside that, what calls have found out about the health of provider keys.

Messages only ever make others forget, or try a key later: who can write them can slow an
installation down, and open nothing.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from xairouter.domain.failures import Cause
from xairouter.errors import StorageError
from xairouter.observe import log
from xairouter.storage.valkey import answered, valkey_client

CHANNEL = "xairouter:bus:1"
HEARTBEAT_SECONDS = 0.5
ALIVE_SECONDS = 3.0
RETRY_SECONDS = 0.5
MOST_WAITING = 10_000


class Changed(msgspec.Struct, frozen=True, tag="c", array_like=True):
    """The sender has read the changes behind ``after`` up to ``to``: they are of these owners.
    Without owners it is a heartbeat."""

    sender: str
    after: int
    to: int
    owners: tuple[str, ...] = ()


class Ailing(msgspec.Struct, frozen=True, tag="a", array_like=True):
    """A provider key failed at the sender; fields as in ``policy.health.Ailment``, ``wait`` and
    ``lasted`` in seconds from now."""

    sender: str
    owner_id: str
    key_id: str
    scope: str
    cause: Cause
    sleeps: bool
    wait: float
    lasted: float
    count: int
    revision: int


class Well(msgspec.Struct, frozen=True, tag="w", array_like=True):
    """A provider key serves again at the sender: this model and the key as a whole; all of it
    where ``scope`` is None."""

    sender: str
    key_id: str
    scope: str | None = None


Message = Changed | Ailing | Well
Listener = Callable[[Message], None]
"""Must not wait: the next message, a heartbeat perhaps, is behind it."""
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Message)


class Bus(Protocol):
    """Tells all other instances, and hears them."""

    instance: str

    def tell(self, message: Message) -> None:
        """Send a message soon; never waits, and may be lost."""

    def listen(self, listener: Listener) -> None:
        """Ask to be given every message of another instance."""

    @property
    def others(self) -> int:
        """Other instances that were heard within the last three seconds, or when all were last
        heard."""

    @property
    def is_up(self) -> bool:
        """Whether messages come through, as far as is known."""

    async def run(self, stop: asyncio.Event) -> None:
        """Send and hear until told to stop."""

    async def close(self) -> None: ...


class NoBus:
    """For an installation of one instance: nobody to tell."""

    others = 0
    is_up = False

    def __init__(self, instance: str = "inst_alone") -> None:
        self.instance = instance

    def tell(self, message: Message) -> None:
        """Nobody hears it."""

    def listen(self, listener: Listener) -> None:
        """Nobody speaks."""

    async def run(self, stop: asyncio.Event) -> None:
        await stop.wait()

    async def close(self) -> None:
        """Nothing is open."""


class ValkeyBus:
    """Publish and subscribe on one channel of Valkey or Redis."""

    def __init__(
        self, url: str, instance: str, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.instance = instance
        self._client = valkey_client(url)
        self._now = monotonic
        self._listeners: list[Listener] = []
        self._waiting: asyncio.Queue[Message] = asyncio.Queue(MOST_WAITING)
        self._heard_at: dict[str, float] = {}
        self.is_up = False

    @property
    def state(self) -> str:
        """In words, for ``/readyz``."""
        return f"{self.others} other instances" if self.is_up else "away"

    @property
    def others(self) -> int:
        now = self._now()
        if not self.is_up:
            # Who is not heard may well be alive: count as when the line went dead.
            return len(self._heard_at)
        for sender in [s for s, at in self._heard_at.items() if now - at > ALIVE_SECONDS]:
            del self._heard_at[sender]
        return len(self._heard_at)

    def tell(self, message: Message) -> None:
        # A full queue means that the server is away; the others then look for themselves.
        with contextlib.suppress(asyncio.QueueFull):
            self._waiting.put_nowait(message)

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    async def run(self, stop: asyncio.Event) -> None:
        work = [asyncio.create_task(self._send()), asyncio.create_task(self._hear())]
        try:
            await stop.wait()
        finally:
            left = set(work)
            while left:
                for task in left:
                    task.cancel()
                # One that comes while the library gives a connection up may be lost in it: once more.
                _, left = await asyncio.wait(left, timeout=RETRY_SECONDS)

    async def close(self) -> None:
        await self._client.aclose()

    async def _send(self) -> None:
        while True:
            message = await self._waiting.get()
            try:
                sent = self._client.publish(CHANNEL, _ENCODER.encode(message))
                await answered(sent, "The bus cannot be reached now")
            except StorageError:
                # What is old by the time the server is back would only mislead.
                while not self._waiting.empty():
                    self._waiting.get_nowait()
                await asyncio.sleep(RETRY_SECONDS)

    async def _hear(self) -> None:
        while True:
            try:
                await answered(self._hear_while_connected(), "The bus cannot be heard now")
            except StorageError as error:
                if self.is_up:
                    log.warning("bus_away", reason=str(error))
            self.is_up = False
            await asyncio.sleep(RETRY_SECONDS)

    async def _hear_while_connected(self) -> None:
        async with self._client.pubsub() as heard:
            await heard.subscribe(CHANNEL)
            while True:
                got: Any = await heard.get_message(timeout=1.0)
                if got is None:
                    # Our own heartbeats come back as well: silence is a line that is dead.
                    self.is_up = False
                    await heard.ping()
                elif got["type"] == "message":
                    self.is_up = True
                    self._take(got["data"])

    def _take(self, data: bytes) -> None:
        try:
            message = _DECODER.decode(data)
        except msgspec.MsgspecError:
            return
        if message.sender == self.instance:
            return
        self._heard_at[message.sender] = self._now()
        for listener in self._listeners:
            try:
                listener(message)
            except Exception as error:  # noqa: BLE001 -- a background loop outlives every failure
                log.warning("bus_message_failed", reason=str(error))
