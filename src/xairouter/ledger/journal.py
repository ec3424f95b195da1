"""The journal of one process: a locked folder of segments, appended to before each step.

``append`` hands a frame to the kernel before the step goes on, all frames of a loop turn in one
write(); ``fdatasync`` follows off the loop at most ``sync_ms`` later. So a killed process loses
no call, at most the end of one that ended in this very turn (``add``); a power cut at most that
span. A segment goes when every call that has a frame in it is
drained.
"""

import asyncio
import fcntl
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from xairouter.errors import LedgerError
from xairouter.ledger.frames import Frame, Recovery, decode_all, encode
from xairouter.observe import log

SEGMENT_BYTES = 8 * 1024 * 1024


class _Segment:
    __slots__ = ("descriptor", "open_calls", "path", "size")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self.size = 0
        self.open_calls: set[str] = set()


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
        self._segments: list[_Segment] = []
        self._frames: list[tuple[str, bytes]] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="journal-sync")
        self._sync_timer: asyncio.TimerHandle | None = None
        self._next_segment()

    @property
    def size(self) -> int:
        """Bytes of all segments that are not drained yet."""
        return sum(segment.size for segment in self._segments)

    @property
    def has_room(self) -> bool:
        """Whether a new call may begin."""
        return self.size < self._max_bytes

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
        """These calls are in storage: remove the segments that nothing needs any more."""
        for segment in self._segments:
            segment.open_calls -= call_ids
        last = self._segments[-1]
        if last.size and not last.open_calls:
            os.ftruncate(last.descriptor, 0)
            last.size = 0
        for segment in [s for s in self._segments[:-1] if not s.open_calls]:
            os.close(segment.descriptor)
            segment.path.unlink(missing_ok=True)
            self._segments.remove(segment)

    async def close(self) -> None:
        """Force everything to disk and let the folder go; remove it if it is empty."""
        self._flush()
        if self._sync_timer is not None:
            self._sync_timer.cancel()
        self._syncer.shutdown(wait=True)
        for segment in self._segments:
            os.fdatasync(segment.descriptor)
            os.close(segment.descriptor)
            if segment.size == 0 or not segment.open_calls:
                segment.path.unlink(missing_ok=True)
        self._segments.clear()
        release_folder(self.folder, self._lock)

    def _flush(self) -> None:
        frames, self._frames = self._frames, []
        waiters, self._waiters = self._waiters, []
        if not frames:
            return  # The journal was closed meanwhile, and has written them.
        failure: LedgerError | None = None
        try:
            self._put(frames)
        except LedgerError as error:
            failure = error
            log.error("journal_write_failed", frames=len(frames), reason=str(error))
        for waiter in waiters:
            if waiter.done():
                continue  # Its call was cut.
            if failure is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(failure)

    def _put(self, frames: list[tuple[str, bytes]]) -> None:
        if self._segments[-1].size >= SEGMENT_BYTES:
            self._next_segment()
        segment = self._segments[-1]
        data = b"".join(frame for _, frame in frames)
        failed: str | None = None
        written = 0
        try:
            while written < len(data):
                written += self._write(segment.descriptor, data[written:])
        except OSError as error:
            failed = error.strerror or "the disk failed"
        if failed is not None:
            # A torn frame would hide those behind it: cut it off again.
            os.ftruncate(segment.descriptor, segment.size)
            raise LedgerError(f"The journal cannot be written: {failed}.")
        segment.size += len(data)
        segment.open_calls.update(call_id for call_id, _ in frames)
        if self._sync_timer is None:
            loop = asyncio.get_running_loop()
            self._sync_timer = loop.call_later(self._sync_seconds, self._sync)

    def _sync(self) -> None:
        self._sync_timer = None
        if self._segments:
            descriptor = os.dup(self._segments[-1].descriptor)
            self._syncer.submit(_sync_and_close, descriptor)

    def _next_segment(self) -> None:
        self._number += 1
        if self._segments and self._segments[-1].size:
            self._sync()
        self._segments.append(_Segment(self.folder / f"{self._number:08d}.log"))
        _sync_folder(self.folder)


def _sync_folder(folder: Path) -> None:
    """Force a folder's entries to disk: a segment that no entry names is lost with the power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_and_close(descriptor: int) -> None:
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def lock_folder(folder: Path) -> int | None:
    """Lock a journal folder for this process; None if another process holds it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def release_folder(folder: Path, lock: int | None) -> None:
    """Give a folder up, and remove it if no segment is left in it."""
    if not any(folder.glob("*.log")):
        (folder / "lock").unlink(missing_ok=True)
        folder.rmdir()
    if lock is not None:
        os.close(lock)


def left_behind(parent: Path, own: Path) -> Iterator[tuple[Path, int]]:
    """Folders of processes that are gone, each locked for the caller, who must release it."""
    for folder in sorted(parent.glob("*")):
        if folder == own or not folder.is_dir():
            continue
        lock = lock_folder(folder)
        if lock is not None:
            yield folder, lock


def read_folder(folder: Path) -> Recovery:
    """All frames of a folder, added up."""
    recovery = Recovery()
    for path in sorted(folder.glob("*.log")):
        for frame in decode_all(path.read_bytes()):
            recovery.take(frame)
    return recovery
