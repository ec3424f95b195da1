"""The calls in flight: who runs what, and how a call that may not go on is ended.

A call is cut by cancelling its task with a reason; the pipeline turns that into the right end.
One sweep a second ends calls that were silent or ran for too long.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum

from xairouter.clock import now_ms, pause
from xairouter.directory.directory import Directory
from xairouter.directory.identity import Identity
from xairouter.domain.accounts import ProviderKeyStatus
from xairouter.errors import StorageError
from xairouter.observe import Metrics, log
from xairouter.policy.decide import admit
from xairouter.policy.interface import OwnerView

LOOK_SECONDS = 0.25
MOMENT_SECONDS = 0.25
"""How long a client that calls without a pause takes at most between two calls."""
UNSURE_SECONDS = 0.7
"""How long a change that cannot be looked into may leave an owner's calls going."""


class CutReason(StrEnum):
    """Why a call was ended from outside; UNSURE: whether it may go on could not be known."""

    CLIENT_GONE = "client_gone"
    REVOKED = "revoked"
    UNSURE = "unsure"
    IDLE = "idle"
    TOO_LONG = "too_long"
    DRAINING = "draining"


class RunningCall:
    """A call in flight. ``touched_at`` moves with every byte that passes. ``patience`` – seconds that a
    slow client may keep the reply waiting in all, None: as long as it may be idle."""

    __slots__ = (
        "_is_over",
        "cut_reason",
        "identity",
        "patience",
        "provider_key_id",
        "started_at",
        "task",
        "touched_at",
    )

    def __init__(self, identity: Identity, now: float) -> None:
        self.identity = identity
        self.task = asyncio.current_task()
        self.started_at = self.touched_at = now
        self.provider_key_id: str | None = None
        self.patience: float | None = None
        self.cut_reason: CutReason | None = None
        self._is_over = False

    def cut(self, reason: CutReason) -> None:
        """End the call; the first reason counts."""
        if self._is_over or self.cut_reason is not None or self.task is None:
            return
        self.cut_reason = reason
        self.task.cancel()

    def over(self) -> None:
        """The call has ended by itself; nothing cuts it any more."""
        self._is_over = True
        # The task holds the call: without this only the garbage collector would part them.
        self.task = None


class Running:
    """The register of calls in flight of this process."""

    def __init__(
        self,
        directory: Directory,
        metrics: Metrics,
        *,
        idle_seconds: float,
        total_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._calls: set[RunningCall] = set()
        self._directory = directory
        self._metrics = metrics
        self._idle_seconds = idle_seconds
        self.patience = idle_seconds / 2
        self._total_seconds = total_seconds
        self.now = monotonic
        self.wait: Callable[[float], Awaitable[object]] = asyncio.sleep
        self.is_draining = False
        self.is_leaving = False
        self._is_over = False
        self._all_over = asyncio.Event()
        metrics.follow(metrics.running, lambda: len(self._calls))
        metrics.follow(metrics.blind, lambda: directory.blind_for)
        self._unsure: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def begin(self, identity: Identity) -> RunningCall:
        call = RunningCall(identity, self.now())
        self._calls.add(call)
        return call

    def end(self, call: RunningCall) -> None:
        call.over()
        self._calls.discard(call)
        if not self._calls:
            self._all_over.set()

    async def review(self, owner_id: str) -> None:
        """An owner changed: end its calls that would not be admitted any more.

        With ``on_revoke: finish`` running calls may end by themselves; new ones are refused
        either way. Raises StorageError where that cannot be found out now and is to be asked again;
        what stays unknown for a second counts as revoked.
        """
        calls = [call for call in self._calls if call.identity.caller.owner_id == owner_id]
        if not calls:
            self._unsure.pop(owner_id, None)
            return
        since = self._unsure.setdefault(owner_id, self.now())
        left = max(0.05, UNSURE_SECONDS - (self.now() - since))
        known = await self._look_into(owner_id, calls, left)
        if known is None:
            if self.now() - since < UNSURE_SECONDS:
                raise StorageError("Whether calls may go on cannot be known now.")
            log.warning("calls_ended_unsure", owner=owner_id, calls=len(calls))
            self._unsure.pop(owner_id, None)
            self._cut_unsure(calls)
            return
        self._unsure.pop(owner_id, None)
        view, may_go_on = known
        if view.settings.on_revoke == "finish":
            return
        for call in calls:
            key = view.provider_keys.get(call.provider_key_id or "")
            key_is_gone = call.provider_key_id is not None and (
                key is None or key.status != ProviderKeyStatus.ACTIVE
            )
            if key_is_gone or not may_go_on[call.identity.look_up_id]:
                call.cut(CutReason.REVOKED)

    async def _look_into(
        self, owner_id: str, calls: Iterable[RunningCall], seconds: float
    ) -> tuple[OwnerView, dict[bytes, bool]] | None:
        """The owner's view, and which keys are still admitted; None where that is not known in
        time. A look-up that hangs is left to itself: ending it may hang as long."""

        async def look() -> tuple[OwnerView, dict[bytes, bool]]:
            view = await self._directory.owner(owner_id)
            handles = {call.identity.look_up_id for call in calls}
            return view, {handle: await self._is_admitted(handle) for handle in handles}

        looking = asyncio.create_task(look())
        await asyncio.wait({looking}, timeout=seconds)
        if not looking.done():
            looking.cancel()
            looking.add_done_callback(lambda done: done.cancelled() or done.exception())
            return None
        try:
            return looking.result()
        except StorageError:
            return None

    def _cut_unsure(self, calls: Iterable[RunningCall]) -> None:
        for call in calls:
            if call.identity.view.settings.on_revoke == "end":
                call.cut(CutReason.UNSURE)

    async def _is_admitted(self, look_up_id: bytes) -> bool:
        known = await self._directory.resolve(look_up_id)
        return known is not None and admit(known.caller, now_ms()) is None

    async def sweep(self, stop: asyncio.Event) -> None:
        """Once a second: end calls that are silent, too long, or whose key has expired. At once:
        all of them, where changes have not been heard of for longer than calls may go on."""
        turn = 0
        while await pause(stop, LOOK_SECONDS):
            turn += 1
            self._metrics.refresh()
            if self._calls and self._directory.is_too_blind:
                self._cut_unsure(list(self._calls))
            if turn % 4 == 0:
                self._sweep_once()

    def _sweep_once(self) -> None:
        now, wall = self.now(), now_ms()
        for call in list(self._calls):
            if now - call.touched_at > self._idle_seconds and call.provider_key_id is not None:
                call.cut(CutReason.IDLE)
            elif now - call.started_at > self._total_seconds:
                call.cut(CutReason.TOO_LONG)
            elif (
                admit(call.identity.caller, wall) is not None
                and call.identity.view.settings.on_revoke == "end"
            ):
                call.cut(CutReason.REVOKED)

    def refuses(self, *, is_kept: bool) -> bool:
        """Whether a new call is refused, since this instance ends. A connection that was kept open, and
        not told yet that it would be closed, has one more call: its reply tells it."""
        return self.is_draining and (self._is_over or not is_kept)

    async def drain(self, seconds: float, notice_seconds: float = 0.0) -> None:
        """No new calls but those of ``refuses``; those in flight get ``seconds`` to end, then they are
        ended. For ``notice_seconds`` before that, calls are still served while ``is_leaving`` says that
        this instance is about to go."""
        self.is_leaving = True
        if notice_seconds:
            await self.wait(notice_seconds)
        self.is_draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._rest()
        self._is_over = True
        self._all_over.clear()
        for call in list(self._calls):
            call.cut(CutReason.DRAINING)
        if self._calls:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_over.wait(), 5)

    async def _rest(self) -> None:
        """Wait until there has been no call for a moment: the last one's client may have sent its next
        one already."""
        while True:
            self._all_over.clear()
            if self._calls:
                await self._all_over.wait()
            self._all_over.clear()
            await self.wait(MOMENT_SECONDS)
            if not self._calls and not self._all_over.is_set():
                return
