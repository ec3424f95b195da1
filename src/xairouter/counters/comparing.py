"""How counters in Valkey stand, for who compares them with the records (reconciling.py)."""

from collections.abc import Callable, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from xairouter.counters.generation import Generation
from xairouter.counters.interface import Standing
from xairouter.counters.line import AWAY, Line
from xairouter.counters.named import KINDS, name_of, tag_of
from xairouter.policy.limits import Key
from xairouter.policy.windows import WINDOWS, Window
from xairouter.storage.valkey import answered

MOST_RUNNING = 2000
"""An owner with more calls under way is left out: the server does nothing else while it adds them up."""


class Comparing:
    """``period`` tells (start, end) of a window's period in which an instant lies."""

    def __init__(
        self,
        client: Any,
        line: Line,
        generation: Generation,
        period: Callable[[Window, int, ZoneInfo], tuple[int, int]],
        clock: Callable[[], int],
    ) -> None:
        self._client = client
        self._line = line
        self._generation = generation
        self._period = period
        self._clock = clock

    async def claim(self, owner_id: str, seconds: float) -> bool:
        """Whether this instance is the one to compare an owner's counters, for so long."""
        place, until_ms = f"{tag_of(owner_id)}:k", max(1, round(seconds * 1000))
        return bool(await answered(self._client.set(place, 1, nx=True, px=until_ms), AWAY))

    async def standing(
        self, owner_id: str, keys: Sequence[Key], zone: ZoneInfo
    ) -> dict[Key, Standing]:
        """How those of some counters stand that are there."""
        asked = [word for key in keys for word in (*self._words(key, zone), "", -1)]
        found = await self._stand(owner_id, asked)
        return {
            key: Standing(int(one[1]), one[0].decode())
            for key, one in zip(keys, found, strict=False)
            if one
        }

    async def raise_to(self, owner_id: str, key: Key, zone: ZoneInfo, least: Standing) -> int:
        """Raise what has ended in a counter, if its mark is the same; by how much it was raised."""
        found = await self._stand(
            owner_id, [*self._words(key, zone), least.mark, str(least.settled)]
        )
        return int(found[0][2]) if found and found[0] else 0

    async def _stand(self, owner_id: str, asked: Sequence[Any]) -> Any:
        arguments = [self._generation.id, MOST_RUNNING, *asked]
        return await self._line.run("STAND", tag_of(owner_id), arguments)

    def _words(self, key: Key, zone: ZoneInfo) -> list[Any]:
        window = WINDOWS[key[2]]
        start, _ = self._period(window, self._clock(), zone)
        return [name_of(key, zone), KINDS[window.kind], start]
