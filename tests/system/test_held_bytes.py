"""What a connection may make the whole router hold before its sender is known, on every route of every
plane, and that no owner takes the memory of the others."""

import asyncio
import gzip
import json
import random
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.rig import Rig, start_rig
from tests.wire import PATIENCE, Wire, wire_to
from xairouter.api.application import management_app
from xairouter.console.pages import OPEN, OPERATOR, SIGNED_IN
from xairouter.dialects.inflate import MOST_TIMES
from xairouter.dialects.paths import OPERATIONS

pytestmark = pytest.mark.asyncio(loop_scope="module")
MOST_TAKEN = 128 * 1024
FLOOD = 400_000
WRONG_KEY = "sk-Xvs" + "a" * 45


def _data_plane() -> list[tuple[str, str]]:
    found = [("GET", "/v1/models"), ("POST", "/v1/nothing"), ("GET", "/"), ("GET", "/metrics")]
    found += [(method, path) for path in ("/healthz", "/readyz") for method in ("GET", "POST")]
    for operation in OPERATIONS:
        if operation.dialect != "models":
            path = operation.suffix.replace("{version}", "v1beta").replace("{verb}", "countTokens")
            prefix = "" if path.startswith("/v1") else "/v1"
            found.append((operation.method, prefix + path))
    return found


def _management() -> list[tuple[str, str]]:
    paths = management_app().openapi()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods] + [
        ("POST", "/api/v1/nothing"),
        ("PUT", "/api/v1/recover"),
        ("GET", "/api/v1/openapi.json"),
    ]


def _console() -> list[tuple[str, str]]:
    pages = (*SIGNED_IN, *OPEN, *OPERATOR)
    return [
        *((method, path) for method, path, _ in pages if path != "/console/live"),
        ("POST", "/console/nothing"),
        ("GET", "/console/static/nothing"),
    ]


PLANES = {"data plane": _data_plane(), "management": _management(), "console": _console()}
BODIES = {
    "content-length": (b"content-length: %d\r\n" % FLOOD, b"a" * FLOOD),
    "chunked": (
        b"transfer-encoding: chunked\r\n",
        b"%x\r\n" % FLOOD + b"a" * FLOOD + b"\r\n0\r\n\r\n",
    ),
    "gzip": (
        b"content-encoding: gzip\r\ncontent-length: %d\r\n" % FLOOD,
        gzip.compress(bytes(10_000_000)).ljust(FLOOD, b"\0"),
    ),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def router(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    rig = await start_rig(tmp_path_factory.mktemp("held"))
    yield rig
    await rig.stop()


def _head(method: str, path: str, key: str, *lines: bytes) -> bytes:
    target = re.sub(r"\{.*?\}", "x", path)
    credential = f"authorization: Bearer {key}\r\n" if key else ""
    head = f"{method} {target} HTTP/1.1\r\nhost: x\r\n{credential}"
    return head.encode() + b"".join(lines) + b"\r\n"


@pytest.mark.parametrize("key", ["", WRONG_KEY], ids=["no key", "wrong key"])
@pytest.mark.parametrize("form", BODIES)
@pytest.mark.parametrize("plane", PLANES)
async def test_without_a_right_key_no_route_takes_in_a_body(
    router: Rig, plane: str, form: str, key: str
):
    line, body = BODIES[form]
    for method, path in PLANES[plane]:
        wire = wire_to(router)
        wire.send(_head(method, path, key, line) + body)
        replies = await wire.answered()
        assert wire.taken_before_reply <= MOST_TAKEN, (method, path)
        assert replies[0].status < 500, (method, path)
        assert replies[0].headers["connection"] == "close", (method, path)
        wire.leave()


@pytest.mark.parametrize("plane", PLANES)
async def test_pipelined_requests_without_a_key_are_taken_one_by_one(router: Rig, plane: str):
    """Forty connections with a quarter of a megabyte each: what is answered is all that was parsed."""
    method, path = PLANES[plane][-1]
    request = _head(method, path, WRONG_KEY)
    wires = [wire_to(router) for _ in range(40)]
    for wire in wires:
        wire.send(request * (256_000 // len(request)))
    await wires[-1].answered()
    for wire in wires:
        answered = len(wire.replies)
        assert wire.taken - answered * len(request) <= MOST_TAKEN
        wire.leave()


async def test_a_call_key_s_body_is_read_up_to_the_limit_and_given_back(router: Rig):
    made = await router.ask("POST", "/api/v1/accounts", {"name": "team"})
    key = made.json()["api_key"]
    router.house.metrics.refresh()
    before = router.house.metrics.buffered._value.get()
    for form, status in (("content-length", 4), ("chunked", 4)):
        for method, path in PLANES["management"]:
            if method == "GET":
                continue
            line, body = BODIES[form]
            wire = wire_to(router)
            wire.send(_head(method, path, key, line) + body)
            (reply,) = await wire.answered()
            assert reply.status // 100 == status, (method, path, reply)
            wire.leave()
    wire = wire_to(router)
    wire.send(_head("POST", "/api/v1/accounts", key, b"content-length: 5000000\r\n"))
    (reply,) = await wire.ended()
    assert (reply.status, reply.code) == (413, "body_too_large")
    router.house.metrics.refresh()
    assert router.house.metrics.buffered._value.get() == before


async def test_the_key_is_looked_at_before_the_body_is_awaited(router: Rig):
    for method, path in PLANES["management"]:
        if path == "/api/v1/recover" or method == "GET":
            continue
        wire = wire_to(router)
        wire.send(_head(method, path, WRONG_KEY, b"content-length: 10\r\n"))
        (reply,) = await wire.ended()
        assert (reply.status, reply.code) == (401, "invalid_api_key"), (method, path)


# --- no owner takes the others' memory


async def _unfinished(rig: Rig, key: str, count: int) -> list[Wire]:
    """Calls of an owner whose bodies never end: some 30 kB of gzip each, a megabyte unfolded."""
    packed = gzip.compress(random.Random(1).randbytes(25_000) * 40)[:-10]
    assert 20 < 1_000_000 / len(packed) < MOST_TIMES
    line = b"content-encoding: gzip\r\ncontent-length: %d\r\n" % (len(packed) + 10)
    wires = []
    for _ in range(count):
        wire = wire_to(rig)
        wire.send(_head("POST", "/v1/chat/completions", key, line) + packed)
        wires.append(wire)
    return wires


async def test_an_owner_s_unfinished_bodies_do_not_keep_another_owner_out(tmp_path: Path):
    rig = await start_rig(tmp_path, max_body=2_000_000, max_buffered=8_000_000)
    try:
        await rig.add_provider_key()
        greedy = (await rig.new_owner("greedy")).api_key
        wires = await _unfinished(rig, greedy, 44)
        async with asyncio.timeout(PATIENCE):
            while sum(wire.has_ended for wire in wires) < 40:
                await asyncio.sleep(0.01)
        assert {reply.status for wire in wires for reply in wire.replies} == {503}
        answer = await rig.ask(
            "POST",
            "/v1/chat/completions",
            {"model": "m", "messages": [{"role": "user", "content": "y" * 1_000_000}]},
        )
        assert answer.status == 200, answer.body
        for wire in wires:
            wire.leave()
    finally:
        await rig.stop()


async def test_a_body_has_a_deadline_as_a_whole(tmp_path: Path):
    rig = await start_rig(tmp_path, body_seconds=0.2, body_idle_seconds=300)
    try:
        await rig.add_provider_key()
        for path in ("/v1/chat/completions", "/api/v1/accounts", "/api/v1/recover"):
            wire = wire_to(rig)
            wire.send(_head("POST", path, rig.key, b"content-length: 10000\r\n"))
            (reply,) = await wire.ended()
            assert reply.status == 400, path
            assert b"did not arrive in time" in reply.body
        records = await rig.records(expect=1)
        assert json.dumps(records).count("invalid_request") >= 1
    finally:
        await rig.stop()
