"""One file of a journal, and what of it is not known to be on disk yet.

After a failed fsync the kernel may have dropped the pages that it could not write, and the next fsync
of that file succeeds all the same. So a file whose fsync failed once is trusted no further than it was
forced before; what was written behind that is held in memory, and written again to another file.
"""

import os
from collections.abc import Callable
from pathlib import Path

Frames = list[tuple[str, bytes]]
"""Frames of one write, each with the call that it is of."""


class Segment:
    """``size`` is written, ``safe`` of it forced to disk. ``holds_all`` says that what lies between
    is held."""

    __slots__ = (
        "_held",
        "descriptor",
        "emptied",
        "holds_all",
        "is_named",
        "is_trusted",
        "open_calls",
        "path",
        "safe",
        "size",
    )

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self.size = self.safe = self.emptied = 0
        self.open_calls: set[str] = set()
        self.is_trusted = self.holds_all = True
        self.is_named = False
        self._held: list[tuple[int, Frames]] = []

    @property
    def holds(self) -> int:
        """Bytes that are held."""
        return sum(len(frame) for _, frames in self._held for _, frame in frames)

    def write(self, frames: Frames, write: Callable[[int, bytes], int]) -> None:
        """Raises OSError where the disk does not take all of it; some of it may be written then."""
        data = b"".join([frame for _, frame in frames])
        written = 0
        while written < len(data):
            written += write(self.descriptor, data[written:])
        self.size += len(data)
        self.open_calls.update([call_id for call_id, _ in frames])
        self._held.append((self.size, frames))

    def force(self, folder: int) -> None:
        """Force to disk what is written, and at first its name; for the syncer's thread. Raises
        OSError."""
        if not self.is_named:
            # A segment that no entry names is lost with the power.
            os.fsync(folder)
            self.is_named = True
        os.fdatasync(self.descriptor)

    def forced(self, size: int) -> None:
        """So much of it is on disk."""
        self.safe = max(self.safe, size)
        self._held = [one for one in self._held if one[0] > size]

    def held(self) -> Frames:
        """The frames that are held, and whose calls are not stored yet."""
        return [one for _, frames in self._held for one in frames if one[0] in self.open_calls]

    def distrust(self) -> None:
        """No later fsync is believed; what was held is held by another segment."""
        self.is_trusted, self._held = False, []

    def drained(self, call_ids: set[str], *, forgets: bool) -> None:
        """These calls are stored; ``forgets``: their frames need not be held."""
        self.open_calls -= call_ids
        if forgets and self._held:
            needed = [
                (end, [one for one in frames if one[0] in self.open_calls])
                for end, frames in self._held
            ]
            self._held = [one for one in needed if one[1]]

    def let_go(self) -> None:
        """Hold no longer what is not known to be on disk."""
        self._held, self.holds_all = [], False

    def cut(self, size: int) -> None:
        """Leave so much of it; raises OSError."""
        os.ftruncate(self.descriptor, size)
        self.size = size
        self.safe = min(self.safe, size)

    def empty(self) -> None:
        """All its calls are stored; raises OSError."""
        self.cut(0)
        self.emptied += 1
        self._held = []
