"""Counters in Valkey or Redis, shared by all instances: one script a reservation.

A reservation is leased: renewed every five seconds while its call runs, given back fifteen seconds
after its instance died. Settling never waits: it is queued, sent in the background, and repeated
until it is taken; the server counts a call once.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from xairouter.clock import now_ms, pause
from xairouter.counters import scripts
from xairouter.counters.interface import (
    Counted,
    Crossed,
    Exceeded,
    Held,
    History,
    Left,
    Tally,
    first_of,
    tightest,
)
from xairouter.counters.line import AWAY, Line
from xairouter.errors import StorageError
from xairouter.policy.limits import Demand, Key
from xairouter.policy.windows import (
    EVER,
    MONEY,
    NOW,
    REQUESTS,
    RUNNING,
    SLIDING,
    TOKENS,
    WINDOWS,
    Window,
    period_of,
    seconds_until,
)
from xairouter.storage.valkey import answered, valkey_client

LEASE_MS = 15_000
RENEW_SECONDS = 5.0
KEEP_MS = 2 * 86_400_000
SETTLE_SECONDS = 0.005
AGAIN_SECONDS = 0.5
TRIES = 200
WAIT_SECONDS = 0.05
_KINDS = {SLIDING: "s", "day": "p", "month": "p", EVER: "e", NOW: "n"}
_RESERVES, _LOOKS, _ADOPTS = 0, 1, 2
_UNITS = {REQUESTS: "R", TOKENS: "T", MONEY: "M", RUNNING: "N"}


@dataclass(frozen=True, slots=True)
class _Settled:
    owner_id: str
    call_id: str
    used: Tally
    further: tuple[str, ...] = ()

    @property
    def arguments(self) -> list[Any]:
        """The script's."""
        used = self.used
        return [self.call_id, used.requests, used.tokens, used.nano, *self.further]


class ValkeyCounters:
    """One connection pool; ``run`` sends settlements and renews leases until told to stop.

    ``clock`` is for tests; without it time is the server's.
    """

    def __init__(
        self, url: str, history: History, clock: Any = None, *, lease_ms: int = LEASE_MS
    ) -> None:
        self._client = valkey_client(url)
        self._history = history
        self._clock = clock
        self._lease_ms = lease_ms
        self._line = Line(self._client, scripts.BY_NAME)
        # By owner and account: settling a call looks at its own path alone.
        self._known: dict[str, dict[str, dict[str, Key]]] = {}
        self._periods: dict[tuple[str, str], tuple[int, int]] = {}
        self._running: dict[str, Held] = {}
        self._queue: list[_Settled] = []
        self._due: asyncio.TimerHandle | None = None
        self._crossed: dict[tuple[str, str, int], Crossed] = {}

    async def reserve(self, call: Counted, demands: Sequence[Demand]) -> Held | Exceeded:
        self._settle_queued()
        answer = await self._ask(call, demands, _RESERVES)
        now = int(answer[1])
        if answer[0] == b"no":
            shown = answer[3]
            refused = [d for d, one in zip(demands, shown, strict=True) if not one[0]]
            wakes = int(answer[2])
            return Exceeded(first_of(refused), None if wakes < 0 else seconds_until(wakes, now))
        left = [
            (demand.unit, _left(demand, shown, now))
            for demand, shown in zip(demands, answer[2], strict=True)
            if demand.unit in (REQUESTS, TOKENS)
        ]
        held = Held(
            call,
            tuple(demands),
            tightest([one for unit, one in left if unit == REQUESTS]),
            tightest([one for unit, one in left if unit == TOKENS]),
        )
        self._running[call.call_id] = held
        self._look_at_thresholds(held, answer[2], now)
        return held

    async def adopt(self, held: Held) -> None:
        """Count a call that was admitted elsewhere and is under way, whatever its limits say."""
        await self._ask(held.call, held.demands, _ADOPTS)
        self._running[held.call.call_id] = held

    def running(self) -> list[Held]:
        """The calls of this instance that are under way."""
        return list(self._running.values())

    def settle(self, held: Held, used: Tally) -> None:
        call = held.call
        if self._running.pop(call.call_id, None) is None:
            return
        further = tuple(self._further(held))
        self._enqueue(_Settled(call.owner_id, call.call_id, used, further))

    def recover(self, owner_id: str, call_id: str, used: Tally) -> None:
        self._enqueue(_Settled(owner_id, call_id, used))

    async def used(self, owner_id: str, demands: Sequence[Demand], zone: ZoneInfo) -> list[int]:
        if not demands:
            return []
        await self._send_settled()
        call = Counted("", owner_id, (), None, 0, zone)
        answer = await self._ask(call, demands, _LOOKS)
        return [int(one[1]) for one in answer[2]]

    def take_crossed(self) -> list[Crossed]:
        taken = list(self._crossed.values())
        self._crossed.clear()
        return taken

    def forget(self, owner_id: str) -> None:
        """An owner's tree changed: its counters begin anew with what the records say."""
        names = _names(self._known.pop(owner_id, {}))
        if names:
            task = asyncio.get_running_loop().create_task(self._drop(owner_id, names))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def run(self, stop: asyncio.Event) -> None:
        """Renew leases every five seconds, and send again what was not taken."""
        loop = asyncio.get_running_loop()
        renew_at = loop.time() + RENEW_SECONDS
        while not stop.is_set():
            await pause(stop, AGAIN_SECONDS)
            # While it is away, what waits stays in the queue; ``SharedCounters`` tells of it.
            with contextlib.suppress(StorageError):
                await self._send_settled()
                if loop.time() >= renew_at:
                    renew_at = loop.time() + RENEW_SECONDS
                    await self._renew()

    async def is_there(self) -> bool:
        """Whether the server answers."""
        try:
            await answered(self._client.ping(), AWAY)
        except StorageError:
            return False
        return True

    async def begin_anew(self, owner_id: str) -> None:
        """Have an owner's counters read from the records again, by whoever asks next."""
        await self._drop(owner_id, _names(self._known.get(owner_id, {})))

    async def close(self) -> None:
        with contextlib.suppress(StorageError):
            await self._send_settled()
        await self._line.finish()
        await self._client.aclose()

    async def _ask(self, call: Counted, demands: Sequence[Demand], purpose: int) -> Any:
        """Run the reservation, beginning counters that are not there yet."""
        now = self._clock() if self._clock else now_ms()
        for _ in range(TRIES):
            arguments: list[Any] = [
                now if self._clock else 0,
                call.call_id,
                self._lease_ms,
                KEEP_MS,
                purpose,
            ]
            for demand in demands:
                arguments += self._demand(call.owner_id, demand, now, call.zone)
            answer = await self._run("RESERVE", call.owner_id, arguments)
            if answer[0] == b"time":
                # The clocks of this machine and the server stand on two sides of a midnight.
                now = int(answer[1])
            elif answer[0] == b"need":
                for place in answer[1:]:
                    await self._begin(call.owner_id, demands[int(place)], now, call.zone)
            else:
                return answer
        raise StorageError(f"{AWAY}.")

    def _demand(self, owner_id: str, demand: Demand, now: int, zone: ZoneInfo) -> list[Any]:
        window = WINDOWS[demand.name]
        name = _name(demand, zone)
        self._known.setdefault(owner_id, {}).setdefault(demand.account_id, {})[name] = demand.key
        start, end = self._period(window, now, zone)
        return [
            name,
            _KINDS[window.kind],
            _UNITS[window.unit],
            window.bucket_ms,
            demand.limit,
            demand.amount,
            start,
            end,
        ]

    async def _begin(self, owner_id: str, demand: Demand, now: int, zone: ZoneInfo) -> None:
        """Fill a counter with what the records say, leaving out what ends meanwhile."""
        window, name = WINDOWS[demand.name], _name(demand, zone)
        kind = _KINDS[window.kind]
        start, _ = self._period(window, now, zone)
        state = await self._run("BEGIN", owner_id, [name, kind, start])
        if state != 1:
            if state == 2:  # Somebody else reads the past.
                await asyncio.sleep(WAIT_SECONDS)
            return
        ended: frozenset[str] = frozenset()
        for _ in range(TRIES):
            await self._send_settled()
            past = await self._history(owner_id, demand.key, window, now, zone, ended)
            parts: list[Any] = []
            for at_ms, amount in past.amounts:
                parts += [at_ms // window.bucket_ms if kind == "s" else 0, amount]
            # What ended meanwhile may be in the records: it must be known there before.
            await self._send_settled()
            answer = await self._run("FILL", owner_id, [name, kind, len(ended), *parts])
            if not answer:
                return
            ended = frozenset(one.decode() for one in answer)

    def _enqueue(self, one: _Settled) -> None:
        """Settle in a moment: mostly another call is on its way to the server by then."""
        self._queue.append(one)
        if self._due is None:
            loop = asyncio.get_running_loop()
            self._due = loop.call_later(SETTLE_SECONDS, self._settle_queued)

    def _settle_queued(self) -> "list[asyncio.Future[Any]]":
        """What has ended takes its place in line, so that whatever is asked next finds it settled.
        What is not taken is queued again: the server counts a call once."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        sent = []
        for one in self._queue:
            answer = self._line.run("SETTLE", _tag(one.owner_id), one.arguments)
            answer.add_done_callback(partial(self._settled, one))
            sent.append(answer)
        self._queue = []
        return sent

    def _settled(self, one: _Settled, answer: "asyncio.Future[Any]") -> None:
        if answer.cancelled() or answer.exception() is not None:
            self._queue.append(one)

    async def _send_settled(self) -> None:
        for answer in self._settle_queued():
            await answer

    async def _renew(self) -> None:
        by_owner: dict[str, list[str]] = {}
        for call_id, held in self._running.items():
            by_owner.setdefault(held.call.owner_id, []).append(call_id)
        now = self._clock() if self._clock else 0
        for owner_id, calls in by_owner.items():
            await self._run("RENEW", owner_id, [now, self._lease_ms, *calls])

    async def _drop(self, owner_id: str, names: Sequence[str]) -> None:
        keys = [f"{_tag(owner_id)}:c:{name}" for name in names if not name.endswith("|concurrency")]
        if keys:
            await answered(self._client.delete(*keys), AWAY)

    def _further(self, held: Held) -> list[str]:
        """Counters that the call concerns and that it reserved nothing of: they began later."""
        call, reserved = held.call, {demand.key for demand in held.demands}
        of_owner = self._known.get(call.owner_id, {})
        found: list[str] = []
        for account_id in call.path:
            for name, key in of_owner.get(account_id, {}).items():
                window = WINDOWS[key[2]]
                if key in reserved or window.unit == RUNNING or not call.concerns(key):
                    continue
                start, _ = self._period(window, call.at_ms, call.zone)
                bucket = call.at_ms // window.bucket_ms if window.kind == SLIDING else start
                found += [name, _KINDS[window.kind], _UNITS[window.unit], str(bucket)]
        return found

    def _period(self, window: Window, at_ms: int, zone: ZoneInfo) -> tuple[int, int]:
        """(start, end) of a calendar's period, found out once for each; 0 and 0 of other windows."""
        if _KINDS[window.kind] != "p":
            return 0, 0
        known = self._periods.get((window.kind, zone.key), (0, 0))
        if not known[0] <= at_ms < known[1]:
            start, end = period_of(window.kind, at_ms, zone)
            known = self._periods[window.kind, zone.key] = (start, end or 0)
        return known

    def _look_at_thresholds(self, held: Held, shown: Any, now: int) -> None:
        for demand, one in zip(held.demands, shown, strict=True):
            if demand.notify_at is None:
                continue
            if int(one[1]) + demand.amount >= demand.limit * demand.notify_at:
                start, _ = period_of(WINDOWS[demand.name].kind, now, held.call.zone)
                place = (held.call.owner_id, f"{demand.account_id}|{demand.name}", start)
                self._crossed[place] = Crossed(held.call.owner_id, demand, start)

    async def _run(self, name: str, owner_id: str, arguments: Sequence[Any]) -> Any:
        return await self._line.run(name, _tag(owner_id), arguments)


def _tag(owner_id: str) -> str:
    return f"{{xr:{owner_id}}}"


def _name(demand: Demand, zone: ZoneInfo) -> str:
    """A counter's name; a calendar's counters belong to its zone."""
    window = WINDOWS[demand.name]
    calendar = f"|{zone.key}" if _KINDS[window.kind] == "p" else ""
    return f"{demand.account_id}|{demand.pattern}{calendar}|{demand.name}"


def _names(known: Mapping[str, Mapping[str, Key]]) -> list[str]:
    return [name for of_account in known.values() for name in of_account]


def _left(demand: Demand, shown: Any, now: int) -> Left:
    """From the script's (fits, used before, instant at which the limit is whole again)."""
    remaining = max(0, demand.limit - int(shown[1]) - demand.amount)
    return Left(demand.limit, remaining, seconds_until(int(shown[2]), now))
