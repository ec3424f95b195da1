"""The composition root: names the drivers, puts the house together, starts and stops its loops."""

import asyncio
import ipaddress
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from xairouter.api.application import management_app
from xairouter.api.asking import every_body_is_json, refuse, sender_of
from xairouter.clock import fresh_id, pause
from xairouter.console.origin import Addresses
from xairouter.console.pages import console_app
from xairouter.console.visit import Visits
from xairouter.counters.history import RecordsHistory
from xairouter.counters.memory import MemoryCounters
from xairouter.counters.reconciling import Reconciler
from xairouter.counters.shared import SharedCounters
from xairouter.counters.valkey import ValkeyCounters
from xairouter.custody.derive import check_cryptography
from xairouter.custody.room import Strongroom
from xairouter.directory.bus import ValkeyBus
from xairouter.directory.directory import Directory
from xairouter.directory.health import Health
from xairouter.directory.identity import Identifier
from xairouter.directory.neighbours import Neighbours
from xairouter.directory.prices import priced, settled_at_price
from xairouter.directory.retries import Retries
from xairouter.directory.ruled import Ruled
from xairouter.errors import ConfigError
from xairouter.gateway.admission import Admission
from xairouter.gateway.asgi import application_of, begins
from xairouter.gateway.beside import Beside
from xairouter.gateway.bodies import BodyBudget, BodyTimes, Guarded
from xairouter.gateway.browser import App
from xairouter.gateway.edge import UNLIMITED, protocol_class
from xairouter.gateway.edge import Limits as EdgeLimits
from xairouter.gateway.link import LINK
from xairouter.gateway.readiness import readiness
from xairouter.gateway.running import Running
from xairouter.gateway.serving import Config, Server, check_server
from xairouter.gateway.settling import Recounting
from xairouter.gateway.talk import client_address
from xairouter.gateway.traces import traces_to
from xairouter.gateway.work import Parts
from xairouter.ledger.adoption import START_SECONDS, Adoption
from xairouter.ledger.book import Book
from xairouter.ledger.drain import Drain
from xairouter.ledger.journal import Journal
from xairouter.locks import hold, let_go, lock_files
from xairouter.manage.desk import Bounds, Desk
from xairouter.manage.expire import Expiry
from xairouter.manage.herald import Herald, Target
from xairouter.manage.links import first_link
from xairouter.manage.opening import open_database, open_witness, write_witness
from xairouter.manage.refresh import Refresher
from xairouter.observe import Metrics, log
from xairouter.process import Garbage, private_folder
from xairouter.providers.prices import PriceList, compile_price_list
from xairouter.settings import Settings
from xairouter.storage.database import Database
from xairouter.upstream.egress import Egress
from xairouter.upstream.http_client import HttpClient
from xairouter.upstream.interface import Limits
from xairouter.upstream.proxy import Proxy

SWEEP_SECONDS = 30.0
GIVE_WAY = signal.SIGUSR2
"""Tells a worker that another one has taken its place."""
WORKER_NOTICE_SECONDS = 1.0
"""How long a worker that goes still serves calls on the connections that it has."""


class House:
    """One process of the router, from ``start`` to ``stop``."""

    def __init__(self, settings: Settings, prices: PriceList | None = None) -> None:
        self.settings = settings
        self._given_prices = prices
        self.metrics = Metrics()
        self.traces = traces_to(settings.otel_endpoint)
        self.database = Database(settings.effective_database_url)
        self.egress = Egress(allow_private=settings.allow_private_providers)
        self.instance = fresh_id("inst")
        self.bus: Neighbours | ValkeyBus = Neighbours(self.database, self.instance)
        if settings.valkey_url:
            self.bus = ValkeyBus(settings.valkey_url, self.instance)
        self.health = Health(self.bus)
        blind_seconds = settings.blind_seconds
        self.directory = Directory(self.database, blind_seconds=blind_seconds, bus=self.bus)
        self._stop = asyncio.Event()
        self.beside = Beside()
        self._loops: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Migrate and start the loops; what a dead process left is recovered by one of them, if it is
        more than a little."""
        settings = self.settings
        check_cryptography()
        await check_server(protocol_class(UNLIMITED), LINK)
        # Before the rest: what the list is read from is freed, and the rest takes its place.
        self.prices = self._given_prices or compile_price_list()
        private_folder(settings.data_dir, log.warning)
        locked = lock_files(settings.data_dir, settings.database_file)
        self._held = await hold(locked, shared=bool(settings.valkey_url))
        witness = open_witness(settings.witness_file)
        await open_database(self.database, witness, settings.shown_database)
        await self.directory.start()
        self._start_ledger()
        proxy = Proxy.of(settings.provider_proxy) if settings.provider_proxy else None
        self.client = HttpClient(self.egress, proxy=proxy)
        self.room = Strongroom(self.client, witness)
        self.running = Running(
            self.directory,
            self.metrics,
            idle_seconds=settings.idle_seconds,
            total_seconds=settings.total_seconds,
        )
        self.admission = Admission(settings.max_running, on_held=self.metrics.held_back.set)
        self._make_management()
        self.directory.on_change(self._forget_vaults)
        self.directory.on_change(self.running.review)
        for work in (
            self.bus.run,
            self.directory.follow,
            self.drain.run,
            self.adoption.run,
            self.running.sweep,
            self.admission.watch,
            self._sweep_vaults,
            self.counters.run,
            self.reconciler.run,
            self.refresher.run,
            self.herald.run,
            Expiry(
                self.database,
                self.directory,
                seconds=asyncio.get_running_loop().time,
                vault_at_hand=self.desk.room.at_hand,
                most_objects=settings.max_objects,
            ).run,
        ):
            self._loops.append(asyncio.create_task(work(self._stop)))
        await self.adoption.wait(START_SECONDS)

    def _start_ledger(self) -> None:
        """Open the journal, and make the counters."""
        settings = self.settings
        journals = settings.data_dir / "journal"
        self.journal = Journal(
            journals / self.instance,
            max_bytes=settings.journal_max_bytes,
            sync_ms=settings.journal_sync_ms,
        )
        clock = asyncio.get_running_loop().time
        self.book = Book(self.journal, self.metrics, clock, binds_early=bool(settings.valkey_url))
        self.drain = Drain(self.book, self.database)
        self.adoption = Adoption(self.drain, journals, self.journal.folder)
        history = RecordsHistory(self.database, self.adoption.flush)
        self.counters = self._make_counters(history)
        self.reconciler = Reconciler(self.counters, history, Ruled(self.directory), self.metrics)
        recounting = Recounting(self.directory, self.counters, self.metrics, self._counts_apart)
        self.drain.on_adopted, self.drain.on_settled = recounting.recovered, recounting.settled
        self.drain.price = partial(priced, self.directory, self.prices)
        self.drain.settle_price = partial(settled_at_price, self.directory, self.prices)

    def _make_management(self) -> None:
        """The management plane's services, and the loops that act for owners in the background."""
        settings = self.settings
        self.desk = Desk(
            self.database,
            self.directory,
            self.room,
            self.egress,
            self.prices,
            self.health,
            self.counters,
            settings.output_reserve,
            settings.automation_secret,
            bounds=Bounds(settings.max_accounts, settings.max_api_keys),
        )
        self.herald = Herald(
            self.desk,
            self.client,
            backlog=lambda: self.journal.size,
            most_backlog=settings.journal_max_bytes,
            operator=Target.at(settings.webhook_url, settings.webhook_secret),
        )
        self.refresher = Refresher(self.desk, asyncio.get_running_loop().time)

    def _make_counters(self, history: RecordsHistory) -> MemoryCounters | SharedCounters:
        settings = self.settings
        if not settings.valkey_url:
            return MemoryCounters(history)
        return SharedCounters(
            ValkeyCounters(settings.valkey_url, history),
            history,
            lambda: max(settings.instances, 1 + self.bus.others),
            self.drain.drain,
            shares=settings.valkey_away == "share",
            on_away=self.metrics.counters_away.set,
        )

    def _counts_apart(self) -> bool:
        """Whether other instances count in memories of their own."""
        return not self.settings.valkey_url and self.bus.others > 0

    async def _forget_vaults(self, owner_id: str) -> None:
        self.room.forget_owner(owner_id)

    async def _sweep_vaults(self, stop: asyncio.Event) -> None:
        while await pause(stop, SWEEP_SECONDS):
            self.room.sweep()
            write_witness(self.room.witness)

    def application(self) -> App:
        """The ASGI application: the data plane, and the management plane beside it."""
        settings = self.settings
        identifier = Identifier(self.directory, self.room)
        trusted = tuple(
            ipaddress.ip_network(network, strict=False) for network in settings.trusted_proxies
        )
        times = BodyTimes(settings.body_idle_seconds, settings.body_seconds)
        find_address = partial(client_address, trusted=trusted)
        parts = Parts(
            identifier=identifier,
            admission=self.admission,
            directory=self.directory,
            health=self.health,
            room=self.room,
            retries=Retries(),
            book=self.book,
            running=self.running,
            prices=self.prices,
            metrics=self.metrics,
            counters=self.counters,
            traces=self.traces,
            output_reserve=settings.output_reserve,
            limits=Limits(settings.connect_seconds, settings.first_byte_seconds),
            max_body=settings.max_body,
            body_times=times,
            trusted_proxies=trusted,
        )
        management = management_app()
        management.state.desk = self.desk
        management.state.identifier = identifier
        management.state.client_address = find_address
        addresses = Addresses(settings)
        management.state.console_url = addresses.console
        budget = BodyBudget(settings.max_buffered)
        self.metrics.follow(self.metrics.buffered, lambda: budget.held)
        visits = Visits(
            self.desk,
            identifier,
            addresses,
            find_address,
            lambda: self.running.is_draining or self._stop.is_set(),
        )
        mounted = _planes(management, visits, budget, times, parts, self.beside)
        return application_of(
            settings, parts, budget, mounted, partial(readiness, self, settings.blind_seconds)
        )

    async def first_link(self) -> str | None:
        """Where nobody is an owner yet: the token of a link that makes the first one."""
        return await first_link(self.database, is_shared=bool(self.settings.valkey_url))

    async def stop(self) -> None:
        """Stop the loops, store what is finished, and let everything go."""
        self._stop.set()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self.desk.audits.stop()
        await self.drain.flush(10)
        await self.counters.close()
        await self.bus.close()
        await asyncio.to_thread(self.traces.close)
        await self.client.close()
        await self.journal.close()
        await self.database.close()
        let_go(self._held)


def _planes(
    management: Any,
    visits: Visits,
    budget: BodyBudget,
    times: BodyTimes,
    parts: Parts,
    beside: Beside,
) -> dict[str, Guarded]:
    """What is beside the data plane, by the beginning of its paths."""
    begin = begins(parts)
    api = beside.bounded(every_body_is_json(management), refuse)
    pages = beside.bounded(console_app(visits), visits.refuse)
    return {
        "/api/": Guarded(api, budget, times, sender_of(management), refuse, begin),
        "/console/": Guarded(pages, budget, times, visits.sender, visits.refuse, begin),
    }


class _Server(Server):
    """uvicorn's server, drained before it stops, and ending with status 0."""

    def __init__(self, config: Config, drain: Callable[[], Awaitable[None]]) -> None:
        super().__init__(config)
        self._drain = drain
        self._draining: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: Any) -> None:
        """The first signal drains; a second one does not wait."""
        if self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self._drain_and_exit())
        else:
            self.force_exit = self.should_exit = True

    def give_way(self) -> None:
        """Another worker takes over: leave new connections to the others at once, and drain."""
        for one in self.servers:
            one.close()
        self.handle_exit(GIVE_WAY, None)

    async def _drain_and_exit(self) -> None:
        await self._drain()
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; raises ConfigError where that cannot be."""
    try:
        return socket.create_server((host, port), backlog=4096)
    except OSError as error:
        why = error.strerror or str(error)
    raise ConfigError([f"Cannot listen on {host}:{port}: {why}."])


def make_server(
    house: House, drain: Callable[[], Awaitable[None]], listen_fd: int | None = None
) -> tuple[_Server, socket.socket]:
    """A server for a started house, and the socket on which it will listen: one of its own, or the
    one behind a descriptor that it inherited."""
    settings = house.settings
    inherits = listen_fd is not None
    bound = socket.socket(fileno=listen_fd) if inherits else listen(settings.host, settings.port)
    house.egress.add_listener(int(bound.getsockname()[1]))
    limits = EdgeLimits(
        header_seconds=settings.header_seconds,
        connections_per_address=settings.connections_per_address,
        is_leaving=lambda: house.running.is_leaving,
    )
    config = Config(
        house.application(),
        http=protocol_class(limits),
        ws="none",
        loop="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=75,
    )

    async def leave() -> None:
        await drain()
        await house.beside.end()

    return _Server(config, leave), bound


async def serve(
    settings: Settings,
    listening: Callable[[str, int, str | None], None],
    listen_fd: int | None = None,
) -> None:
    """Run the router until a signal ends it; ``listening`` is told the address, the port, and,
    where there is no owner yet, the token of the link that makes the first one.

    One of several workers gets its socket by ``listen_fd``, and leaves that link to its supervisor.
    """
    house = House(settings)
    await house.start()
    try:
        least = 0.0 if listen_fd is None else WORKER_NOTICE_SECONDS
        notice = max(settings.drain_notice_seconds, least)
        drain = partial(house.running.drain, settings.drain_seconds, notice)
        server, bound = make_server(house, drain, listen_fd)
        if listen_fd is not None:
            asyncio.get_running_loop().add_signal_handler(GIVE_WAY, server.give_way)
        port = int(bound.getsockname()[1])
        link = await house.first_link() if listen_fd is None else None
        listening(settings.host, port, link)
        log.info("listening", host=settings.host, port=port, pid=os.getpid())
        async with Garbage(lambda: len(house.running)).looked_for():
            await server.serve(sockets=[bound])
    finally:
        await house.stop()
