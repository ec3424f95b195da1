"""Say what the tests reach too little of: ``make coverage``.

Takes the JSON report of `coverage json` and holds each file's share of lines and branches against
tests/coverage.toml, the list of files below 90 % with what the rest of each is for. The list only
shrinks: ``--write`` writes new figures, and leaves the words to a person.
"""

import json
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).parent.parent / "tests" / "coverage.toml"
ENOUGH = 90.0
SPARE = 1.0
"""How far a listed file may fall: which of two branches a race takes is chance."""
HEAD = """\
# Files of which `make coverage` reaches fewer than 90 of 100 lines and branches: how many it reached,
# and what the rest is for. The list only shrinks; `scripts/coverage --write` writes the figures.
"""


@dataclass(frozen=True, slots=True)
class Listed:
    """A file below the mark: its share in percent, and what the rest is for."""

    percent: float
    rest: str


def found_in(report: Mapping[str, dict[str, dict[str, dict[str, float]]]]) -> dict[str, float]:
    """File → percent of its lines and branches, from the report of ``coverage json``."""
    return {
        name: one["summary"]["percent_covered"] for name, one in sorted(report["files"].items())
    }


def compared(found: Mapping[str, float], listed: Mapping[str, Listed]) -> list[str]:
    """What is wrong, a sentence each."""
    wrong = []
    for name, percent in found.items():
        known = listed.get(name)
        if known is None and percent < ENOUGH:
            wrong.append(f"{name} is at {percent:.1f} %: add tests, {ENOUGH:.0f} % is the mark.")
        elif known is not None and percent >= ENOUGH:
            wrong.append(f"{name} is at {percent:.1f} %: take it off the list.")
        elif known is not None and percent < known.percent - SPARE:
            wrong.append(f"{name} fell from {known.percent:.1f} % to {percent:.1f} %: add tests.")
    for name, known in listed.items():
        if name not in found:
            wrong.append(f"{name} is listed and was not measured: take it off the list.")
        if not known.rest:
            wrong.append(f"{name} is listed without a word on what the rest is for.")
    return wrong


def read(text: str) -> dict[str, Listed]:
    """The list from its text."""
    return {
        row["file"]: Listed(row["percent"], row["rest"])
        for row in tomllib.loads(text).get("below", ())
    }


def written(found: Mapping[str, float], listed: Mapping[str, Listed]) -> str:
    """The list's text with the figures of now; a file that is new on it has no words yet."""
    parts = [HEAD]
    for name, percent in found.items():
        if percent < ENOUGH:
            rest = json.dumps(listed[name].rest if name in listed else "", ensure_ascii=False)
            parts.append(f'\n[[below]]\nfile = "{name}"\npercent = {percent:.1f}\nrest = {rest}\n')
    return "".join(parts)


def main() -> int:
    found = found_in(json.loads(Path(sys.argv[1]).read_text()))
    if "--write" in sys.argv[2:]:
        LIST.write_text(written(found, read(LIST.read_text())))
    wrong = compared(found, read(LIST.read_text()))
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    print(
        f"{len(found)} files, {sum(percent < ENOUGH for percent in found.values())} below the mark"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
