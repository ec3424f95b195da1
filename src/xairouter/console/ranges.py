"""Ranges of time that figures are shown for, and the days and hours that a chart has for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from xairouter.clock import parse_instant, rfc3339
from xairouter.errors import ConfigError, ErrorCode, ManageError

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
_SPANS = {"24h": DAY_MS, "7d": 7 * DAY_MS, "30d": 30 * DAY_MS}
_MONTHS = {"month": 1, "12m": 12}
"""Calendar months, the present one included."""
_MOST_DAYS = 3660


@dataclass(frozen=True, slots=True)
class Range:
    """From an instant up to another (None: until now and whatever comes); ``step`` is the
    distance of a chart's points, ``hour`` or ``day``."""

    name: str
    from_ms: int
    until_ms: int | None
    step: str
    zone: ZoneInfo
    now_ms: int

    def asked(self) -> dict[str, str]:
        """The range as query parameters of the management API."""
        ends = {} if self.until_ms is None else {"to": rfc3339(self.until_ms)}
        return {"from": rfc3339(self.from_ms), **ends}

    def buckets(self) -> list[int]:
        """The beginnings of its hours, or of its days in the owner's time zone."""
        ends = self.until_ms if self.until_ms is not None else self.now_ms + 1
        if self.step == "hour":
            return list(range(self.from_ms // HOUR_MS * HOUR_MS, ends, HOUR_MS))
        day = _day_of(self.from_ms, self.zone)
        found = []
        while (at := _ms(day)) < ends:
            found.append(at)
            day = _next_day(day, self.zone)
        return found

    @property
    def group(self) -> str:
        """By what sums are asked for: hours, unless the owner's days are those of UTC."""
        return "day" if self.step == "day" and self.zone.key == "UTC" else "hour"

    def series(
        self, sums: Sequence[Mapping[str, Any]], names: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Sums by ``group`` (RFC 3339) as a row for every bucket, empty ones too. A day is the
        owner's; an hour belongs to the day in which it begins."""
        rows: dict[int, dict[str, Any]] = {
            at: {self.step: at, **dict.fromkeys(names, 0)} for at in self.buckets()
        }
        for one in sums:
            at = parse_instant(one[self.group])
            if self.step == "day":
                at = _ms(_day_of(at, self.zone))
            if at in rows:
                for name in names:
                    rows[at][name] += one[name] or 0
        return list(rows.values())


_YEARS = "1971", "9998"


def read_range(query: Mapping[str, str], zone: ZoneInfo, now_ms: int, default: str) -> Range:
    """The range that a page's address names: ``range``, or ``from`` and ``to`` as dates or instants."""
    if query.get("from"):
        begin = _instant(query["from"], zone, "from")
        until = _instant(query["to"], zone, "to", is_end=True) if query.get("to") else None
        end = until if until is not None else now_ms
        if not 0 <= end - begin <= _MOST_DAYS * DAY_MS:
            raise ManageError(
                ErrorCode.INVALID_FIELD, "The range ends before it begins.", {"to": "must be later"}
            )
        step = "hour" if end - begin <= 2 * DAY_MS else "day"
        return Range("own", begin, until, step, zone, now_ms)
    name = query.get("range", default)
    if name in _SPANS:
        step = "hour" if name == "24h" else "day"
        begin = now_ms - _SPANS[name]
        begin = begin // HOUR_MS * HOUR_MS if step == "hour" else _ms(_day_of(begin, zone))
        return Range(name, begin, None, step, zone, now_ms)
    today = _day_of(now_ms, zone)
    if name in _MONTHS:
        months = today.year * 12 + today.month - _MONTHS[name]
        first = datetime(months // 12, months % 12 + 1, 1, tzinfo=zone)
        return Range(name, _ms(first), None, "day", zone, now_ms)
    return Range("today", _ms(today), None, "hour", zone, now_ms)


def _instant(text: str, zone: ZoneInfo, name: str, *, is_end: bool = False) -> int:
    """A date in the owner's zone (as an end: the whole of it), or an instant."""
    if not text[:4].isdecimal() or not _YEARS[0] <= text[:4] <= _YEARS[1]:
        raise ManageError(
            ErrorCode.INVALID_FIELD,
            f"A range lies in the years {_YEARS[0]} to {_YEARS[1]}.",
            {name: "a date or an instant"},
        )
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=zone)
        return _ms(_next_day(day, zone) if is_end else day)
    except ValueError:
        pass
    try:
        return parse_instant(text)
    except ConfigError as error:
        raise ManageError(
            ErrorCode.INVALID_FIELD, str(error), {name: "a date or an instant"}
        ) from None


def _day_of(ms: int, zone: ZoneInfo) -> datetime:
    local = datetime.fromtimestamp(ms / 1000, UTC).astimezone(zone)
    return local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)


def _next_day(day: datetime, zone: ZoneInfo) -> datetime:
    following = day.date() + timedelta(days=1)
    return datetime(following.year, following.month, following.day, tzinfo=zone)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
