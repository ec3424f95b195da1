"""Whether the wall clock may be believed for what cannot be undone.

A clock that is wrong for a while must destroy nothing. So what is due is destroyed only after the wall
clock has gone along with the monotonic one for a while: for an hour where it also agrees with the
records of the days before, for a day where it does not, or where it has jumped.
"""

from dataclasses import dataclass

HOUR_SECONDS, DAY_SECONDS = 3600.0, 86_400.0
JUMP_SECONDS = 60.0
"""A smaller step is a correction."""
_DRIFT = 0.001
"""Twice what a kernel adds or takes while it sets a clock right slowly."""
FAR_MS = 172_800_000
"""Two days: where calls were made then, there is a record between this age and half of it."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why nothing is destroyed yet, and for how many seconds."""

    why: str
    seconds: float


class Sureness:
    """Compares readings of both clocks; what it is told of records is asked for by ``evidence_due``."""

    def __init__(self) -> None:
        self._last_offset: float | None = None
        self._first_offset: float | None = None
        self._since = 0.0
        self._wait = DAY_SECONDS
        self._why = "the clock was not compared yet"
        self.evidence_due = True
        """Whether the newest record that is older than a day should be looked up."""

    def look(self, wall_ms: int, seconds: float) -> float | None:
        """Note one reading of both clocks; the step in seconds where the wall clock has jumped."""
        offset = wall_ms / 1000 - seconds
        last, self._last_offset = self._last_offset, offset
        if last is None or self._first_offset is None:
            self._first_offset, self._since = offset, seconds
            return None
        step, crept = offset - last, offset - self._first_offset
        if abs(step) <= JUMP_SECONDS:
            if abs(crept) <= JUMP_SECONDS + _DRIFT * (seconds - self._since):
                return None
            step = crept
        self._first_offset, self._since, self.evidence_due = offset, seconds, True
        self._wait, self._why = DAY_SECONDS, f"the clock jumped by {round(step)} s"
        if abs(step) <= HOUR_SECONDS:
            self._wait = HOUR_SECONDS
        return step

    def compare(self, wall_ms: int, newest_ms: int | None) -> None:
        """Note when the newest record was made that is older than a day by this clock."""
        has_jumped = self._why.startswith("the clock jumped")
        self.evidence_due = False
        if newest_ms is None or wall_ms - newest_ms > FAR_MS:
            if not has_jumped:
                self._why = "no record was made on the day before"
            self._wait = DAY_SECONDS
        elif not has_jumped:
            self._why, self._wait = "the router has just started", HOUR_SECONDS

    def doubt(self, seconds: float) -> Doubt | None:
        """None once the clock may be believed."""
        left = self._since + self._wait - seconds
        return Doubt(self._why, left) if left > 0 else None
