"""A router that is killed between any two steps of a settlement has settled once; and a call that is
killed while its text passes counts for what was reserved. With counters in memory, and in Valkey."""

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.rig import SECRET
from tests.servers import valkey_url
from tests.system import process
from tests.system.process import Router, create_owner, run_command, start_router
from tests.system.test_background import COST, MOST, PRICES, USAGE
from tests.system.test_money import Gate
from tests.waiting import until
from xairouter.ledger.frames import Frame, Progress
from xairouter.ledger.salvage import decode_all
from xairouter.standin.faults import FAULTS
from xairouter.standin.server import StandIn

pytestmark = pytest.mark.both
DIES = """
import os, signal
from xairouter.cli import main
from xairouter.ledger.drain import Drain

POINT = "{point}"
store, tell = Drain.store, Drain._tell

def die(here):
    if here == POINT:
        os.kill(os.getpid(), signal.SIGKILL)

async def dying_store(self, records, settlements=()):
    if settlements:
        die("journalled")
    found = await store(self, records, settlements)
    if settlements:
        die("committed")
    return found

async def dying_tell(self, settled, settlements):
    if self.on_settled is not None:
        await self.on_settled(settled)
    die("counted")
    await tell(self, settled, settlements)

Drain.store, Drain._tell = dying_store, dying_tell
main()
"""
"""A router that kills itself at a step; ``-9`` sent from outside would hit one only by chance."""


@pytest.fixture
def where(storage: str) -> dict[str, str]:
    """Embedded database and counters in memory, or PostgreSQL and Valkey."""
    if not storage:
        return {}
    return {"XAIROUTER_DATABASE_URL": storage, "XAIROUTER_VALKEY_URL": valkey_url()}


async def prepare(router: Router, key: str, port: int) -> str:
    """A provider key, prices, a budget; the owner's account."""
    status, added = await router.ask(
        "POST",
        "/api/v1/provider-keys?verify=false",
        key,
        {
            "name": "s",
            "secret": SECRET,
            "models": ["*"],
            "endpoints": {"openai_responses": f"http://127.0.0.1:{port}/v1"},
        },
    )
    assert status == 201, added
    await router.ask("PUT", "/api/v1/prices", key, PRICES)
    _, me = await router.ask("GET", "/api/v1/me", key)
    account = str(me["account"]["id"])
    rules = {"budget": {"day_usd": 5, "total_usd": 5}, "limits": {"tph": 10_000_000}}
    status, said = await router.ask("PUT", f"/api/v1/accounts/{account}/rules", key, rules)
    assert status == 200, said
    return account


async def used(router: Router, key: str) -> dict[str, float]:
    _, me = await router.ask("GET", "/api/v1/me", key)
    found = {one["name"]: one["used_usd"] for one in me["budgets"]}
    return found | {one["name"]: one["used"] for one in me["limits"]}


async def records_of(router: Router, key: str) -> list[dict[str, Any]]:
    """The records of what was made, once nothing waits in the journal."""

    async def is_empty() -> bool:
        return (await router.ask("GET", "/readyz", key))[1]["journal_bytes"] == 0

    await until(is_empty, 120)
    _, page = await router.ask("GET", "/api/v1/usage/records?limit=500", key)
    return [one for one in page["items"] if one["method"] == "POST"]


@contextlib.contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, point: str) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(process, "COMMAND", [sys.executable, "-c", DIES.format(point=point)])
        yield


@pytest.mark.slow
async def test_a_router_killed_between_any_two_steps_has_settled_once(
    tmp_path: Path, where: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    data_dir = tmp_path / "data"
    standin = StandIn()
    port = await standin.start()
    key = await create_owner(data_dir, **where)
    try:
        for number, point in enumerate(("journalled", "committed", "counted"), 1):
            with dying(monkeypatch, point):
                router = await start_router(data_dir, **where)
            if number == 1:
                await prepare(router, key, port)
            asked = {"model": "m", "background": True, "max_output_tokens": MOST, "input": "x"}
            status, begun = await router.ask("POST", "/v1/responses", key, asked)
            assert status == 200, begun
            await records_of(router, key)
            held = await used(router, key)
            assert held["day"] == pytest.approx((number - 1) * COST + 0.6, abs=0.1)
            made = begun["id"]
            document = {"object": "response", "status": "completed", "usage": USAGE, "output": []}
            standin.documents[f"/responses/{made}"] = {"id": made, **document}
            with contextlib.suppress(aiohttp.ClientError):
                await router.ask("GET", f"/v1/responses/{made}", key)
            assert await asyncio.wait_for(router.process.wait(), 120) == -9
            router = await start_router(data_dir, **where)
            records = await records_of(router, key)
            assert len(records) == number
            assert {one["usage_source"] for one in records} == {"reported"}
            assert sum(one["cost_usd"] for one in records) == pytest.approx(number * COST)
            now = await used(router, key)
            assert (now["day"], now["total"]) == pytest.approx((number * COST, number * COST))
            assert now["tph"] == number * 60
            _, sums = await router.ask("GET", "/api/v1/usage", key)
            assert sums["totals"]["cost_usd"] == pytest.approx(number * COST)
            # Shown again, on a router that knows nothing of the first time.
            assert (await router.ask("GET", f"/v1/responses/{made}", key))[0] == 200
            await records_of(router, key)
            assert await used(router, key) == now
            assert await router.terminate() == 0
    finally:
        await standin.stop()
    checked = await asyncio.to_thread(run_command, "audit", "verify", data_dir=data_dir, **where)
    assert checked.returncode == 0, checked.stdout
    assert not list((data_dir / "journal").glob("*/*.log"))


def frames(data_dir: Path) -> Iterator[Frame]:
    for segment in (data_dir / "journal").glob("*/*.log"):
        yield from decode_all(segment.read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize("background", [False, True])
async def test_a_call_killed_while_its_text_passes_counts_for_what_was_reserved(
    tmp_path: Path, where: dict[str, str], monkeypatch: pytest.MonkeyPatch, background: bool
):
    gate = Gate()
    monkeypatch.setitem(FAULTS, "fault-gate", gate.play)
    data_dir = tmp_path / "data"
    standin = StandIn()
    port = await standin.start()
    key = await create_owner(data_dir, **where)
    got = bytearray()
    try:
        router = await start_router(data_dir, **where)
        await prepare(router, key, port)
        await used(router, key)

        async def read() -> None:
            body = {"model": "fault-gate", "stream": True, "input": "a few words to say again"}
            body |= {"max_output_tokens": MOST, "background": background}
            headers = {"authorization": f"Bearer {key}"}
            async with (
                aiohttp.ClientSession() as session,
                session.post(router.url + "/v1/responses", json=body, headers=headers) as reply,
            ):
                async for piece in reply.content.iter_any():
                    got.extend(piece)

        reading = asyncio.create_task(read())

        def has_passed() -> bool:
            known = [one.reply for one in frames(data_dir) if isinstance(one, Progress)]
            return any(reply.output_tokens for reply in known)

        await until(has_passed)
        assert b"response.output_text.delta" in got
        await router.kill()
        with contextlib.suppress(aiohttp.ClientError):
            await reading
        router = await start_router(data_dir, **where)
        [record] = await records_of(router, key)
        assert (record["outcome"], record["usage_source"]) == ("interrupted", "estimated")
        assert record["input_tokens"] > 0
        assert record["output_tokens"] > 0
        assert record["cost_usd"] > 0
        now = await used(router, key)
        assert now["day"] == now["total"] == max(record["reserved_usd"], record["cost_usd"])
        assert now["day"] >= 0.6
        assert now["tph"] >= MOST
        if background:
            await its_end_settles_it(router, key, standin, record["provider_object_id"])
        assert await router.terminate() == 0
    finally:
        gate.go.set()
        await standin.stop()


async def its_end_settles_it(router: Router, key: str, standin: StandIn, made: str) -> None:
    """What went on at the provider after the router had died."""
    document = {"object": "response", "status": "completed", "usage": USAGE, "output": []}
    standin.documents[f"/responses/{made}"] = {"id": made, **document}
    assert (await router.ask("GET", f"/v1/responses/{made}", key))[0] == 200
    [record] = await records_of(router, key)
    assert (record["outcome"], record["usage_source"]) == ("interrupted", "reported")
    assert record["cost_usd"] == pytest.approx(COST)
    assert (await used(router, key))["day"] == pytest.approx(COST)
