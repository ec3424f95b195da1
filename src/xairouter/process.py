"""The process itself: what others may see of it, when it ends, and when its garbage is looked for."""

import asyncio
import contextlib
import gc
import os
import resource
import signal
import stat
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

YOUNG_OBJECTS = 5000
"""So many new objects have the collector look at them; Python's own number is 700."""
_NEVER = 1_000_000
LOOK_SECONDS = 10.0
FIRST_SECONDS = 30.0
EVERY_SECONDS = 600.0
WHOLE_SECONDS = 3600.0


def end_with_parent() -> None:
    """On Linux: get SIGTERM when the process that started this one ends, however it does."""
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1  # linux/prctl.h
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM, 0, 0, 0)


def harden_process() -> None:
    """No core dumps: memory holds opened vaults. On Linux also forbids other users' tracing."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        import ctypes

        pr_set_dumpable = 4  # linux/prctl.h
        ctypes.CDLL(None).prctl(pr_set_dumpable, 0, 0, 0, 0)


MOST_DESCRIPTORS = 1 << 20


def allow_descriptors() -> int:
    """Raise the number of files and connections that may be open to what the system allows (the hard
    limit); returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def keep_files_private() -> None:
    """What this process and those that it starts make from now on is readable by its user alone."""
    os.umask(0o077)


def open_to_others(data_dir: Path) -> list[Path]:
    """The data directory, and the router's own files and folders in it, that users other than its
    owner may read or write. Links are not followed."""
    return [path for path in _own_paths(data_dir) if stat.S_IMODE(path.lstat().st_mode) & 0o077]


def make_private(data_dir: Path) -> tuple[list[Path], list[Path]]:
    """Take the rights of others from whatever ``open_to_others`` finds: (what was changed, what could
    not be, such as a volume's root that is not this user's)."""
    changed, left = [], []
    for path in open_to_others(data_dir):
        try:
            path.chmod(0o700 if path.is_dir() else 0o600, follow_symlinks=False)
            changed.append(path)
        except (OSError, NotImplementedError):
            left.append(path)
    return changed, left


def private_folder(data_dir: Path, warn: Callable[..., None]) -> None:
    """Make the data directory, or take from others what an older version or a copy let them read."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    changed, left = make_private(data_dir)
    if changed:
        warn("files_were_open_to_others", made_private=[path.name for path in changed])
    if left:
        warn("files_are_open_to_others", cannot_change=[str(path) for path in left])


def _own_paths(data_dir: Path) -> Iterator[Path]:
    yield data_dir
    for pattern in (
        "xairouter.db*",
        "router.lock",
        "vault-witness",
        "journal",
        "journal/*",
        "journal/*/*",
    ):
        for path in data_dir.glob(pattern):
            # Another process may remove a segment at any time.
            with contextlib.suppress(FileNotFoundError):
                if not path.is_symlink() and (path.is_dir() or path.is_file()):
                    yield path


class Garbage:
    """When objects that refer to each other in a circle are looked for.

    By itself Python walks over all living objects now and then, in the middle of a call, and every
    other call waits: for a tenth of a second in a process that has served for a while. Calls make no
    circles (tests/system/test_garbage.py), the rest few. So only young objects are looked at by
    themselves; all of them at set times, and what stands then is set aside (``gc.freeze``), which
    makes the next time short. What was set aside is looked at again in a moment without calls, once
    an hour.
    """

    def __init__(
        self, running: Callable[[], int], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._running = running
        self._now = monotonic
        self._due = self._whole_due = 0.0

    def begin(self) -> None:
        """What the start made stays."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS, 10, _NEVER)
        # The first calls make more that stays: statements, models, pages.
        self._due = self._now() + FIRST_SECONDS
        self._whole_due = self._now() + WHOLE_SECONDS

    def look(self) -> bool:
        """Look for garbage if it is time to; whether it was."""
        now = self._now()
        if now < self._due:
            return False
        if now >= self._whole_due and not self._running():
            gc.unfreeze()
            self._whole_due = now + WHOLE_SECONDS
        gc.collect()
        gc.freeze()
        self._due = now + EVERY_SECONDS
        return True

    @contextlib.asynccontextmanager
    async def looked_for(self) -> AsyncIterator[None]:
        """From here on, as long as this lasts."""
        self.begin()
        looking = asyncio.create_task(self._run())
        try:
            yield
        finally:
            looking.cancel()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()
