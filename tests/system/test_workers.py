"""Several processes: workers on one socket, instances behind a load balancer; replaced, killed and
restarted under load, with no dropped call and no lost record."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cluster.balancer import Balancer

from tests.servers import drop_database, postgres_database, start_valkey
from tests.system.process import Router, create_owner, run_command, start_router
from tests.waiting import until
from xairouter import workers
from xairouter.ledger.folders import read_folder
from xairouter.settings import Settings
from xairouter.standin.server import StandIn


@asynccontextmanager
async def _servers() -> AsyncIterator[tuple[dict[str, str], StandIn, int]]:
    """Settings that name a fresh database and Valkey, and a stand-in provider."""
    url, valkey, standin = postgres_database(), await asyncio.to_thread(start_valkey), StandIn()
    try:
        yield (
            {
                "XAIROUTER_DATABASE_URL": url,
                "XAIROUTER_VALKEY_URL": f"valkey://127.0.0.1:{valkey.port}/0",
            },
            standin,
            await standin.start(),
        )
    finally:
        await standin.stop()
        valkey.terminate()
        drop_database(url)


class Load:
    """Clients that call one after the other; every answer is kept."""

    def __init__(self, url: str, key: str, model: str = "demo", *, pause: float = 0.01) -> None:
        self._url, self._pause = url, pause
        self._headers = {"authorization": f"Bearer {key}"}
        self._body: dict[str, Any] = {
            "model": model,
            "messages": [{"role": "user", "content": "x"}],
        }
        self.answers: list[int] = []
        self.calls: list[str] = []
        self.failures: list[str] = []
        self._goes_on = True

    async def run(self, clients: int) -> None:
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(self._client(session) for _ in range(clients)))

    def stop(self) -> None:
        self._goes_on = False

    async def more(self, calls: int) -> None:
        """Wait until so many more calls have been answered, or failed."""
        so_far = len(self.answers) + len(self.failures) + calls
        await until(lambda: len(self.answers) + len(self.failures) >= so_far)

    async def _client(self, session: aiohttp.ClientSession) -> None:
        while self._goes_on:
            try:
                async with session.post(
                    f"{self._url}/v1/chat/completions", json=self._body, headers=self._headers
                ) as reply:
                    await reply.read()
                    self.answers.append(reply.status)
                    self.calls.append(reply.headers["x-xairouter-call-id"])
            except aiohttp.ClientError as error:
                self.failures.append(repr(error))
            await asyncio.sleep(self._pause)


async def _records(router: Router, key: str, least: int) -> set[str]:
    """Every call's id that has a record, once there are that many."""
    found: set[str] = set()
    async with asyncio.timeout(120):
        while True:
            found, cursor = set(), ""
            while True:
                _, page = await router.ask("GET", f"/api/v1/usage/records?limit=500{cursor}", key)
                found |= {row["call_id"] for row in page["items"]}
                if page["next_cursor"] is None:
                    break
                cursor = f"&cursor={page['next_cursor']}"
            if len(found) >= least:
                return found
            await asyncio.sleep(0.3)


async def _counted(router: Router, calls: int) -> bool:
    """Whether so many completed calls stand in the metrics: whoever is asked answers for all."""
    async with aiohttp.ClientSession() as session, session.get(f"{router.url}/metrics") as reply:
        text = await reply.text()
    counted = re.search(r'xairouter_calls_total\{[^}]*outcome="completed"\} ([\d.]+)', text)
    return counted is not None and float(counted.group(1)) == calls


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(one) for one in text.split()]


def test_several_workers_need_servers_that_all_share(tmp_path: Path):
    done = run_command("serve", "--workers", "2", data_dir=tmp_path)
    assert done.returncode == 1
    assert "XAIROUTER_DATABASE_URL=postgresql://" in done.stderr
    assert "XAIROUTER_VALKEY_URL=valkey://" in done.stderr


def test_a_worker_is_told_how_many_share_the_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real, told = subprocess.Popen, []

    def start(command: list[str], **options: Any) -> Any:
        told.append(options["env"]["XAIROUTER_INSTANCES"])
        return real(["true"], **options)

    monkeypatch.setattr(workers.subprocess, "Popen", start)  # type: ignore[attr-defined]
    for settings in (Settings(workers=3), Settings(workers=3, instances=6)):
        with socket.create_server(("127.0.0.1", 0)) as bound:
            worker = workers.Worker(bound, tmp_path, settings)
            worker._process.communicate()
    assert told == ["3", "6"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
async def test_workers_are_replaced_and_started_anew_and_end_together(tmp_path: Path):
    data_dir = tmp_path / "data"
    async with _servers() as (where, _, standin):
        # A worker that stands still for seconds has not answered who had just connected to it.
        where = {**where, "XAIROUTER_DRAIN_NOTICE_SECONDS": "8"}
        router = await start_router(data_dir, **where, XAIROUTER_WORKERS="2")
        supervisor = router.process.pid
        try:
            key = await create_owner(data_dir, **where)
            await router.add_standin(key, standin)
            first = _children(supervisor)
            assert len(first) == 2
            load = Load(router.url, key, pause=0)
            running = asyncio.create_task(load.run(3))
            await load.more(50)
            # Replaced one by one, under load: nobody notices.
            os.kill(supervisor, signal.SIGHUP)
            async with asyncio.timeout(120):
                while set(_children(supervisor)) & set(first) or len(_children(supervisor)) != 2:
                    await asyncio.sleep(0.1)
            await load.more(50)
            load.stop()
            await running
            assert set(load.answers) == {200}, set(load.answers)
            assert load.failures == []
            # What a worker has counted is told a few times a second, and outlives it then.
            await until(lambda: _counted(router, len(load.calls)))
            # One is killed: a new one takes its place, and its calls have their records.
            victim = _children(supervisor)[0]
            os.kill(victim, signal.SIGKILL)
            async with asyncio.timeout(120):
                while victim in _children(supervisor) or len(_children(supervisor)) != 2:
                    await asyncio.sleep(0.1)
            found = await _records(router, key, len(load.calls))
            assert found >= set(load.calls)
            await until(lambda: _counted(router, len(load.calls)))
        finally:
            assert await router.terminate() == 0
        # A worker that was told to end before it was up leaves an empty folder, which the next
        # start removes; so may the killed one's be, if nobody has come to take it over yet.
        left = list((data_dir / "journal").glob("*"))
        assert [record for folder in left for record in read_folder(folder).records()] == []


@pytest.mark.slow
async def test_a_rolling_restart_under_load_drops_no_call_and_loses_no_record(tmp_path: Path):
    async with _servers() as (where, fake, standin):
        where = {**where, "XAIROUTER_DRAIN_NOTICE_SECONDS": "8"}
        folders = [tmp_path / f"instance-{number}" / "data" for number in range(3)]
        for folder in folders:
            folder.mkdir(parents=True)
        routers = [await start_router(folder, **where) for folder in folders]
        balancer = Balancer([router.port for router in routers])
        try:
            key = await create_owner(folders[0], **where)
            await routers[0].add_standin(key, standin)
            url = f"http://127.0.0.1:{await balancer.start()}"
            load, streams = Load(url, key, pause=0), Load(url, key, "fault-paced", pause=0)
            streams._body["stream"] = True
            running = [asyncio.create_task(load.run(2)), asyncio.create_task(streams.run(4))]
            await load.more(20)
            for number, folder in enumerate(folders):
                assert await routers[number].terminate() == 0
                routers[number] = await start_router(folder, **where)
                balancer.ports[number] = routers[number].port
                async with asyncio.timeout(120):
                    while routers[number].port not in balancer.ready:
                        await asyncio.sleep(0.05)
            load.stop()
            streams.stop()
            await asyncio.gather(*running)
            assert load.failures == []
            assert streams.failures == []
            assert set(load.answers) == {200}, set(load.answers)
            assert set(streams.answers) == {200}
            calls = set(load.calls) | set(streams.calls)
            assert await _records(routers[0], key, len(calls)) == calls
            assert len(fake.requests) == len(calls)
        finally:
            await balancer.stop()
            for router in routers:
                with contextlib.suppress(ProcessLookupError):
                    await router.kill()


@pytest.mark.slow
async def test_a_killed_instance_is_survived_and_its_calls_are_recorded(tmp_path: Path):
    """Its journal is on its own disk: the calls are recorded when it is back."""
    async with _servers() as (where, _, standin):
        folders = [tmp_path / f"instance-{number}" / "data" for number in range(2)]
        for folder in folders:
            folder.mkdir(parents=True)
        routers = [await start_router(folder, **where) for folder in folders]
        try:
            key = await create_owner(folders[0], **where)
            await routers[0].add_standin(key, standin)
            loads = [Load(router.url, key) for router in routers]
            running = [asyncio.create_task(load.run(3)) for load in loads]
            await asyncio.gather(*(load.more(30) for load in loads))
            await routers[1].kill()
            await loads[0].more(30)
            for load in loads:
                load.stop()
            await asyncio.gather(*running)
            assert set(loads[0].answers) == {200}
            assert loads[0].failures == []
            routers[1] = await start_router(folders[1], **where)
            answered: set[Any] = {*loads[0].calls, *loads[1].calls}
            assert answered <= await _records(routers[0], key, len(answered))
        finally:
            for router in routers:
                with contextlib.suppress(ProcessLookupError):
                    await router.kill()
