"""Counters in Valkey or Redis, shared by all instances: one script a reservation.

A reservation is leased: renewed every five seconds while its call runs, given back fifteen seconds
after its instance died. Settling never waits: it is queued, sent in the background, and repeated
until it is taken; the server counts a call once.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

from xairouter.accounting.counts import Counts
from xairouter.clock import now_ms, pause
from xairouter.counters import scripts
from xairouter.counters.comparing import Comparing
from xairouter.counters.crossings import Crossings
from xairouter.counters.generation import Generation
from xairouter.counters.interface import (
    Correction,
    Counted,
    Crossed,
    Exceeded,
    Held,
    History,
    Past,
    first_of,
    tightest,
)
from xairouter.counters.line import AWAY, MOST_SENT, Line
from xairouter.counters.named import KINDS, UNITS, left_of, name_of, names_of, tag_of
from xairouter.counters.settlements import Settled, Settlements
from xairouter.errors import StorageError, ValkeyAwayError
from xairouter.observe import log
from xairouter.policy.limits import Demand, Key
from xairouter.policy.windows import (
    MONEY,
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
AGAIN_SECONDS = 0.5
TRIES = 200
WAIT_SECONDS = 0.05
_RESERVES, _LOOKS, _ADOPTS = 0, 1, 2


class ValkeyCounters:
    """One connection pool; ``run`` sends settlements and renews leases until told to stop.

    ``clock`` is for tests; without it time is the server's.
    """

    lag_seconds = 10.0

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
        self._settlements = Settlements(self._line, self._concerned, self.forget)
        self._crossings = Crossings()
        self._generation = Generation(self._line)
        comparing = Comparing(
            self._client, self._line, self._generation, self._period, clock or now_ms
        )
        self.claim, self.standing = comparing.claim, comparing.standing
        self.raise_to = comparing.raise_to
        self._looking = asyncio.Lock()
        self._to_count: set[str] = set()

    async def reserve(self, call: Counted, demands: Sequence[Demand]) -> Held | Exceeded:
        self._settlements.send()
        answer = await self._ask(call, demands, _RESERVES)
        now = int(answer[1])
        if answer[0] == b"no":
            shown = answer[3]
            refused = [d for d, one in zip(demands, shown, strict=True) if not one[0]]
            wakes = int(answer[2])
            return Exceeded(first_of(refused), None if wakes < 0 else seconds_until(wakes, now))
        left = [
            (demand.unit, left_of(demand, shown, now))
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

    def settle(self, held: Held, used: Counts) -> None:
        call = held.call
        if self._running.pop(call.call_id, None) is None:
            return
        further = tuple(self._concerned(held, further=True))
        self._settlements.add(Settled(call.owner_id, call.call_id, used, further, held))

    def recover(self, owner_id: str, call_id: str, used: Counts) -> None:
        self._settlements.add(Settled(owner_id, call_id, used))

    async def correct(self, correction: Correction) -> None:
        """Raises ValkeyAwayError where it may not have been counted."""
        call, before, after = correction.call, correction.before, correction.after
        self.know(correction)
        counters = {
            name: key
            for account_id in call.path
            for name, key in self._known.get(call.owner_id, {}).get(account_id, {}).items()
            if WINDOWS[key[2]].unit in (TOKENS, MONEY) and call.concerns(key)
        }
        # What has ended before takes its place in line before.
        self._settlements.send()
        if before is None:
            await self._drop(call.owner_id, list(counters))
        elif counters:
            arguments: list[Any] = [call.call_id, after.tokens, after.nano]
            arguments += [after.tokens - before.tokens, after.nano - before.nano]
            for name, key in counters.items():
                arguments += self._place(call, name, WINDOWS[key[2]])
            await self._run("CORRECT", call.owner_id, arguments)

    def know(self, correction: Correction) -> None:
        """These counters there may be, whether or not a call of this instance has met them."""
        call = correction.call
        of_owner = self._known.setdefault(call.owner_id, {})
        for key in correction.keys:
            name = name_of(key, call.zone)
            of_owner.setdefault(key[0], {})[name] = key

    async def used(self, owner_id: str, demands: Sequence[Demand], zone: ZoneInfo) -> list[int]:
        if not demands:
            return []
        await self._settlements.finish()
        call = Counted("", owner_id, (), None, 0, zone)
        answer = await self._ask(call, demands, _LOOKS)
        return [int(one[1]) for one in answer[2]]

    def crossed(self) -> list[Crossed]:
        return self._crossings.waiting()

    def told(self, crossed: Sequence[Crossed]) -> None:
        self._crossings.tell(crossed)

    def forget(self, owner_id: str) -> None:
        """An owner's tree changed: its counters begin anew with what the records say."""
        names = names_of(self._known.pop(owner_id, {}))
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
                await self._settlements.finish()
                if loop.time() >= renew_at:
                    renew_at = loop.time() + RENEW_SECONDS
                    await self._renew()

    async def is_there(self) -> bool:
        """Whether the server answers. Where it has lost its data, calls under way are counted anew."""
        try:
            await self._look()
        except ValkeyAwayError:
            return False
        except StorageError:
            pass  # Their past cannot be read now: whoever is counted next tries again.
        return True

    async def _look(self) -> bool:
        """Look which generation it is; whether its counters may begin."""
        async with self._looking:
            if await self._generation.look():
                self._to_count = set(self._running)
            if self._to_count:
                running = [self._running[one] for one in self._to_count if one in self._running]
                log.warning("counters_lost", running=len(running))
                for start in range(0, len(running), MOST_SENT):
                    some = running[start : start + MOST_SENT]
                    await asyncio.gather(
                        *(self._ask(one.call, one.demands, _ADOPTS) for one in some)
                    )
                self._to_count.clear()
        return self._generation.is_settled

    async def begin_anew(self, owner_id: str) -> None:
        """Have an owner's counters read from the records again, by whoever asks next."""
        await self._drop(owner_id, names_of(self._known.get(owner_id, {})))

    async def close(self) -> None:
        with contextlib.suppress(StorageError):
            await self._settlements.finish()
        await self._line.finish()
        await self._client.aclose()

    async def _ask(self, call: Counted, demands: Sequence[Demand], purpose: int) -> Any:
        """Run the reservation, beginning counters that are not there yet."""
        now, may_begin = self._clock() if self._clock else now_ms(), False
        for _ in range(TRIES):
            arguments: list[Any] = [
                now if self._clock else 0,
                call.call_id,
                self._lease_ms,
                KEEP_MS,
                purpose,
                self._generation.id,
                int(may_begin),
            ]
            for demand in demands:
                arguments += self._demand(call.owner_id, demand, now, call.zone)
            answer = await self._run("RESERVE", call.owner_id, arguments)
            if answer[0] == b"time":
                # The clocks of this machine and the server stand on two sides of a midnight.
                now = int(answer[1])
            elif answer[0] == b"lost":
                may_begin = await self._look()
                if not may_begin:
                    await asyncio.sleep(WAIT_SECONDS)
            elif answer[0] == b"need":
                needed = [demands[int(place)] for place in answer[1:]]
                await self._begin(call.owner_id, needed, now, call.zone)
            else:
                return answer
        raise StorageError(f"{AWAY}.")

    def _demand(self, owner_id: str, demand: Demand, now: int, zone: ZoneInfo) -> list[Any]:
        window = WINDOWS[demand.name]
        name = name_of(demand.key, zone)
        self._known.setdefault(owner_id, {}).setdefault(demand.account_id, {})[name] = demand.key
        start, end = self._period(window, now, zone)
        return [
            name,
            KINDS[window.kind],
            UNITS[window.unit],
            window.bucket_ms,
            demand.limit,
            demand.amount,
            start,
            end,
        ]

    async def _begin(
        self, owner_id: str, demands: Sequence[Demand], now: int, zone: ZoneInfo
    ) -> None:
        """Fill counters with what the records say, read once, leaving out what ends meanwhile."""
        begun, generation = [], self._generation.id
        for demand in demands:
            window = WINDOWS[demand.name]
            start, _ = self._period(window, now, zone)
            of_counter = [name_of(demand.key, zone), KINDS[window.kind], start, generation]
            begun.append(self._run("BEGIN", owner_id, of_counter))
        states = await asyncio.gather(*begun)
        ended: dict[Key, frozenset[str]] = {
            demand.key: frozenset()
            for demand, state in zip(demands, states, strict=True)
            if state == 1
        }
        for _ in range(TRIES):
            if not ended:
                break
            await self._settlements.finish()
            known = frozenset().union(*ended.values())
            pasts = await self._history(owner_id, list(ended), now, zone, known)
            # What ended meanwhile may be in the records: it must be known there before.
            await self._settlements.finish()
            for key, past in pasts.items():
                while more := await self._fill(
                    owner_id, key, past, [name_of(key, zone), len(ended[key]), generation]
                ):
                    ended[key] = more
                    if not more <= known:
                        break
                else:
                    del ended[key]
        if 2 in states:  # Somebody else reads the past of some.
            await asyncio.sleep(WAIT_SECONDS)

    async def _fill(
        self, owner_id: str, key: Key, past: Past, of_counter: Sequence[Any]
    ) -> frozenset[str]:
        """Fill one counter; the calls that ended meanwhile if these are others than those known."""
        window = WINDOWS[key[2]]
        kind = KINDS[window.kind]
        parts: list[Any] = []
        for at_ms, amount in past.amounts:
            parts += [at_ms // window.bucket_ms if kind == "s" else 0, amount]
        name, known, generation = of_counter
        answer = await self._run("FILL", owner_id, [name, kind, known, generation, *parts])
        return frozenset(one.decode() for one in answer)

    async def _renew(self) -> None:
        by_owner: dict[str, list[str]] = {}
        for call_id, held in self._running.items():
            by_owner.setdefault(held.call.owner_id, []).append(call_id)
        now = self._clock() if self._clock else 0
        for owner_id, calls in by_owner.items():
            await self._run("RENEW", owner_id, [now, self._lease_ms, *calls])

    async def _drop(self, owner_id: str, names: Sequence[str]) -> None:
        keys = [
            f"{tag_of(owner_id)}:c:{name}" for name in names if not name.endswith("|concurrency")
        ]
        if keys:
            await answered(self._client.delete(*keys), AWAY)

    def _concerned(self, held: Held, *, further: bool = False) -> list[str]:
        """Counters that the call concerns; ``further``: and that it reserved nothing of, since they
        began later."""
        call, reserved = held.call, {demand.key for demand in held.demands if further}
        of_owner = self._known.get(call.owner_id, {})
        found: list[str] = []
        for account_id in call.path:
            for name, key in of_owner.get(account_id, {}).items():
                window = WINDOWS[key[2]]
                if key in reserved or window.unit == RUNNING or not call.concerns(key):
                    continue
                found += self._place(call, name, window)
        return found

    def _place(self, call: Counted, name: str, window: Window) -> list[str]:
        """Where a counter counts a call, as the scripts take it."""
        start, _ = self._period(window, call.at_ms, call.zone)
        bucket = call.at_ms // window.bucket_ms if window.kind == SLIDING else start
        return [name, KINDS[window.kind], UNITS[window.unit], str(bucket)]

    def _period(self, window: Window, at_ms: int, zone: ZoneInfo) -> tuple[int, int]:
        """(start, end) of a calendar's period, found out once for each; 0 and 0 of other windows."""
        if KINDS[window.kind] != "p":
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
                self._crossings.note(
                    Crossed(
                        held.call.owner_id,
                        demand.account_id,
                        demand.name,
                        demand.limit,
                        demand.notify_at,
                        start,
                    )
                )

    async def _run(self, name: str, owner_id: str, arguments: Sequence[Any]) -> Any:
        return await self._line.run(name, tag_of(owner_id), arguments)
