"""Patterns of model names: the whole name, case-sensitive, only ``*`` special (any run)."""


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
