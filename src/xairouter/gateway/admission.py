"""Fair shares of one process: an owner who floods it takes nothing from the others.

Requests of nobody known have a share of their own (``anonymous``), and so have probes of health.
Three things are shared. **Places**: calls in flight, which hold memory and sockets; above half of
them, an owner may hold no more than its equal share. **Turns** of the event loop: in each only few
calls begin, and owners that have calls waiting take turns, so that one that sends hundreds at once
waits for itself alone. **Time**: when the loop runs late all the same, as under thousands of streams,
the owner that starts most calls, if that is well more than an equal share, is held to a rate that
falls by a fifth as long as the loop is late, and rises again when it is not. An owner alone is never
held to a rate: there is nobody to be fair to.

Refused calls are answered late, so that a client which asks again at once does not take by asking
what it was refused.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from xairouter.clock import pause
from xairouter.gateway.anonymous import AnonymousTurns
from xairouter.turns import RoundRobin

LOOK_SECONDS = 0.1
LATE_SECONDS = 0.015
"""How much later than asked the loop may wake this module before somebody is held back."""
WELL_SECONDS = 0.005
FALLS, RISES = 0.8, 1.005
"""A tenth of a second's step down and up: up slowly, for each try that goes too far is felt by all."""
LEAST_RATE = 20.0
"""Calls a second that nobody is held below."""
DOMINATES = 1.5
"""An owner dominates with this many times its equal share of the calls that were started."""
STARTS_ALONE = 32
STARTS_SHARED = 1
"""Calls that begin in a turn of the loop: with one owner about, and with several. A turn's length is
what a call waits for at each of its steps; many in a turn cost less each."""
SHARED_SECONDS = 10.0
"""So long after two owners have called by turns, both count as being about."""
WAIT_SECONDS = 0.5
MOST_WAITING = 500
SPREAD = 61


@dataclass(slots=True)
class _Held:
    """An owner that is held to ``rate`` calls a second; ``tokens`` may be started now."""

    rate: float
    tokens: float
    at: float


class Admission:
    """The fair shares of one process. All methods belong to the event loop's thread."""

    def __init__(
        self,
        most: int,
        monotonic: Callable[[], float] = time.monotonic,
        on_held: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._most = most
        self._now = monotonic
        self._on_held = on_held
        self._running: Counter[str] = Counter()
        self._total = 0
        self._started: Counter[str] = Counter()
        self._held: dict[str, _Held] = {}
        self._callers = RoundRobin()
        self._starts = STARTS_ALONE
        self._is_turning = False
        self._last_owner = ""
        self._shared_at = -SHARED_SECONDS
        self._waiting = 0
        self._refused = 0
        self.lateness = self._last_late = 0.0
        self.anonymous = AnonymousTurns(lambda: bool(self._total))
        self.probes = AnonymousTurns()

    def enter(self, owner_id: str) -> bool:
        """Take a place for a call; False, and no place taken, if that would be unfair."""
        self._started[owner_id] += 1
        if not self._has_place(owner_id) or not self._has_time(owner_id):
            return False
        self._running[owner_id] += 1
        self._total += 1
        return True

    async def turn(self, owner_id: str) -> None:
        """Wait until a call that has its place may begin."""
        if owner_id != self._last_owner:
            if self._last_owner:
                self._shared_at = self._now()
            self._last_owner = owner_id
        self._keep_turning()
        if self._starts and not self._callers.queues:
            self._starts -= 1
            return
        await self._callers.wait(owner_id)

    def _keep_turning(self) -> None:
        if not self._is_turning:
            self._is_turning = True
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        """Calls that wait begin, an owner's one after another owner's, as many as a turn may have."""
        is_shared = self._now() - self._shared_at < SHARED_SECONDS
        self._starts = STARTS_SHARED if is_shared else STARTS_ALONE
        while self._starts and self._callers.let_next_go():
            self._starts -= 1
        self._is_turning = False
        if self._callers.queues:
            self._keep_turning()

    def leave(self, owner_id: str) -> None:
        """Give the place back."""
        self._total -= 1
        self._running[owner_id] -= 1
        if not self._running[owner_id]:
            del self._running[owner_id]

    async def hold_back(self) -> None:
        """Wait a little before a refusal is said, unless very many wait already."""
        if self._waiting >= MOST_WAITING:
            return
        self._waiting += 1
        self._refused += 1
        # Spread out: clients that were refused together are not to come back together.
        spread = 0.5 + (self._refused % SPREAD) / SPREAD
        try:
            await asyncio.sleep(WAIT_SECONDS * spread)
        finally:
            self._waiting -= 1

    async def watch(self, stop: asyncio.Event) -> None:
        """See how late the loop runs, until told to stop."""
        while not stop.is_set():
            due = self._now() + LOOK_SECONDS
            await pause(stop, LOOK_SECONDS)
            self.look(max(0.0, self._now() - due))

    def look(self, late: float) -> None:
        """Judge the last tenth of a second, in which the loop ran ``late`` seconds behind."""
        # Once may have been anything; twice running is load.
        self.lateness, self._last_late = min(late, self._last_late), late
        started, self._started = self._started, Counter()
        if self.lateness > LATE_SECONDS:
            self._hold_the_greatest(started)
        elif self.lateness < WELL_SECONDS:
            for owner_id, held in list(self._held.items()):
                held.rate *= RISES
                if held.rate * LOOK_SECONDS > 2 * max(1, started[owner_id]):
                    del self._held[owner_id]
        self._on_held(len(self._held))

    @property
    def held_back(self) -> int:
        """Owners that are held to a rate now."""
        return len(self._held)

    def _hold_the_greatest(self, started: Counter[str]) -> None:
        active = started.keys() | self._running.keys()
        if len(active) < 2 or not started:
            return
        ((owner_id, most),) = started.most_common(1)
        if most < DOMINATES * started.total() / len(active):
            return
        held = self._held.get(owner_id)
        if held is None:
            rate = FALLS * most / LOOK_SECONDS
            self._held[owner_id] = _Held(max(LEAST_RATE, rate), 0.0, self._now())
        else:
            held.rate = max(LEAST_RATE, held.rate * FALLS)

    def _has_place(self, owner_id: str) -> bool:
        if self._total < self._most // 2:
            return True
        if self._total >= self._most:
            return False
        owners = len(self._running) + (owner_id not in self._running)
        # One share stays free for whoever comes next.
        return self._running[owner_id] < self._most // (owners + 1)

    def _has_time(self, owner_id: str) -> bool:
        held = self._held.get(owner_id)
        if held is None:
            return True
        now = self._now()
        held.tokens = min(held.rate * LOOK_SECONDS, held.tokens + held.rate * (now - held.at))
        held.at = now
        if held.tokens < 1:
            return False
        held.tokens -= 1
        return True
