"""A disk whose system calls fail on demand, and that forgets what a failed fsync had to write.

It stands between the journal and the real files: ``power_cut`` leaves in another folder what would be
on the disk after one.
"""

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

CALLS = ("open", "write", "ftruncate", "fsync", "fdatasync", "close", "unlink")
ERRNOS = (errno.EIO, errno.ENOSPC, errno.EMFILE)
_ALWAYS = 1 << 30


class Disk:
    """``root`` is the journal's folder."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.failed = 0
        self.forces = threading.Event()
        self.forces.set()
        self._real = {name: getattr(os, name) for name in CALLS}
        self._name, self._number, self._times = "", 0, 0
        self._paths: dict[int, Path] = {}
        self._named: list[Path] = []
        self._contents: dict[Path, bytes] = {}
        self._lost: dict[Path, list[tuple[int, int]]] = {}
        for name in CALLS:
            patch.setattr(os, name, getattr(self, f"_{name}"))

    def fail(self, name: str, number: int, times: int = _ALWAYS) -> None:
        """Have a system call fail so many times."""
        self._name, self._number, self._times = name, number, times

    def mend(self) -> None:
        self._times = 0

    def power_cut(self, into: Path) -> Path:
        """What the disk holds, as a folder of segments."""
        into.mkdir()
        for path in self._named:
            (into / path.name).write_bytes(self._contents.get(path, b""))
        return into

    def _fails(self, name: str, path: Any = None) -> None:
        if name == self._name and self._times > 0:
            self._times -= 1
            self.failed += 1
            raise OSError(self._number, os.strerror(self._number), path)

    def _open(self, path: Any, flags: int, *more: Any, **named: Any) -> int:
        if str(path).endswith(".log"):
            self._fails("open", path)
        descriptor: int = self._real["open"](path, flags, *more, **named)
        self._paths[descriptor] = Path(path)
        return descriptor

    def _write(self, descriptor: int, data: bytes) -> int:
        if self._name == "ftruncate" and self._times > 0 and len(data) > 1:
            # What is cut off is a torn write.
            self._real["write"](descriptor, data[: len(data) // 2])
            raise OSError(self._number, os.strerror(self._number))
        self._fails("write")
        written: int = self._real["write"](descriptor, data)
        return written

    def _ftruncate(self, descriptor: int, size: int) -> None:
        self._fails("ftruncate")
        lost = self._lost.get(self._paths[descriptor], [])
        lost[:] = [(start, min(end, size)) for start, end in lost if start < size]
        self._real["ftruncate"](descriptor, size)

    def _fsync(self, descriptor: int) -> None:
        self._fails("fsync")
        if self._paths.get(descriptor) == self.root:
            self._named = sorted(self.root.glob("*.log"))

    def _fdatasync(self, descriptor: int) -> None:
        self.forces.wait(60)
        path = self._paths[descriptor]
        data = bytearray(path.read_bytes()) if path.exists() else bytearray()
        known, lost = self._contents.get(path, b""), self._lost.setdefault(path, [])
        try:
            self._fails("fdatasync")
        except OSError:
            # The pages stay in memory, clean: nothing will ever write them.
            lost.append((len(known), len(data)))
            raise
        for start, end in lost:
            data[start:end] = bytes(len(data[start:end]))
        self._contents[path] = bytes(data)

    def _close(self, descriptor: int) -> None:
        path = self._paths.pop(descriptor, self.root)
        self._real["close"](descriptor)
        if path.suffix == ".log":
            self._fails("close")

    def _unlink(self, path: Any, **named: Any) -> None:
        if str(path).endswith(".log"):
            self._fails("unlink", path)
        self._real["unlink"](path, **named)
