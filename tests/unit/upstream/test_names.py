"""Looking names up: what one owner's names cost holds up no other owner's. A resolver that does not
answer is one that waits for an event."""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.waiting import until
from xairouter.upstream import names
from xairouter.upstream.egress import Egress
from xairouter.upstream.http_client import HttpClient
from xairouter.upstream.names import Names, Threads, UnknownNameError

FOUND = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 443))]


class Resolver:
    """Names that begin with ``hanging`` wait until they are let go, those with ``none`` do not exist."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.let_go = threading.Event()

    def __call__(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked[host] += 1
        if host.startswith("hanging"):
            self.let_go.wait()
        if host.startswith("none"):
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return list(FOUND)

    @property
    def hanging(self) -> int:
        return sum(count for host, count in self.asked.items() if host.startswith("hanging"))


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    made = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", made)
    yield made
    made.let_go.set()


@pytest.fixture
def threads(resolver: Resolver) -> Iterator[Threads]:
    made = Threads()
    yield made
    resolver.let_go.set()
    made.close()


async def test_threads_that_do_not_come_back_stay_their_owner_s(
    threads: Threads, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
):
    """An owner whose look-ups are given up one after another has a few threads all the same, and
    another owner's name is looked up."""
    monkeypatch.setattr(names, "DEADLINE_SECONDS", 0.05)
    bad = Names(threads, "bad")
    for number in range(60):
        with pytest.raises(UnknownNameError):
            await bad.resolve(f"hanging-{number}.example", 443)
    assert resolver.hanging <= names.AT_ONCE
    monkeypatch.setattr(names, "DEADLINE_SECONDS", 60)
    assert await Names(threads, "good").resolve("good.example", 443) == FOUND


async def test_owners_whose_names_hang_leave_threads_to_others(
    threads: Threads, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(names, "DEADLINE_SECONDS", 600)
    asking = [
        asyncio.create_task(Names(threads, f"bad {owner}").resolve(f"hanging-{number}", 443))
        for owner in range(20)
        for number in range(8)
    ]
    # Eight owners' four each, and one for each of the others.
    await until(lambda: resolver.hanging >= names.COMMON_THREADS + 12)
    assert await Names(threads, "good").resolve("good.example", 443) == FOUND
    assert resolver.hanging == names.COMMON_THREADS + 12
    resolver.let_go.set()
    assert await asyncio.gather(*asking) == [FOUND] * len(asking)


async def test_a_name_is_looked_up_once_for_all_who_ask_at_once(
    threads: Threads, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(names, "DEADLINE_SECONDS", 600)
    own = Names(threads, "own")
    asking = [asyncio.create_task(own.resolve("hanging.example", 443)) for _ in range(50)]
    await until(lambda: resolver.hanging)
    asking[0].cancel()  # Who leaves takes the answer from nobody.
    await asyncio.wait(asking[:1])
    assert await own.resolve("another.example", 443) == FOUND
    resolver.let_go.set()
    assert await asyncio.gather(*asking[1:]) == [FOUND] * 49
    assert resolver.asked == {"hanging.example": 1, "another.example": 1}


async def test_that_a_name_does_not_resolve_is_remembered_for_a_moment(
    threads: Threads, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(names, "UNKNOWN_SECONDS", 10_000)
    own, other = Names(threads, "own"), Names(threads, "other")
    for _ in range(3):
        with pytest.raises(UnknownNameError):
            await own.resolve("none.example", 443)
    assert resolver.asked["none.example"] == 1
    with pytest.raises(UnknownNameError):
        await other.resolve("none.example", 443)
    assert resolver.asked["none.example"] == 2, "what one owner asked for, another does not learn"
    monkeypatch.setattr(names, "UNKNOWN_SECONDS", 0)
    for _ in range(3):
        with pytest.raises(UnknownNameError):
            await own.resolve("none-else.example", 443)
    assert resolver.asked["none-else.example"] == 3


async def test_a_shortage_of_this_machine_is_not_remembered(
    threads: Threads, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
):
    own = Names(threads, "own")
    monkeypatch.setattr(names, "is_local_shortage", lambda _: True)
    for _ in range(2):
        with pytest.raises(UnknownNameError):
            await own.resolve("none.example", 443)
    assert resolver.asked["none.example"] == 2


async def test_where_no_thread_can_be_started_its_place_is_free_again(
    threads: Threads, monkeypatch: pytest.MonkeyPatch
):
    class Full:
        def submit(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("can't start new thread")

        def shutdown(self, **_: Any) -> None:
            """Nothing was started."""

    threads._pool = Full()  # type: ignore[assignment]
    own = Names(threads, "own")
    for _ in range(2 * names.AT_ONCE):
        with pytest.raises(RuntimeError):
            await own.resolve("good.example", 443)
    threads._pool = None
    assert await own.resolve("localhost", 443)


async def test_an_owner_s_webhook_has_no_threads_beside_those_of_its_calls(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(names, "DEADLINE_SECONDS", 600)
    client = HttpClient(Egress(allow_private=True))
    asking = [
        asyncio.create_task(client._pool(pool).names.resolve(f"hanging-{number}", 443))
        for pool in ("acc_1", "webhook:acc_1", "acc_2")
        for number in range(8)
    ]
    await until(lambda: resolver.hanging >= 2 * names.AT_ONCE)
    assert await client._pool("acc_3").names.resolve("good.example", 443) == FOUND
    assert resolver.hanging == 2 * names.AT_ONCE
    resolver.let_go.set()
    await asyncio.gather(*asking)
    await client.close()
