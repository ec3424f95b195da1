"""An account's rules as values: who may call what, from where, how much.

None means that nothing is said: the rule is inherited, and at the owner unrestricted. Money is
nano-dollars.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

REQUEST_WINDOWS = ("rpm", "rph", "rpd")
TOKEN_WINDOWS = ("tpm", "tph", "tpd")
LIMIT_NAMES = (*REQUEST_WINDOWS, *TOKEN_WINDOWS, "concurrency")


@dataclass(frozen=True, slots=True)
class Limits:
    """Requests and tokens per minute, hour and day, and calls at one time."""

    rpm: int | None = None
    rph: int | None = None
    rpd: int | None = None
    tpm: int | None = None
    tph: int | None = None
    tpd: int | None = None
    concurrency: int | None = None

    def items(self) -> tuple[tuple[str, int], ...]:
        """The limits that are set: (name, number)."""
        return tuple(
            (name, value) for name in LIMIT_NAMES if (value := getattr(self, name)) is not None
        )


@dataclass(frozen=True, slots=True)
class Budget:
    """Money per calendar day, per calendar month and in total; at ``notify_at`` of one of them (a
    share of 0 to 1) somebody is told."""

    day_nano: int | None = None
    month_nano: int | None = None
    total_nano: int | None = None
    notify_at: float | None = None

    def items(self) -> tuple[tuple[str, int], ...]:
        """The budgets that are set: (``day``, ``month`` or ``total``, nano-dollars)."""
        found = (("day", self.day_nano), ("month", self.month_nano), ("total", self.total_nano))
        return tuple((name, value) for name, value in found if value is not None)


@dataclass(frozen=True, slots=True)
class Rules:
    """One account's own rules; an empty list allows nothing."""

    allow_ips: tuple[str, ...] | None = None
    allow_models: tuple[str, ...] | None = None
    allow_paths: tuple[str, ...] | None = None
    allow_levels: tuple[int, ...] | None = None
    limits: Limits = field(default_factory=Limits)
    model_limits: Mapping[str, Limits] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    model_map: Mapping[str, str] = field(default_factory=dict)
    max_output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Routing:
    """An owner's routing: model pattern → level, level → levels to go on to, model pattern →
    models to go on to."""

    level_map: Mapping[str, int] = field(default_factory=dict)
    switch_over: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    model_failover: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
