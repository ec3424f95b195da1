"""A request that broke off may be billed: the next one of the same call is reserved beside it, or not
made."""

import asyncio

import pytest

from tests.rig import Rig
from tests.system.test_money import MOST, PRICES, _budget, _everything_agrees, _until, _used
from xairouter.standin.faults import FAULTS, Reply, Wire


class Provider:
    """Breaks off the first requests, and answers a further one when ``go`` is set."""

    def __init__(self, breaks: int) -> None:
        self.breaks = breaks
        self.asked = 0
        self.go = asyncio.Event()

    async def play(self, wire: Wire, reply: Reply, secret: str) -> None:
        self.asked += 1
        if self.asked <= self.breaks:
            return wire.reset()
        await self.go.wait()
        return await wire.send(reply)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Provider:
    made = Provider(1)
    monkeypatch.setitem(FAULTS, "fault-second", made.play)
    return made


@pytest.fixture
async def ready(rig: Rig) -> Rig:
    await rig.ask("PUT", "/api/v1/prices", PRICES)
    for name in ("one", "two", "three"):
        await rig.add_provider_key(name=name)
    return rig


async def test_while_a_second_request_runs_both_are_reserved(ready: Rig, provider: Provider):
    await _budget(ready, day_usd=100, total_usd=100)
    task = asyncio.create_task(ready.chat("fault-second", max_tokens=MOST))
    await _until(lambda: provider.asked == 2, "the second is asked")
    meanwhile = await _used(ready)
    provider.go.set()
    assert (await task).status == 200
    record = (await ready.records())[-1]
    assert record["attempts"] == 2
    assert meanwhile["day"] == pytest.approx(2 * record["reserved_usd"])
    assert meanwhile["tph"] == 2 * record["reserved_tokens"]
    used = await _used(ready)
    assert used["day"] == pytest.approx(record["reserved_usd"] + record["cost_usd"])
    await _everything_agrees(ready, used)


@pytest.mark.parametrize(
    "rules", [{"budget": {"day_usd": 1.2}}, {"limits": {"tph": 500}}], ids=["money", "tokens"]
)
async def test_without_room_for_a_second_request_there_is_none(
    ready: Rig, provider: Provider, rules: dict[str, dict[str, float]]
):
    """0.60 USD and 300 tokens at least are reserved for each."""
    await ready.ask("PUT", f"/api/v1/accounts/{ready.owner_id}/rules", rules)
    provider.go.set()
    answer = await ready.chat("fault-second", max_tokens=MOST)
    assert answer.status == 429
    assert answer.code in ("budget_exhausted", "token_limited")
    assert provider.asked == 1
    record = (await ready.records())[-1]
    assert (record["outcome"], record["error_code"]) == ("upstream_error", answer.code)
    assert record["cost_usd"] > 0
    used = await _used(ready)
    assert used.get("day", record["reserved_usd"]) == pytest.approx(record["reserved_usd"])
    assert used.get("tph", record["reserved_tokens"]) == record["reserved_tokens"]


async def test_each_request_that_broke_off_is_reserved(ready: Rig, provider: Provider):
    provider.breaks = 2
    await _budget(ready, day_usd=100, total_usd=100)
    task = asyncio.create_task(ready.chat("fault-second", max_tokens=MOST))
    await _until(lambda: provider.asked == 3 or task.done(), "the third is asked")
    meanwhile = await _used(ready)
    provider.go.set()
    assert (await task).status == 200
    record = (await ready.records())[-1]
    assert meanwhile["day"] == pytest.approx(3 * record["reserved_usd"])
    await _everything_agrees(ready, await _used(ready))


async def test_a_client_that_leaves_lets_nothing_go_that_may_be_billed(
    ready: Rig, provider: Provider
):
    await _budget(ready, day_usd=100, total_usd=100)
    task = asyncio.create_task(ready.chat("fault-second", max_tokens=MOST))
    await _until(lambda: provider.asked == 2, "the second is asked")
    task.cancel()
    await _until(lambda: not ready.house.running._calls, "the call has ended")
    record = (await ready.records())[-1]
    used = await _used(ready)
    assert used["day"] == pytest.approx(2 * record["reserved_usd"])
    await _everything_agrees(ready, used)
    provider.go.set()
