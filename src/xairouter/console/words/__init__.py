"""The console's words: one TOML file a language, ``en.toml`` being the one that has them all.

A translation is a further file with the same keys; what it lacks is said in English. Words may hold
markup, so the files are code; what is put into them is escaped.
"""

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

HERE = Path(__file__).parent
FIRST = "en"


class Words:
    """The words of one language, asked for by key: ``words("usage.title")``."""

    def __init__(self, language: str, entries: Mapping[str, str], behind: "Words | None" = None):
        self.language = language
        self._entries = entries
        self._behind = behind

    def __call__(self, key: str, /, count: int | None = None, **values: object) -> Markup:
        """The sentence of a key with its values put in, escaped. With ``count`` the key has the
        forms ``one`` and ``other``. Raises KeyError for a key that nobody knows."""
        if count is not None:
            key = f"{key}.{'one' if count == 1 else 'other'}"
            values = {**values, "count": f"{count:,}"}
        text = Markup(self._text(key))  # noqa: S704 -- the words are ours; values are escaped
        return text.format(**values) if values else text

    def _text(self, key: str) -> str:
        """The sentence as it is written, in this language or the one behind it."""
        text = self._entries.get(key)
        if text is not None:
            return text
        if self._behind is None:
            raise KeyError(key)
        return self._behind._text(key)  # noqa: SLF001 -- another of our kind

    def has(self, key: str) -> bool:
        """Whether there is such a key, for codes that may be newer than the words."""
        return key in self._entries or (self._behind is not None and self._behind.has(key))


@cache
def languages() -> Mapping[str, Words]:
    """Every language there is a file of."""
    first = Words(FIRST, _read(HERE / f"{FIRST}.toml"))
    others = {
        path.stem: Words(path.stem, _read(path), first)
        for path in sorted(HERE.glob("*.toml"))
        if path.stem != FIRST
    }
    return {FIRST: first, **others}


def words_for(accept_language: str) -> Words:
    """The first language of an ``Accept-Language`` header (RFC 9110 §12.5.4) that there is."""
    known = languages()
    wanted = []
    for place, part in enumerate(accept_language.split(",")[:20]):
        name, _, quality = part.strip().partition(";q=")
        try:
            wanted.append((-float(quality or 1), place, name.strip().lower()))
        except ValueError:
            continue
    for _, _, name in sorted(wanted):
        for candidate in (name, name.partition("-")[0]):
            if candidate in known:
                return known[candidate]
    return known[FIRST]


def _read(path: Path) -> dict[str, str]:
    return dict(_flat(tomllib.loads(path.read_text(encoding="utf-8"))))


def _flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", str(value)
