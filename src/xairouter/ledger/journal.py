"""The journal of one process: a locked folder of segments, appended to before each step.

``append`` hands a frame to the kernel before the step goes on, all frames of a loop turn in one
write(); ``fdatasync`` follows off the loop at most ``sync_ms`` later. So a killed process loses
no call, at most the end of one that ended in this very turn (``add``); a power cut at most that
span. A segment goes when every call that has a frame in it is drained.

Where a segment cannot be forced to disk, no call begins (``refusal``). What is not known to be on
disk is then written again, to a fresh segment, until one is forced: ``segment.py`` says why.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from xairouter.domain.records import ReplyFields
from xairouter.errors import LedgerError
from xairouter.ledger.folders import force_name, lock_folder, release_folder
from xairouter.ledger.frames import Frame, Progress, encode
from xairouter.ledger.segment import Frames, Segment
from xairouter.observe import log

SEGMENT_BYTES = 8 * 1024 * 1024
ROTATE_AGAIN_SECONDS = LOOK_AGAIN_SECONDS = 1.0
_TRIAL = bytes(4096)
"""What is written, and cut off again, to see whether the disk takes anything."""
_NOTHING: Frames = [("", encode(Progress("", ReplyFields())))]
"""What is written to see whether the disk can be forced, where nothing else is: a frame of no call."""
MOST_HELD = 64 * 1024 * 1024
"""Bytes that are held in memory while they cannot be forced to disk."""


class Journal:
    """Append-only frames. All methods belong to the event loop's thread."""

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int,
        sync_ms: int,
        write: Callable[[int, bytes], int] = os.write,
    ) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._sync_seconds = sync_ms / 1000
        self._write = write
        self._lock = lock_folder(folder)
        if self._lock is None:
            raise LedgerError(f"The journal folder {folder} is in use by another process.")
        self._number = max((int(path.stem) for path in folder.glob("*.log")), default=0)
        self._segments: list[Segment] = []
        self._stored: list[Segment] = []
        self._frames: Frames = []
        self._waiters: list[asyncio.Future[None]] = []
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="journal-sync")
        self._sync_timer: asyncio.TimerHandle | None = None
        self._renew_timer: asyncio.TimerHandle | None = None
        self._syncs: set[asyncio.Future[None]] = set()
        self._fresh: Segment | None = None
        self._is_torn = False
        self._rotate_at = self._look_at = 0.0
        self._write_failure = self._sync_failure = self._remove_failure = ""
        self._folder_descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        force_name(folder)
        self._next_segment()

    @property
    def size(self) -> int:
        """Bytes of all segments that are not drained yet, or could not be removed."""
        return sum([segment.size for segment in (*self._segments, *self._stored)])

    @property
    def has_room(self) -> bool:
        """Whether there is room for the frames of another call."""
        return self.size < self._max_bytes

    @property
    def refusal(self) -> str:
        """Why no call may begin now; empty where one may."""
        if self._sync_failure:
            return f"The journal cannot be forced to disk: {self._sync_failure}."
        return "" if self.has_room else "The journal has reached its size limit."

    def look(self) -> tuple[bool, str]:
        """Whether calls can be journalled, and its state in words. What could not be written the last
        time is tried again, for without calls nothing else would."""
        now = asyncio.get_running_loop().time()
        if self._write_failure and now >= self._look_at:
            self._look_at = now + LOOK_AGAIN_SECONDS
            self._try_to_write()
        if self._write_failure:
            return False, f"cannot be written: {self._write_failure}"
        if self._sync_failure:
            return False, f"cannot be forced to disk: {self._sync_failure}"
        if not self.has_room:
            return False, "full"
        if self._remove_failure:
            return True, f"stored segments cannot be removed: {self._remove_failure}"
        return True, "ok"

    def _try_to_write(self) -> None:
        segment = self._segments[-1]
        try:
            try:
                written = self._write(segment.descriptor, _TRIAL)
            finally:
                self._cut_off(segment)
        except OSError:
            return
        if written == len(_TRIAL):
            self._write_failure = ""

    def add(self, call_id: str, frame: Frame) -> None:
        """Write a frame at the end of this turn of the loop, behind those that wait already.

        For what the caller does not wait for: the finish of a call, and its begin, which is in the
        kernel before any later frame of the call is. A disk that does not take it is logged.
        """
        if not self._frames:
            asyncio.get_running_loop().call_soon(self._flush)
        self._frames.append((call_id, encode(frame)))

    async def append(self, call_id: str, frame: Frame) -> None:
        """Write a frame before the caller goes on; raises LedgerError if the disk does not.

        Frames of one turn of the loop share one write.
        """
        self.add(call_id, frame)
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def drained(self, call_ids: set[str]) -> None:
        """These calls are in storage: remove the segments that nothing needs any more, also those
        that could not be removed before."""
        for segment in self._segments:
            segment.drained(call_ids, forgets=bool(self._sync_failure))
        last, failure = self._segments[-1], ""
        if last.size and not last.open_calls:
            try:
                last.empty()
            except OSError as error:
                failure = self._not_removed(last, error)
        for segment in [s for s in self._segments[:-1] if not s.open_calls]:
            self._leave(segment)
        self._remove_failure = self._remove() or failure

    def _leave(self, segment: Segment) -> None:
        """Nothing needs what is in this segment."""
        if segment in self._segments:
            self._segments.remove(segment)
        self._stored.append(segment)
        # Behind what still forces it to disk.
        self._syncer.submit(_close, segment)

    def _remove(self) -> str:
        """Remove the segments that were left; why one could not be."""
        failure = ""
        for segment in tuple(self._stored):
            try:
                segment.path.unlink(missing_ok=True)
                self._stored.remove(segment)
            except OSError as error:
                failure = self._not_removed(segment, error)
        return failure

    def _not_removed(self, segment: Segment, error: OSError) -> str:
        reason = _reason_of(error)
        if reason != self._remove_failure:
            log.error("journal_remove_failed", file=str(segment.path), reason=reason)
        return reason

    async def close(self) -> None:
        """Force everything to disk and let the folder go; remove it if it is empty."""
        self._flush()
        for segment in self._segments:
            self._force_soon(segment)
        await self._all_forced()
        if self._sync_failure:
            self._renew()
            await self._all_forced()
        for segment in tuple(self._segments):
            if segment.size and segment.open_calls:
                self._syncer.submit(_close, segment)
            else:
                self._leave(segment)
        self._segments.clear()
        self._remove()
        self._syncer.shutdown(wait=True)
        os.close(self._folder_descriptor)
        release_folder(self.folder, self._lock)

    async def _all_forced(self) -> None:
        while self._syncs:
            await asyncio.wait(self._syncs)
        for timer in (self._sync_timer, self._renew_timer):
            if timer is not None:
                timer.cancel()

    def _flush(self) -> None:
        frames, self._frames = self._frames, []
        waiters, self._waiters = self._waiters, []
        if not frames:
            return  # The journal was closed meanwhile, and has written them.
        failure = "the router failed"
        try:
            self._put(frames)
            failure = ""
        except OSError as error:
            failure = _reason_of(error)
            file = str(error.filename or self._segments[-1].path)
            log.error("journal_write_failed", file=file, frames=len(frames), reason=failure)
        finally:
            self._write_failure = failure
            # Whatever happened: nobody waits for ever.
            _answer(waiters, failure)

    def _put(self, frames: Frames) -> None:
        if self._is_torn:
            self._next_segment()
        elif self._segments[-1].size >= SEGMENT_BYTES:
            self._rotate()
        segment = self._segments[-1]
        is_written = False
        try:
            segment.write(frames, self._write)
            is_written = True
        finally:
            if not is_written:
                self._cut_off(segment)
        if self._sync_timer is None:
            loop = asyncio.get_running_loop()
            self._sync_timer = loop.call_later(self._sync_seconds, self._sync)

    def _cut_off(self, segment: Segment) -> None:
        """A torn frame would hide those behind it: cut it off, or leave the segment to itself."""
        self._is_torn = True
        os.ftruncate(segment.descriptor, segment.size)
        self._is_torn = False

    def _sync(self) -> None:
        self._sync_timer = None
        if self._segments:
            self._force_soon(self._segments[-1])

    def _force_soon(self, segment: Segment) -> None:
        if not segment.is_trusted:
            return  # What was written to it is on its way to another one.
        loop = asyncio.get_running_loop()
        forcing = loop.run_in_executor(self._syncer, segment.force, self._folder_descriptor)
        self._syncs.add(forcing)
        forcing.add_done_callback(partial(self._forced, segment, segment.size, segment.emptied))

    def _forced(
        self, segment: Segment, size: int, emptied: int, forcing: "asyncio.Future[None]"
    ) -> None:
        self._syncs.discard(forcing)
        error = None if forcing.cancelled() else forcing.exception()
        if not segment.is_trusted:
            return
        if error is not None:
            self._sync_failed(segment.path, error)
            segment.is_trusted = False
            return
        if self._sync_failure and segment is not self._fresh:
            return  # It is to stay behind what stands before it, which is written again.
        if segment.emptied == emptied:
            segment.forced(size)
        if segment is self._fresh:
            self._recovered(segment)

    def _sync_failed(self, path: Path, error: BaseException) -> None:
        """No call begins, and all that is not known to be on disk is written to a fresh segment: at
        once, and then every second."""
        reason, after = _reason_of(error), LOOK_AGAIN_SECONDS if self._sync_failure else 0.0
        if reason != self._sync_failure:
            log.error("journal_sync_failed", file=str(path), reason=reason)
        self._sync_failure, self._fresh = reason, None
        if self._renew_timer is None:
            self._renew_timer = asyncio.get_running_loop().call_later(after, self._renew)

    def _renew(self) -> None:
        self._renew_timer = None
        path = self.folder / f"{self._number + 1:08d}.log"
        frames = [one for segment in self._segments for one in segment.held()]
        fresh: Segment | None = None
        try:
            fresh = Segment(path)
            self._number += 1
            fresh.write(frames or _NOTHING, self._write)
        except (OSError, RuntimeError) as error:
            if fresh is not None:
                self._leave(fresh)
            self._remove_failure = self._remove()
            self._sync_failed(path, error)
            return
        fresh.open_calls.discard("")
        for segment in tuple(self._segments):
            segment.distrust()
            if not segment.safe and segment.holds_all:
                self._leave(segment)
        self._segments.append(fresh)
        self._is_torn = False
        self._remove_failure = self._remove()
        self._fresh = fresh
        self._force_soon(fresh)

    def _recovered(self, fresh: Segment) -> None:
        """What was held is on disk, in a fresh segment: no more of the old ones counts than was on
        disk before."""
        self._fresh, self._sync_failure = None, ""
        log.info("journal_synced_again", file=str(fresh.path))
        for segment in self._segments:
            if not segment.is_trusted and segment.holds_all and segment.size > segment.safe:
                try:
                    segment.cut(segment.safe)
                except OSError as error:
                    file, reason = str(segment.path), _reason_of(error)
                    log.warning("journal_cut_failed", file=file, reason=reason)

    def _rotate(self) -> None:
        """A new segment; where none can be made now, the old one goes on for a while."""
        now = asyncio.get_running_loop().time()
        if now < self._rotate_at:
            return
        try:
            self._next_segment()
        except OSError as error:
            self._rotate_at = now + ROTATE_AGAIN_SECONDS
            log.warning(
                "journal_rotation_failed", file=str(error.filename), reason=_reason_of(error)
            )

    def _next_segment(self) -> None:
        segment = Segment(self.folder / f"{self._number + 1:08d}.log")
        self._number += 1
        if self._segments and self._segments[-1].size:
            self._force_soon(self._segments[-1])
        self._segments.append(segment)
        self._is_torn = False
        while sum(one.holds for one in self._segments) > MOST_HELD:
            # The first: what is written again must not come behind what followed it.
            first = next(one for one in self._segments if one.holds)
            log.error("journal_holds_too_much", file=str(first.path), bytes=first.holds)
            first.let_go()


def _answer(waiters: list[asyncio.Future[None]], failure: str) -> None:
    for waiter in waiters:
        if waiter.done():
            continue  # Its call was cut.
        if failure:
            waiter.set_exception(LedgerError(f"The journal cannot be written: {failure}."))
        else:
            waiter.set_result(None)


def _close(segment: Segment) -> None:
    """In the syncer's thread."""
    try:
        os.close(segment.descriptor)
    except OSError as error:
        log.warning("journal_close_failed", file=str(segment.path), reason=_reason_of(error))


def _reason_of(error: BaseException) -> str:
    said = error.strerror if isinstance(error, OSError) else str(error)
    return said or "the disk failed"
