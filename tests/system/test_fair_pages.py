"""Requests without a credential take few turns of the event loop from calls, and none from probes of
health; counted in requests that are answered meanwhile, not in time."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.rig import Rig
from tests.wire import wire_to
from xairouter.custody.formats import new_api_key

pytestmark = pytest.mark.shared_rig

CONNECTIONS = 20
MOST_BESIDE = 25
"""Requests of a flood that may be answered while a call passes: about three are, of some ninety that
were before they had turns of their own."""
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()


def _get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "host: x", *headers, "", ""]).encode()


def _call(key: str) -> bytes:
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
    return head.encode() + b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY)


@asynccontextmanager
async def _flood(rig: Rig, data: bytes) -> AsyncIterator[list[int]]:
    """Many connections that ask at once again; the statuses of what was answered."""
    answered: list[int] = []
    is_over = asyncio.Event()

    async def ask() -> None:
        while not is_over.is_set():
            wire = wire_to(rig, "10.9.9.9")
            wire.send(data)
            answered.append((await wire.answered())[0].status)
            wire.leave()

    asking = [asyncio.create_task(ask()) for _ in range(CONNECTIONS)]
    try:
        while len(answered) < CONNECTIONS:
            await asyncio.sleep(0)
        yield answered
    finally:
        is_over.set()
        await asyncio.gather(*asking)


FLOODS = {
    "sign-in page": (_get("/console/sign-in"), 200),
    "a page without a session": (_get("/console/", "cookie: xairouter=none"), 303),
    "static files": (_get("/console/static/console.css"), 200),
    "openapi.json": (_get("/api/v1/openapi.json"), 200),
    "management without a key": (_get("/api/v1/accounts"), 401),
    "management with a false key": (_get("/api/v1/me", f"x-api-key: {new_api_key()}"), 401),
    "calls with a false key": (_call(new_api_key()), 401),
    "calls without a key": (_call(""), 401),
    "models without a key": (_get("/v1/models"), 401),
    "unknown paths": (_get("/v1/nothing"), 404),
    "websockets": (_get("/v1/responses", "connection: upgrade", "upgrade: websocket"), 426),
    "pages of replies": (_get("/v1/responses/r", "sec-fetch-dest: document"), 403),
}


async def _meanwhile(rig: Rig, address: str, data: bytes, answered: list[int]) -> int:
    """How many requests of a flood are answered while one request is; the middle of a few."""
    counts = []
    for _ in range(5):
        before = len(answered)
        wire = wire_to(rig, address)
        wire.send(data)
        [reply] = await wire.answered()
        wire.leave()
        assert reply.status == 200
        counts.append(len(answered) - before)
    return sorted(counts)[2]


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_without_a_credential_takes_few_turns_from_calls(rig: Rig, flood: str):
    await rig.add_provider_key()
    await rig.caught_up()  # Nothing has to be read anew in the middle.
    assert (await rig.chat()).status == 200
    data, status = FLOODS[flood]
    async with _flood(rig, data) as answered:
        assert await _meanwhile(rig, "10.0.0.1", _call(rig.key), answered) <= MOST_BESIDE
        assert await _meanwhile(rig, "10.9.9.9", _get("/healthz"), answered) <= 5
    assert set(answered) == {status}


async def test_a_flood_of_probes_takes_few_turns_from_calls(rig: Rig):
    await rig.add_provider_key()
    await rig.caught_up()  # Nothing has to be read anew in the middle.
    assert (await rig.chat()).status == 200
    async with _flood(rig, _get("/readyz")) as answered:
        assert await _meanwhile(rig, "10.0.0.1", _call(rig.key), answered) <= MOST_BESIDE
        assert await _meanwhile(rig, "10.0.0.1", _get("/healthz"), answered) <= 5


async def test_the_openapi_document_is_the_same_bytes_for_everybody(rig: Rig):
    found = []
    for _ in range(3):
        reply = await rig.ask("GET", "/api/v1/openapi.json")
        assert reply.headers["content-type"] == "application/json"
        found.append(reply.body)
    assert len(set(found)) == 1
    assert "/api/v1/accounts" in json.loads(found[0])["paths"]
