"""Patterns of model names: the whole name, case-sensitive, only ``*`` special (any run).

``matches`` decides one name, ``is_within`` whether every name of a pattern is one of a set of
patterns: exactly, as far as the steps that are granted go.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")
_ANY = "*"
_FRESH = "\x00"
"""A character that stands for every one that no pattern names."""
MOST_STARS = 4
"""In one pattern that is written: each star is one more search through every name that is asked about."""
MOST_STEPS = 200_000
"""Steps of one question, however many patterns are in it: some tenths of a second."""
_STEPS_OF_STATES = 4
MOST_REMEMBERED = 4096


def matches(pattern: str, name: str) -> bool:
    """True if the pattern covers the whole name.

    Each part between two stars is taken at its first place, which never loses a match; so a
    hostile pattern costs no more than its length times the name's, unlike a regular expression.
    """
    first, star, rest = pattern.partition("*")
    if not star:
        return pattern == name
    *middle, last = rest.split("*")
    at, end = len(first), len(name) - len(last)
    if at > end or not name.startswith(first) or not name.endswith(last):
        return False
    for part in middle:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


class Steps:
    """What a question about patterns may still take. Where nothing is left, what was not shown
    counts as not so."""

    __slots__ = ("left",)

    def __init__(self, most: int = MOST_STEPS) -> None:
        self.left = most

    def take(self, count: int) -> bool:
        """Whether so many steps may be done."""
        self.left -= count
        return self.left >= 0


class PatternSet:
    """Names and patterns, asked again and again: exact names first, answers remembered."""

    __slots__ = ("_exact", "_known", "_patterns", "patterns")

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(patterns)
        self._exact = frozenset(one for one in self.patterns if _ANY not in one)
        self._patterns = tuple(one for one in self.patterns if _ANY in one)
        self._known: dict[str, bool] = {}

    def covers(self, name: str, steps: Steps | None = None) -> bool:
        """Whether one of the patterns matches the name."""
        if name in self._exact:
            return True
        if not self._patterns:
            return False
        known = self._known.get(name)
        if known is None:
            if steps is not None and not steps.take(len(self._patterns)):
                return False
            known = any(matches(one, name) for one in self._patterns)
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known[name] = known
        return known

    def contains(self, pattern: str, steps: Steps) -> bool:
        """Whether every name of a pattern is matched by one of these."""
        if _ANY not in pattern:
            return self.covers(pattern, steps)
        return is_within(pattern, self._patterns, steps)


def best_match(table: Mapping[str, T], name: str) -> T | None:
    """The value of the pattern that matches best: the exact name before the longest pattern."""
    exact = table.get(name)
    if exact is not None:
        return exact
    found = [pattern for pattern in table if _ANY in pattern and matches(pattern, name)]
    return table[max(found, key=lambda one: (len(one), one))] if found else None


def is_within(pattern: str, patterns: Iterable[str], steps: Steps | None = None) -> bool:
    """Whether every name that the pattern matches is matched by one of the others.

    Most cases fall to one pattern alone: over names of any characters, p lies within q exactly if
    q matches p with each star read as a character that q does not name. What only several patterns
    together cover is decided by walking the pattern beside the set of states that the others can
    be in. Where the steps do not suffice for that, the answer is no.
    """
    steps = steps or Steps()
    others = tuple(patterns)
    probe = pattern.replace(_ANY, _FRESH)
    if not steps.take(len(others)):
        return False
    if any(matches(other, probe) for other in others):
        return True
    if _ANY not in pattern or len(others) < 2:
        return False
    return _is_covered(pattern, others, steps)


def _is_covered(pattern: str, others: tuple[str, ...], steps: Steps) -> bool:
    letters = {*pattern, *(letter for other in others for letter in other)} - {_ANY} | {_FRESH}
    start = (_closure(pattern, {0}), tuple(_closure(other, {0}) for other in others))
    seen, queue = {start}, [start]
    while queue:
        own, theirs = queue.pop()
        if len(pattern) in own and not any(
            len(other) in states for other, states in zip(others, theirs, strict=True)
        ):
            return False
        width = len(own) + sum(map(len, theirs)) + len(others)
        for letter in letters:
            if not steps.take(_STEPS_OF_STATES * width):
                return False
            step = _step(pattern, own, letter)
            if not step:
                continue
            state = (
                step,
                tuple(
                    _step(other, states, letter)
                    for other, states in zip(others, theirs, strict=True)
                ),
            )
            if state not in seen:
                seen.add(state)
                queue.append(state)
    return True


def _closure(pattern: str, states: set[int]) -> frozenset[int]:
    """Places in a pattern that are reached without reading: a star may match nothing."""
    found = set(states)
    for at in sorted(states):
        while at < len(pattern) and pattern[at] == _ANY:
            at += 1
            found.add(at)
    return frozenset(found)


def _step(pattern: str, states: frozenset[int], letter: str) -> frozenset[int]:
    reached = set()
    for at in states:
        if at < len(pattern):
            if pattern[at] == _ANY:
                reached.add(at)
            elif pattern[at] == letter:
                reached.add(at + 1)
    return _closure(pattern, reached)
