"""The counters that rules name, of those who call."""

from collections.abc import Generator, Sequence
from zoneinfo import ZoneInfo

from xairouter.directory.directory import Directory
from xairouter.policy.interface import Caller
from xairouter.policy.limits import Key, long_counters
from xairouter.turns import in_slices

_STEP = 100
"""Callers that are looked at in a step."""


class Ruled:
    """What ``counters.reconciling`` compares: only counters that a rule names now. Others are not kept
    up by calls that no rule counts."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def owners(self) -> list[str]:
        """Those who have called here."""
        return self._directory.known_owners()

    async def keys_of(self, owner_id: str) -> tuple[Sequence[Key], ZoneInfo]:
        """The counters of days, months and all time of an owner's callers, and its calendar; raises
        StorageError."""
        view = await self._directory.owner(owner_id)
        return await in_slices(_keys(self._directory.callers_of(owner_id)), owner_id), view.zone


def _keys(callers: Sequence[Caller]) -> Generator[None, None, list[Key]]:
    found: dict[Key, None] = {}
    for number, caller in enumerate(callers, 1):
        found.update(dict.fromkeys(long_counters(caller.path)))
        if number % _STEP == 0:
            yield
    return list(found)
