"""How the console writes figures: money, tokens, times. Nothing known is an em dash, never a 0."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from markupsafe import Markup

from xairouter.clock import now_ms, parse_instant
from xairouter.console.words import Words

NOTHING = Markup("—")
_STEPS = ((86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"))
_DAY_MS = 86_400_000
_SIGNS = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥"}


@dataclass(frozen=True, slots=True)
class Show:
    """Writes figures in an owner's time zone and currency."""

    words: Words
    zone: ZoneInfo
    currency: str = "USD"
    per_usd: float = 1.0

    def money(self, usd: float | None) -> Markup:
        """US dollars in the owner's currency: cents above one, four significant digits below."""
        if usd is None:
            return NOTHING
        amount = usd * self.per_usd
        text = f"{amount:,.2f}" if abs(amount) >= 1 or amount == 0 else f"{amount:.4g}"
        if "e" in text:
            text = f"{amount:.9f}".rstrip("0")
        sign = _SIGNS.get(self.currency)
        shown = f"{sign}{text}" if sign else f"{text} {self.currency}"
        return Markup('<data value="{}" title="{} USD">{}</data>').format(
            f"{amount:.9f}", f"{usd:.9f}".rstrip("0").rstrip("."), shown
        )

    @property
    def unit(self) -> str:
        """What stands before an amount on a chart's axis."""
        return _SIGNS.get(self.currency, f"{self.currency} ")

    def count(self, value: int | None) -> Markup:
        """A count as it is up to five digits, then shortened, the exact one under the pointer."""
        if value is None:
            return NOTHING
        if abs(value) < 100_000:
            shown = f"{value:,}"
        else:
            for size, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
                if abs(value) >= size:
                    shown = f"{value / size:.3g} {unit}"
                    break
        return Markup('<data value="{}" title="{}">{}</data>').format(value, f"{value:,}", shown)

    def tokens(self, value: int | None) -> Markup:
        """Tokens as 12.4 k, the exact count under the pointer."""
        if value is None or abs(value) < 1000:
            return self.count(value)
        for size, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
            if abs(value) >= size:
                shown = f"{value / size:.3g} {unit}"
                break
        return Markup('<data value="{}" title="{}">{}</data>').format(value, f"{value:,}", shown)

    def duration(self, milliseconds: int | None) -> Markup:
        """Milliseconds below ten seconds, seconds above."""
        if milliseconds is None:
            return NOTHING
        text = f"{milliseconds:,} ms" if milliseconds < 10_000 else f"{milliseconds / 1000:,.1f} s"
        return Markup('<data value="{}">{}</data>').format(milliseconds, text)

    def share(self, part: float | None, whole: float | None) -> Markup:
        """One number of another in per cent."""
        if part is None or not whole:
            return NOTHING
        percent = 100 * part / whole
        if 0 < percent < 0.1:
            return Markup("&lt; 0.1 %")
        digits = 0 if percent >= 10 or percent == 0 else 1
        return Markup("{} %").format(f"{percent:.{digits}f}")

    def local(self, at: Any, form: str = "%Y-%m-%d %H:%M:%S %Z") -> str:
        """An instant (RFC 3339 or milliseconds) in the owner's time zone."""
        moment = datetime.fromtimestamp(_ms(at) / 1000, UTC).astimezone(self.zone)
        return moment.strftime(form)

    def ago(self, at: Any) -> Markup:
        """An instant as “3 min ago”, further back than a day as a date; exact under the pointer."""
        if at is None:
            return NOTHING
        ms = _ms(at)
        past = now_ms() - ms
        if abs(past) < 60_000:
            text = str(self.words("time.now" if past >= 0 else "time.soon"))
        elif abs(past) < _DAY_MS:
            size, unit = next(step for step in _STEPS if abs(past) >= step[0])
            number = round(abs(past) / size)
            way = "ago" if past > 0 else "in"
            text = str(self.words(f"time.{unit}_{way}", number=number))
        else:
            text = self.local(ms, "%-d %b %Y")
        return Markup('<time datetime="{}" title="{}">{}</time>').format(
            _iso(ms), self.local(ms), text
        )

    def clock(self, at: Any) -> Markup:
        """An instant as date and time of day; exact under the pointer."""
        if at is None:
            return NOTHING
        ms = _ms(at)
        return Markup('<time datetime="{}" title="{}">{}</time>').format(
            _iso(ms), self.local(ms), self.local(ms, "%-d %b %H:%M:%S")
        )

    def axis(self, at: Any, step: str) -> Markup:
        """The name of a day or an hour on a chart's axis."""
        ms = _ms(at)
        form = "%-d %b" if step == "day" else "%-d %b %H:%M"
        return Markup('<time datetime="{}">{}</time>').format(_iso(ms), self.local(ms, form))


def _ms(at: Any) -> int:
    return at if isinstance(at, int) else parse_instant(str(at))


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
