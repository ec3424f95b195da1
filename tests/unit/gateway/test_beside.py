"""Requests beside the data plane end with their client, at their deadline, and with the router."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.gateway.test_edge import GET, POST
from tests.wire import Edge, Wire
from xairouter.domain.calls import Refusal
from xairouter.gateway import beside
from xairouter.gateway.link import LINK


class Plane:
    """An application whose requests take for ever, or as long as ``may_end`` is not set."""

    def __init__(self, *, begins: bool = False) -> None:
        self.register = beside.Beside()
        self._begins = begins
        self._bounded = self.register.bounded(self._app, self._refuse)
        self.may_end = asyncio.Event()
        self.running, self.given_up, self.ended = 0, 0, 0
        self.changed = asyncio.Event()

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.running += 1
        self.changed.set()
        try:
            if self._begins:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
            await self.may_end.wait()
            self.ended += 1
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        finally:
            self.changed.set()

    async def _refuse(self, scope: Any, receive: Any, send: Any, refusal: Refusal) -> None:
        headers = [(b"content-length", b"0"), (b"x-xairouter-error", refusal.code.encode())]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body"})

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        link = scope[LINK]
        await self._bounded(scope, receive, link.send)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


async def _asked(plane: Plane, request: bytes) -> Wire:
    wire = Edge(plane).connect()
    wire.send(request)
    await plane.until(lambda: plane.running == 1)
    return wire


async def test_what_only_reads_is_given_up_when_its_client_leaves():
    plane = Plane()
    wire = await _asked(plane, GET % 1)
    wire.leave()
    await plane.until(lambda: plane.given_up == 1)


async def test_what_changes_something_goes_on_without_its_client():
    plane = Plane()
    wire = await _asked(plane, POST % 0)
    wire.leave()
    await asyncio.sleep(0)
    plane.may_end.set()
    await plane.until(lambda: plane.ended == 1)
    assert plane.given_up == 0


@pytest.mark.parametrize("request_", [GET % 1, POST % 0], ids=["get", "post"])
async def test_a_request_ends_at_its_deadline(monkeypatch: pytest.MonkeyPatch, request_: bytes):
    monkeypatch.setattr(beside, "DEADLINE_SECONDS", 0.0)
    plane = Plane()
    wire = Edge(plane).connect()
    wire.send(request_)
    [reply] = await wire.answered()
    assert (reply.status, reply.code) == (503, "overloaded")
    assert plane.ended == 0


async def test_a_reply_that_has_begun_has_no_deadline_and_is_cut_off_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(beside, "DEADLINE_SECONDS", 0.01)
    monkeypatch.setattr(beside, "GRACE_SECONDS", 0.01)
    plane = Plane(begins=True)
    wire = await _asked(plane, GET % 1)
    await asyncio.sleep(0.05)
    assert plane.given_up == 0
    await plane.register.end()
    [reply] = await wire.ended()
    assert not reply.is_whole


async def test_the_router_s_end_ends_what_reads_at_once_and_the_rest_after_a_moment(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(beside, "GRACE_SECONDS", 0.01)
    plane = Plane()
    for request in (GET % 1, POST % 0):
        plane.running = 0
        wire = await _asked(plane, request)
        await plane.register.end()
        [reply] = await wire.answered()
        assert (reply.status, reply.code) == (503, "draining")
    assert plane.given_up == 2
