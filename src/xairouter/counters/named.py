"""What counters, and their kinds and units, are called in Valkey, and what it answers of them
(``scripts``)."""

from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

from xairouter.counters.interface import Left
from xairouter.policy.limits import Demand, Key
from xairouter.policy.windows import (
    DAY,
    EVER,
    MONEY,
    MONTH,
    NOW,
    REQUESTS,
    RUNNING,
    SLIDING,
    TOKENS,
    WINDOWS,
    seconds_until,
)

KINDS = {SLIDING: "s", DAY: "p", MONTH: "p", EVER: "e", NOW: "n"}
UNITS = {REQUESTS: "R", TOKENS: "T", MONEY: "M", RUNNING: "N"}


def tag_of(owner_id: str) -> str:
    return f"{{xr:{owner_id}}}"


def name_of(key: Key, zone: ZoneInfo) -> str:
    """A counter's name; a calendar's counters belong to its zone."""
    account_id, pattern, window = key
    calendar = f"|{zone.key}" if KINDS[WINDOWS[window].kind] == "p" else ""
    return f"{account_id}|{pattern}{calendar}|{window}"


def names_of(known: Mapping[str, Mapping[str, Key]]) -> list[str]:
    return [name for of_account in known.values() for name in of_account]


def left_of(demand: Demand, shown: Any, now: int) -> Left:
    """From the script's (fits, used before, instant at which the limit is whole again)."""
    remaining = max(0, demand.limit - int(shown[1]) - demand.amount)
    return Left(demand.limit, remaining, seconds_until(int(shown[2]), now))
