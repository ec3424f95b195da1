"""Why a provider failed a call, and what that says about its key.

The class follows the cause, not the status alone: “out of credit” comes as 400, 402, 403 or 429,
and a client's own mistake is never held against a key. What a provider says in its own way stands
in its row (``Provider.signs``), and is read from the error's own fields (``domain.said``), never
from text that may quote the client; this file holds the order in which things are asked.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from xairouter.domain.failures import Cause, Failure, Sign
from xairouter.domain.said import Said, read_error

LONGEST_WAIT = 3600.0
"""Seconds; a provider that asks for more is asked again after an hour all the same."""

_BY_STATUS: Mapping[int, Cause] = {
    402: Cause.OUT_OF_CREDIT,
    403: Cause.ABSENT,  # Rejected keys were told apart before: this one may not do this thing.
    408: Cause.FAILED,
    429: Cause.LIMITED,
    500: Cause.FAILED,
    502: Cause.FAILED,
    503: Cause.OVERLOADED,
    504: Cause.FAILED,
    529: Cause.OVERLOADED,
}


def classify(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    signs: tuple[Sign, ...],
    now_ms: int,
) -> Failure:
    """Why an error reply came; ``body`` is what of it was read, ``headers`` have lower-case names."""
    said = read_error(body)
    for sign in signs:
        if sign.mark.fits(status, said):
            return Failure(sign.cause, wait_of(headers, said, now_ms))
    cause = _BY_STATUS.get(status, Cause.CLIENT)
    return Failure(cause, None if cause == Cause.CLIENT else wait_of(headers, said, now_ms))


def wait_of(headers: Mapping[str, str], said: Said, now_ms: int) -> float | None:
    """Seconds until a retry makes sense, as far as the reply says.

    Sources: RFC 9110 §10.2.3 (Retry-After); ``retry-after-ms`` and ``x-ratelimit-reset-*``
    (OpenAI's rate limit guide, durations like 6m0s); ``anthropic-ratelimit-*-reset`` (Anthropic's
    rate limit page, RFC 3339); google.rpc.RetryInfo in a Gemini error body.
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    after = headers.get("retry-after", "")
    if after:
        seconds = _number(after)
        return _bounded(seconds if seconds is not None else _until_date(after, now_ms))
    if said.delay is not None:
        return _bounded(said.delay)
    return _bounded(_reset(headers, now_ms))


_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _reset(headers: Mapping[str, str], now_ms: int) -> float | None:
    """The reset of the limit that is used up: the latest of those with nothing remaining, else
    the soonest of all."""
    used_up: list[float] = []
    others: list[float] = []
    for name, value in headers.items():
        if name.startswith("x-ratelimit-reset"):
            wait = _duration(value, now_ms)
        elif name.startswith("anthropic-ratelimit-") and name.endswith("-reset"):
            wait = _until_instant(value, now_ms)
        else:
            continue
        if wait is None:
            continue
        left = headers.get(name.replace("reset", "remaining"), "")
        (used_up if _number(left) == 0 else others).append(wait)
    if used_up:
        return max(used_up)
    return min(others) if others else None


def _duration(value: str, now_ms: int) -> float | None:
    """``6m0s`` or ``20ms`` as seconds; a bare number is seconds, or an instant if it is large."""
    number = _number(value)
    if number is not None:
        if number > 1e11:
            return number / 1000 - now_ms / 1000
        return number - now_ms / 1000 if number > 1e8 else number
    parts = _DURATION.findall(value)
    if not parts or "".join(a + b for a, b in parts) != value.strip():
        return None
    return sum(float(amount) * _UNITS[unit] for amount, unit in parts)


def _until_instant(value: str, now_ms: int) -> float | None:
    try:
        until = datetime.fromisoformat(value.strip())
        # Without a zone it is UTC, not wherever this machine stands.
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
        return until.timestamp() - now_ms / 1000
    except (ValueError, OverflowError):
        return None


def _until_date(value: str, now_ms: int) -> float | None:
    try:
        return parsedate_to_datetime(value).timestamp() - now_ms / 1000
    except (ValueError, TypeError, OverflowError):
        return None


def _number(text: str) -> float | None:
    text = text.strip()
    if not text or len(text) > 20 or not text.replace(".", "", 1).isdecimal():
        return None
    return float(text)


def _bounded(seconds: float | None) -> float | None:
    return None if seconds is None else min(max(seconds, 0.0), LONGEST_WAIT)
