"""The clock and the dice: the only places below the edges that ask for either.

The pure floors (policy, dialects, domain) never import this module: they take ``now`` and
``draw`` as arguments.
"""

import asyncio
import contextlib
import secrets
import time
from datetime import UTC, datetime
from functools import lru_cache

from xairouter.errors import ConfigError

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"


def now_ms() -> int:
    """The wall clock in milliseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000_000


def format_id(prefix: str, at_ms: int, entropy: int) -> str:
    """An id such as ``call_01k…``: 48 bits of milliseconds, 80 bits of chance, in base32.

    The layout is that of a ULID (github.com/ulid/spec) in lower case, so ids of one prefix
    sort by the time at which they were made.
    """
    value = ((at_ms & (1 << 48) - 1) << 80) | (entropy & (1 << 80) - 1)
    return f"{prefix}_{_in_base32(value, 13)}"


_PAIRS = [high + low for high in _CROCKFORD for low in _CROCKFORD]


def _in_base32(value: int, pairs: int) -> str:
    return "".join([_PAIRS[value >> 10 * place & 1023] for place in reversed(range(pairs))])


@lru_cache(maxsize=4)
def _about(moment: int) -> str:
    """The first 8 digits of an id, which ids share that are made within 1024 milliseconds."""
    return _in_base32(moment, 4)


class _Chance:
    """Ids take their chance from the system a block at a time: asking for each costs more than the
    rest of an id. They are no secrets."""

    def __init__(self) -> None:
        self._block, self._at = "", 0

    def take(self) -> str:
        """80 bits, as 16 digits in base32."""
        at = self._at
        if at >= len(self._block):
            self._block, at = secrets.token_bytes(6400).translate(_DIGIT_OF_BYTE).decode(), 0
        self._at = at + 16
        return self._block[at : at + 16]


_DIGIT_OF_BYTE = _CROCKFORD.encode() * 8
"""Five bits of a random byte make a digit, each as likely as any other."""
_CHANCE = _Chance()


def fresh_id(prefix: str) -> str:
    """A new id with the given prefix, unique by chance and sortable by time."""
    at_ms = now_ms()
    return f"{prefix}_{_about(at_ms >> 10)}{_PAIRS[at_ms & 1023]}{_CHANCE.take()}"


def made_at_ms(identifier: str) -> int:
    """When an id was made, read back from the id itself."""
    value = 0
    for digit in identifier.rpartition("_")[2]:
        value = value << 5 | _CROCKFORD.index(digit)
    return value >> 80


def rfc3339(at_ms: int) -> str:
    """Milliseconds since 1970 as an RFC 3339 instant in UTC, such as ``2026-11-23T06:26:09.123Z``."""
    text = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


FIRST_MS, LAST_MS = -62_135_596_800_000, 253_402_300_799_999


def parse_instant(text: str) -> int:
    """An RFC 3339 instant as milliseconds since 1970; raises ConfigError with a sentence."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError([f"“{text[:40]}” is not an instant like 2026-11-23T06:26:09Z."]) from None
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return _in_utc(value)


def as_ms(moment: datetime | None) -> int | None:
    """Milliseconds since 1970 of a moment; without a zone it is UTC, as in ``parse_instant``."""
    if moment is None:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return _in_utc(moment)


def _in_utc(moment: datetime) -> int:
    """Milliseconds since 1970; of the years 1 and 9999 in another zone, the first or last instant that
    UTC can name."""
    return min(max(int(moment.timestamp() * 1000), FIRST_MS), LAST_MS)


async def pause(stop: asyncio.Event, seconds: float) -> bool:
    """Wait so many seconds, or until told to stop; returns whether to go on."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
    return not stop.is_set()
