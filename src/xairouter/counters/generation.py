"""Which life of the server's data this is: whoever finds no mark there makes one, and every instance
that finds another mark than before counts its calls under way anew.

A mark holds for one run of the server: one that was started again has lost what it had not saved. It
ends where the server's clock has gone back since an instance looked, or ahead by more than an hour: what
has left its window by a wrong clock is lost, too.
"""

from xairouter.clock import fresh_id
from xairouter.counters.line import Line

KEY = "xr:generation"
GRACE_MS = 1500
"""So long after a loss nothing new is counted: by then each instance has looked, which it does twice a
second, and counted its calls under way."""


class Generation:
    """The mark as it was found the last time; ``id`` is empty before."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.id = ""
        self.is_settled = False
        """Whether all instances have had the time to notice it."""

    async def look(self) -> bool:
        """Look at the mark; whether it is another than before. Raises ValkeyAwayError."""
        found, age_ms = await self._line.run("GENERATION", KEY, [fresh_id("gen"), 0])
        before, self.id = self.id, found.decode()
        self.is_settled = int(age_ms) >= GRACE_MS
        return self.id != before
