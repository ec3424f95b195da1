"""What is to be brought in, whatever it was read from, and what became of each part."""

from dataclasses import dataclass, field
from typing import Any

MAPPED, CHANGED, LEFT_OUT = "mapped", "changed", "left out"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a provider's secret comes from: a variable of the environment, the file itself, or
    (neither) a person. ``""`` as ``literal`` is a server without a secret."""

    variable: str | None = None
    literal: str | None = field(default=None, repr=False)


@dataclass(slots=True)
class KeyWish:
    """A provider key to be added; ``models`` None: what its provider lists."""

    name: str
    provider: str | None
    endpoints: dict[str, str] | None
    source: Source
    level: int
    weight: int
    models: list[str] | None


@dataclass(frozen=True, slots=True)
class AccountWish:
    """A sub-account to be made."""

    name: str
    rules: dict[str, Any]
    is_suspended: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the report: what became of a part, in words."""

    state: str
    what: str
    says: str


@dataclass(slots=True)
class Proposal:
    """Everything to be brought in, in the shapes of the management API, and the report so far."""

    keys: list[KeyWish] = field(default_factory=list)
    model_map: dict[str, str] = field(default_factory=dict)
    failover: dict[str, list[str]] = field(default_factory=dict)
    switch_over: dict[str, list[int]] = field(default_factory=dict)
    prices: dict[str, dict[str, float]] = field(default_factory=dict)
    budget: dict[str, float] = field(default_factory=dict)
    accounts: list[AccountWish] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)

    def say(self, state: str, what: str, says: str) -> None:
        self.lines.append(Line(state, what, says))
