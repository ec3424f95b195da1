"""What a router does with replies that are dear to read is taken in turns of their owners.

Counted, not timed: by the clock of these tests each look at it takes a second, so that every step counts
as long. Many replies of one owner come in the same round of the event loop.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.unit.custody.test_sending import OUTBOUND, VAULT, Scripted, _row
from xairouter.custody import withhold
from xairouter.custody.room import Strongroom
from xairouter.custody.witness import Witness
from xairouter.dialects import meter
from xairouter.dialects.table import DIALECTS
from xairouter.gateway.relay import relay
from xairouter.upstream.interface import Headers, Limits, Reply
from xairouter.upstream.reply import HttpReply

MANY = 12
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n'


class Rounds:
    """How much was done in each round of the event loop."""

    def __init__(self) -> None:
        self.now = 0
        self.done: Counter[int] = Counter()

    def counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def count(*given: Any) -> Any:
            self.done[self.now] += 1
            return function(*given)

        return count

    async def go_on(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.now += 1


@pytest.fixture
async def rounds(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rounds]:
    clock = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    counting = Rounds()
    task = asyncio.create_task(counting.go_on())
    yield counting
    task.cancel()


class _Source:
    def resume(self) -> None:
        """It is not paused."""

    abandon = resume


class _Link:
    """A client that reads everything at once."""

    def __init__(self) -> None:
        self.flow = SimpleNamespace(write_paused=False)
        self.is_full = False
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def flush(self) -> None:
        pass


class _Sampler:
    size = staticmethod(int)

    def keep(self, piece: bytes) -> None:
        pass


def _relayed(owner: str, *, strips: bool) -> tuple[HttpReply, _Link, asyncio.Task[None]]:
    """A stream of an owner's that passes through the relay."""
    clock = itertools.count()
    reply = HttpReply(_Source(), 200, (("content-type", "text/event-stream"),))
    link = _Link()
    talk = SimpleNamespace(link=link, start=lambda *_: None, end=link.write)
    caller = SimpleNamespace(owner_id=owner)
    call = SimpleNamespace(
        identity=SimpleNamespace(caller=caller), touched_at=0.0, patience=None, over=lambda: None
    )
    watcher = SimpleNamespace(
        now=lambda: float(next(clock)), due=1e9, sampler=_Sampler(), see=lambda _: None
    )
    reading = meter.Meter(DIALECTS["openai_chat"], "text/event-stream", "")
    passing = relay(
        reply, cast(Any, talk), reading, cast(Any, call), cast(Any, watcher), strip_usage=strips
    )
    return reply, link, asyncio.create_task(passing)


@pytest.mark.parametrize("strips", [False, True])
@pytest.mark.parametrize("events", [1, 12, 200], ids=["small", "at_once", "in_parts"])
async def test_dear_events_on_many_connections_are_read_in_turns(
    rounds: Rounds, monkeypatch: pytest.MonkeyPatch, events: int, strips: bool
):
    monkeypatch.setattr(meter, "_absorb", rounds.counted(meter._absorb))
    calls = [_relayed("a", strips=strips) for _ in range(MANY)]
    await asyncio.sleep(0)  # Each waits for its first piece.
    for _ in range(3):
        for reply, _, _ in calls:
            reply.chunks.append(USAGE * events)
            reply.wake()
        await asyncio.sleep(0)
    for reply, _, _ in calls:
        reply.end()
    await asyncio.gather(*(task for _, _, task in calls))
    assert rounds.done.total() == 3 * MANY * events
    # Of one reply at most what one step reads, whatever other connections bring: the first slice of
    # this owner, and one in its turn.
    most = max(1, min(events, meter.AT_ONCE // len(USAGE)))
    assert max(rounds.done.values()) <= 2 * most
    assert all(link.written == (b"" if strips else USAGE * events * 3) for _, link, _ in calls)


async def test_dear_events_of_one_owner_do_not_keep_another_s_waiting(
    rounds: Rounds, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(meter, "_absorb", rounds.counted(meter._absorb))
    dear = [_relayed("a", strips=False) for _ in range(MANY)]
    quiet, link, passing = _relayed("b", strips=False)
    await asyncio.sleep(0)
    for reply, _, _ in dear:
        reply.chunks.append(USAGE * 200)
        reply.wake()
    await asyncio.sleep(0)
    since = rounds.now
    quiet.chunks.append(USAGE)
    quiet.wake()
    while not link.written:
        await asyncio.sleep(0)
    assert rounds.now - since <= 4
    for reply in (quiet, *(reply for reply, _, _ in dear)):
        reply.end()
    await asyncio.gather(passing, *(task for _, _, task in dear))


class _Error:
    """An error whose text says much under many layers."""

    status = 500
    headers: Headers = ()

    def __init__(self) -> None:
        self._left = [b"%25412541" * 800 + b"QUJD" * 800]

    async def read(self) -> bytes:
        return self._left.pop() if self._left else b""

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("size", [26, 4000])
async def test_errors_in_which_secrets_are_searched_are_read_in_turns(
    rounds: Rounds, monkeypatch: pytest.MonkeyPatch, size: int
):
    search = withhold.Search
    monkeypatch.setattr(search, "_is_in", rounds.counted(search._is_in))
    row = _row("pk_1", b"sk-proj-" + bytes(97 + at * at % 23 for at in range(size)))
    client = Scripted(*(cast(Reply, _Error()) for _ in range(MANY)))
    room = Strongroom(client, Witness(None))
    sent = [
        asyncio.create_task(room.send(OUTBOUND, row, VAULT, Limits(1, 1), ())) for _ in range(MANY)
    ]
    for answer in await asyncio.gather(*sent):
        assert answer.status == 500
    assert rounds.done.total() > 5 * MANY
    assert max(rounds.done.values()) <= 2


async def test_a_long_secret_is_looked_for_in_steps():
    """Each step goes through so many characters, however long secret and text are."""
    text = bytes(97 + at * at % 23 for at in range(withhold.SEARCHED_BYTES))
    for length in (100, 1000, 8000):
        one = withhold.Search("sk-proj-" + "".join(chr(48 + at % 10) for at in range(length)))
        steps = sum(1 for _ in one.finds_in_steps(text))
        assert steps >= length // withhold._BLOCK * len(text) // withhold._SEARCHED_AT_ONCE
        headers = sum(1 for _ in one.finds_in_header_in_steps(text.decode()))
        assert headers >= length // withhold._BLOCK * len(text) // withhold._SEARCHED_AT_ONCE - 1
