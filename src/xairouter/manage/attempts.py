"""How often something may be tried in a minute: by an address, with a key, for an owner."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

from xairouter.errors import ErrorCode, ManageError
from xairouter.policy.networks import name_of_address

PER_SECONDS = 60.0
MOST_NAMES = 10_000
SHARED_COUNTERS = 1_024
"""Counters of the names that there was no room for; which of them a name has differs by process."""
MOST_SIGN_INS = 10
MOST_WEBHOOK_TESTS = 5
MOST_REFUSED = 1_000
MOST_REFUSED_STORED = 60


class Counted(NamedTuple):
    """An attempt that was counted: its counters, and when."""

    counters: tuple[str, ...]
    at: float


class Attempts:
    """Counted attempts by name: so many in a minute, then none until one of them is a minute old.

    An attempt is counted before it is tried, so that attempts at the same time are limited too,
    and taken back when it was a right one. Kept in the memory of one process and bounded: it holds
    off repetition at speed, and is no part of any account's limits. When there is no room for
    another name, new names share counters, and no counter whose minute lasts is dropped.
    """

    def __init__(self, most: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._now = monotonic
        self._counted: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, *names: str) -> int:
        """Whole seconds until the last of these may try again, 0 if all may now."""
        return max(map(self._wait, names))

    def count(self, *names: str) -> Counted:
        """One attempt of each; what is returned can be taken back."""
        now = self._now()
        while self._counted:
            name, oldest = next(iter(self._counted.items()))
            if oldest[-1] + PER_SECONDS > now:
                break
            del self._counted[name]
        counters = tuple(map(self._counter, names))
        for counter in counters:
            self._counted.setdefault(counter, deque(maxlen=self._most)).append(now)
            self._counted.move_to_end(counter)
        return Counted(counters, now)

    def take_back(self, counted: Counted) -> None:
        """Forget an attempt that proved to be a right one."""
        for counter in counted.counters:
            times = self._counted.get(counter)
            if times is not None and counted.at in times:
                times.remove(counted.at)
                if not times:
                    del self._counted[counter]

    def refuse_waiting(self, *names: str) -> None:
        """Raise ManageError ``rate_limited`` where one of these has to wait."""
        seconds = self.wait(*names)
        if seconds:
            raise ManageError(
                ErrorCode.RATE_LIMITED, f"Too many attempts; wait {seconds} s.", retry_after=seconds
            )

    def start(self, *names: str) -> Counted:
        """Count an attempt that is about to be tried; raises as ``refuse_waiting`` does."""
        self.refuse_waiting(*names)
        return self.count(*names)

    def _counter(self, name: str) -> str:
        """Where a name is counted: by itself, or with others while there are too many names."""
        shared = f"shared {hash(name) % SHARED_COUNTERS}"
        if name in self._counted:
            return name
        return shared if shared in self._counted or len(self._counted) >= MOST_NAMES else name

    def _wait(self, name: str) -> int:
        counted = self._counted.get(self._counter(name))
        if counted is None or len(counted) < self._most:
            return 0
        left = counted[0] + PER_SECONDS - self._now()
        return max(1, round(left)) if left > 0 else 0


class AttemptLimits:
    """The counters of one process."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.sign_ins = Attempts(MOST_SIGN_INS, monotonic)
        """Wrong keys and recovery codes, by address and by the secret that was tried."""
        self.webhook_tests = Attempts(MOST_WEBHOOK_TESTS, monotonic)
        self.refused = Attempts(MOST_REFUSED, monotonic)
        """Refused changes by key: beyond these the answer is 429, and nothing is looked up."""
        self.refused_stored = Attempts(MOST_REFUSED_STORED, monotonic)
        """Those of them that are written into the operation log."""


def names_of_sign_in(address: str, secret: str) -> tuple[str, str]:
    """By what a sign-in or a recovery is limited: its address, and the secret that is tried."""
    return name_of_address(address), name_of_secret(secret)


def name_of_secret(secret: str) -> str:
    """What stands for a tried secret in memory: a digest, and no part of it."""
    return blake2b(secret.encode("utf-8", "replace"), digest_size=16).hexdigest()
