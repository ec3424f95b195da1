"""Patterns of model names: the whole name, case-sensitive, only ``*`` special (any run)."""

import re
from functools import lru_cache


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)


def matches(pattern: str, name: str) -> bool:
    """True if the pattern covers the whole name."""
    if "*" not in pattern:
        return pattern == name
    return _compiled(pattern).fullmatch(name) is not None
