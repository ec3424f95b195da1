"""Bodies held for owners, and the time that one may take."""

import asyncio
from functools import partial
from typing import Any

import pytest

from tests.unit.gateway.test_edge import GET, POST
from tests.wire import Edge
from xairouter.domain.calls import Refusal
from xairouter.errors import ErrorCode
from xairouter.gateway.bodies import KNOWN_BYTES, UNKNOWN_BYTES, BodyBudget, BodyTimes, Guarded
from xairouter.gateway.link import LINK

# --- shares of the budget


def _fill(budget: BodyBudget, owner: str, piece: int = 1) -> int:
    """How much an owner gets that takes all it can get."""
    taken = 0
    while budget.take(owner, piece):
        taken += piece
    return taken


def test_an_owner_alone_gets_half_and_no_more():
    budget = BodyBudget(1000)
    assert _fill(budget, "a") == 500
    assert budget.held == 500


@pytest.mark.parametrize("greedy", range(1, 6))
def test_however_many_owners_take_all_they_can_get_the_next_gets_something(greedy: int):
    budget = BodyBudget(256)
    for number in range(greedy):
        assert _fill(budget, f"greedy {number}") >= 256 >> (number + 1)
    assert _fill(budget, "another") >= 256 >> (greedy + 1) > 0
    assert budget.held <= 256


def test_owners_that_take_in_turns_get_the_same():
    budget = BodyBudget(1000)
    taken = dict.fromkeys("abc", 0)
    for _ in range(1000):
        for owner in taken:
            taken[owner] += budget.take(owner, 1)
    assert set(taken.values()) == {250}


def test_what_is_given_back_is_free_for_everybody():
    budget = BodyBudget(1000)
    for _ in range(3):
        taken = _fill(budget, "a")
        budget.give_back("a", taken)
        assert budget.held == 0
        assert _fill(budget, "b") == 500
        budget.give_back("b", 500)
    budget.give_back("nobody", 0)
    assert budget._by_owner == {}


def test_one_piece_larger_than_the_share_is_refused_whole():
    budget = BodyBudget(1000)
    assert not budget.take("a", 501)
    assert budget.held == 0
    assert budget.take("a", 500)


# --- applications beside the data plane


class Plane:
    """An application behind ``Guarded``: notes the bodies it gets; ``sender`` says whose a request is."""

    def __init__(self, sender: "str | Refusal", times: BodyTimes, most: int = 1 << 30) -> None:
        self.bodies: list[bytes] = []
        self.budget = BodyBudget(most)
        self.asked_for_sender = 0
        self._said = sender
        self.begun: list[str] = []
        self._guarded = Guarded(
            self._app, self.budget, times, self._sender, self._refuse, self._begin
        )

    async def _begin(self, scope: Any, sender: str) -> None:
        self.begun.append(sender)

    async def _sender(self, scope: Any) -> "str | Refusal":
        self.asked_for_sender += 1
        return self._said

    async def _refuse(self, scope: Any, receive: Any, send: Any, refusal: Refusal) -> None:
        await _answer(send, 499, refusal.code.encode())

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        assert not message["more_body"]
        self.bodies.append(message["body"])
        await _answer(send, 200, b"%d" % len(message["body"]))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        link = scope.pop(LINK)
        await self._guarded(scope, receive, link.send, link)


async def _answer(send: Any, status: int, body: bytes) -> None:
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


LONG = BodyTimes(300, 300)
CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("size", [0, 1, 10_000, 100_000, KNOWN_BYTES])
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_known_sender_s_body_is_handed_on_whole(size: int, is_chunked: bool):
    plane = Plane("owner", LONG)
    wire = Edge(plane).connect()
    body = bytes(size % 251 for size in range(1000)) * (size // 1000) + b"x" * (size % 1000)
    wire.send(CHUNKED + b"%x\r\n" % size + body + b"\r\n0\r\n\r\n" if is_chunked and size else b"")
    wire.send(b"" if is_chunked and size else POST % size + body)
    wire.send(GET % 1)
    first, _ = await wire.answered(2)
    assert (first.status, first.body) == (200, b"%d" % size)
    assert plane.bodies == [body, b""]
    assert plane.budget.held == 0


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize(
    ("sender", "most"), [("owner", KNOWN_BYTES), ("", UNKNOWN_BYTES)], ids=["known", "unknown"]
)
async def test_a_body_beyond_the_limit_is_refused_declared_or_not(
    sender: str, most: int, is_chunked: bool
):
    plane = Plane(sender, LONG)
    wire = Edge(plane).connect()
    head = CHUNKED + b"%x\r\n" % (most * 2) if is_chunked else POST % (most * 2)
    wire.send(head + b"a" * most * 2)
    (reply,) = await wire.ended()
    assert (reply.status, reply.body, plane.bodies) == (499, b"body_too_large", [])
    assert plane.budget.held == 0


async def test_a_refused_sender_s_body_is_not_read():
    plane = Plane(Refusal(ErrorCode.INVALID_API_KEY, "No."), LONG)
    wire = Edge(plane).connect()
    wire.send(POST % 1_000_000 + b"a" * 20_000)
    (reply,) = await wire.ended()
    assert (reply.status, reply.body) == (499, b"invalid_api_key")
    assert plane.budget.held == 0


async def test_a_sender_is_asked_for_before_it_is_told_to_go_on():
    plane = Plane(Refusal(ErrorCode.INVALID_API_KEY, "No."), LONG)
    wire = Edge(plane).connect()
    wire.send(b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n")
    (reply,) = await wire.ended()
    assert reply.status == 499


async def test_a_body_is_late_when_it_falls_silent():
    wire = Edge(Plane("owner", BodyTimes(0.01, 300))).connect()
    wire.send(POST % 10 + b"a")
    (reply,) = await wire.ended()
    assert (reply.status, reply.body) == (499, b"invalid_request")


async def test_a_body_that_trickles_on_is_late_as_a_whole():
    """Never silent for long, never at its end."""
    plane = Plane("owner", BodyTimes(300, 0.05))
    wire = Edge(plane).connect()
    wire.send(POST % 1_000_000)
    while not wire.has_ended:
        wire.send(b"a")
        await asyncio.sleep(0.001)
    assert (wire.replies[0].status, plane.budget.held) == (499, 0)


def _is_read(wire: Any) -> bool:
    return bool(wire.has_ended or not wire.unread)


async def test_an_owner_that_holds_its_share_is_refused_and_another_is_not():
    plane = Plane("greedy", LONG, most=100_000)
    edge = Edge(plane)
    held = []
    for _ in range(5):
        wire = edge.connect()
        wire.send(POST % 40_000 + b"a" * 20_000)
        held.append(wire)
        await wire.until(partial(_is_read, wire))
    await held[-1].ended()
    assert plane.budget.held <= 50_000
    plane._said = "modest"
    wire = edge.connect()
    wire.send(POST % 20_000 + b"b" * 20_000)
    (reply,) = await wire.answered()
    assert reply.status == 200
    for one in held:
        one.leave()


async def test_a_client_that_leaves_gives_back_what_was_held_for_it():
    plane = Plane("owner", LONG)
    wire = Edge(plane).connect()
    wire.send(POST % 100_000 + b"a" * 50_000)
    await wire.until(lambda: plane.budget.held > 0)
    wire.leave()
    while plane.budget.held:
        await asyncio.sleep(0)
    assert plane.bodies == []
