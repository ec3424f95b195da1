"""Who uses a data directory: one router, or several that share their counters.

A router that keeps its counters to itself holds the directory alone; two of them would each admit
everything that a limit allows. Those that share counters in Valkey hold it together. The lock is the
kernel's (flock), so it ends with its process, however that ends; the words in the file only name who
took it. Commands that run beside a router do not take it.
"""

import asyncio
import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from xairouter.errors import ConfigError

NAME = "router.lock"
_MOST_BYTES = 4096
_TRIES, _EVERY_SECONDS = 20, 0.05
"""A process that was just killed lets go within this time."""


def lock_files(data_dir: Path, database_file: Path | None) -> list[Path]:
    """The files to lock: the data directory's, and one beside the database's file, which may be reached
    by several names and from several data directories."""
    found = [data_dir / NAME]
    if database_file is not None:
        real = database_file.resolve()
        found.append(real.with_name(f"{real.name}.lock"))
    return found


async def hold(files: Sequence[Path], *, shared: bool) -> list[int]:
    """Lock these files until ``let_go`` gets what this returns, or the process ends.

    Raises ConfigError, with a sentence that names the process that has one of them.
    """
    held: list[int] = []
    try:
        for path in files:
            held.append(await _hold_one(path, shared=shared))
    except ConfigError:
        let_go(held)
        raise
    return held


def let_go(held: Sequence[int]) -> None:
    """Give locks up."""
    for descriptor in held:
        os.close(descriptor)


def holders(path: Path) -> list[str]:
    """Who has a lock file now, in words; empty if nobody has."""
    if not path.exists():
        return []
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return _named(descriptor)
    finally:
        os.close(descriptor)
    return []


async def _hold_one(path: Path, *, shared: bool) -> int:
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    problem = ""
    for left in reversed(range(_TRIES)):
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if left:
                await asyncio.sleep(_EVERY_SECONDS)
                continue
            problem = _in_use(path, _named(descriptor), shared=shared)
        except OSError as error:
            problem = (
                f"{path} cannot be locked ({error.strerror}); put the data directory on a file "
                "system that has locks."
            )
        break
    if problem:
        os.close(descriptor)
        raise ConfigError([problem])
    if not shared or os.fstat(descriptor).st_size > _MOST_BYTES:
        os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()} {os.uname().nodename}\n".encode())
    return descriptor


def _in_use(path: Path, named: Sequence[str], *, shared: bool) -> str:
    who = " and ".join(named) or "another process"
    what = "router without Valkey" if shared else "router"
    return (
        f"{path.parent} is in use by another {what}: {who}. Two that keep their counters to "
        "themselves would each admit all that a limit allows: stop it, or give this one a data "
        "directory and a database of its own (several instances share PostgreSQL and Valkey)."
    )


def _named(descriptor: int) -> list[str]:
    """Who is in a lock file, but for processes of this machine that are gone."""
    here, found = os.uname().nodename, []
    for line in os.pread(descriptor, 2 * _MOST_BYTES, 0).decode("utf-8", "replace").splitlines():
        pid, _, host = line.partition(" ")
        if not pid.isdigit() or (host == here and not _is_alive(int(pid))):
            continue
        words = f"process {pid}" if host == here else f"process {pid} on {host}"
        if words not in found:
            found.append(words)
    return found


def _is_alive(pid: int) -> bool:
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
    return True
