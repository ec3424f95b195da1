"""Folders of journals: each locked by the process that writes it; those of dead ones are adopted."""

import fcntl
import os
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from xairouter.ledger.frames import Recovery
from xairouter.ledger.salvage import ASIDE, salvage_folder


def force_name(path: Path) -> None:
    """Force to disk that a file or folder of this name is there; raises OSError."""
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)


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
    """Give a folder up, and remove it if no segment is left in it, not even a damaged one."""
    try:
        if not any(folder.glob("*.log")):
            (folder / "lock").unlink(missing_ok=True)
            if not any(folder.iterdir()):
                folder.rmdir()
    finally:
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


def segments_of(folder: Path) -> list[tuple[Path, int]]:
    """The segments of a folder, in order, with their sizes."""
    return [(path, path.stat().st_size) for path in sorted(folder.glob("*.log"))]


def read_folder(folder: Path) -> Recovery:
    """All frames of a folder, added up."""
    return salvage_folder(folder).recovery


def forget(segments: Iterable[Path], damaged: Container[str] = ()) -> None:
    """Remove segments, which are stored by now; damaged ones are kept under another name, for people
    to look at."""
    for path in segments:
        if path.name not in damaged:
            path.unlink(missing_ok=True)
        elif path.exists():
            path.rename(path.with_suffix(ASIDE))
