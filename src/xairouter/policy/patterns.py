"""Patterns of model names: the whole name, case-sensitive, only ``*`` special (any run).

``matches`` decides one name, ``is_within`` whether every name of a pattern is one of a set of
patterns: exactly, so that a rule is refused as too wide only if it is.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")
_ANY = "*"
_FRESH = "\x00"
"""A character that stands for every one that no pattern names."""
MOST_STATES = 20_000
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


class PatternSet:
    """Names and patterns, asked again and again: exact names first, answers remembered."""

    __slots__ = ("_exact", "_known", "_patterns", "patterns")

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(patterns)
        self._exact = frozenset(one for one in self.patterns if _ANY not in one)
        self._patterns = tuple(one for one in self.patterns if _ANY in one)
        self._known: dict[str, bool] = {}

    def covers(self, name: str) -> bool:
        """Whether one of the patterns matches the name."""
        if name in self._exact:
            return True
        if not self._patterns:
            return False
        known = self._known.get(name)
        if known is None:
            known = any(matches(one, name) for one in self._patterns)
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known[name] = known
        return known


def best_match(table: Mapping[str, T], name: str) -> T | None:
    """The value of the pattern that matches best: the exact name before the longest pattern."""
    exact = table.get(name)
    if exact is not None:
        return exact
    found = [pattern for pattern in table if _ANY in pattern and matches(pattern, name)]
    return table[max(found, key=lambda one: (len(one), one))] if found else None


def is_within(pattern: str, patterns: Iterable[str]) -> bool:
    """Whether every name that the pattern matches is matched by one of the others.

    Most cases fall to one pattern alone: over names of any characters, p lies within q exactly if
    q matches p with each star read as a character that q does not name. What only several patterns
    together cover is decided by walking the pattern beside the set of states that the others can
    be in; should that take more than ``MOST_STATES`` steps, the answer is no.
    """
    others = tuple(patterns)
    probe = pattern.replace(_ANY, _FRESH)
    if any(matches(other, probe) for other in others):
        return True
    if _ANY not in pattern or len(others) < 2:
        return False
    return _is_covered(pattern, others)


def _is_covered(pattern: str, others: tuple[str, ...]) -> bool:
    letters = {*pattern, *(letter for other in others for letter in other)} - {_ANY} | {_FRESH}
    start = (_closure(pattern, {0}), tuple(_closure(other, {0}) for other in others))
    seen, queue = {start}, [start]
    while queue:
        own, theirs = queue.pop()
        if len(pattern) in own and not any(
            len(other) in states for other, states in zip(others, theirs, strict=True)
        ):
            return False
        for letter in letters:
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
                if len(seen) >= MOST_STATES:
                    return False
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
