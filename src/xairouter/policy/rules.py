"""Rules documents: from JSON to values, what holds for an account, and what would widen it.

The document's shape is the contract's (docs/reference/rules.md). Everything about an account is
decided along its path from the owner: a call must pass each account's own rules, so a parent that
tightens binds everything below it at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from functools import lru_cache
from typing import Any, TypedDict, cast

import msgspec

from xairouter.domain.accounts import Account
from xairouter.domain.rules import LIMIT_NAMES, Budget, Limits, Routing, Rules
from xairouter.policy.networks import Networks, without_inner
from xairouter.policy.patterns import PatternSet, Steps

NANO = 10**9
LISTS = ("allow_ips", "allow_models", "allow_paths", "allow_levels")
BUDGETS = ("day_usd", "month_usd", "total_usd")


class RulesDocument(TypedDict, total=False):
    """Rules as they are shown and stored; what is missing says nothing."""

    allow_ips: list[str]
    allow_models: list[str]
    allow_paths: list[str]
    allow_levels: list[int]
    limits: dict[str, int]
    model_limits: dict[str, dict[str, int]]
    budget: dict[str, float]
    model_map: dict[str, str]
    max_output_tokens: int


@dataclass(frozen=True, slots=True)
class Compiled:
    """One account's own rules, ready to be asked; None where nothing is said."""

    rules: Rules = field(default_factory=Rules)
    networks: Networks | None = None
    models: PatternSet | None = None
    paths: tuple[str, ...] | None = None
    levels: frozenset[int] | None = None
    counts: bool = field(init=False, compare=False)
    """Whether calls are counted for this account: it has a limit or a budget."""
    has_budget: bool = field(init=False, compare=False)

    def __post_init__(self) -> None:
        rules = self.rules
        has_budget = bool(rules.budget.items())
        counts = bool(rules.limits.items() or rules.model_limits or has_budget)
        object.__setattr__(self, "has_budget", has_budget)
        object.__setattr__(self, "counts", counts)


NOTHING = Compiled()


@lru_cache(maxsize=20_000)
def compile_text(text: str) -> Compiled:
    """Rules as stored, compiled; equal texts share the result."""
    if text in ("", "{}"):
        return NOTHING
    rules = read_rules(msgspec.json.decode(text))
    return Compiled(
        rules,
        None if rules.allow_ips is None else Networks(rules.allow_ips),
        None if rules.allow_models is None else PatternSet(rules.allow_models),
        rules.allow_paths,
        None if rules.allow_levels is None else frozenset(rules.allow_levels),
    )


def read_rules(document: Mapping[str, Any]) -> Rules:
    """A checked document as values."""
    budget = document.get("budget") or {}
    return Rules(
        **{name: _tuple(document.get(name)) for name in LISTS},
        limits=_limits(document.get("limits")),
        model_limits={
            pattern: _limits(limits)
            for pattern, limits in (document.get("model_limits") or {}).items()
        },
        budget=Budget(
            **{f"{name.removesuffix('_usd')}_nano": _nano(budget.get(name)) for name in BUDGETS},
            notify_at=budget.get("notify_at"),
        ),
        model_map=dict(document.get("model_map") or {}),
        max_output_tokens=document.get("max_output_tokens"),
    )


def read_routing(document: Mapping[str, Any]) -> Routing:
    """A checked routing document as values."""
    return Routing(
        dict(document.get("level_map") or {}),
        {int(level): tuple(to) for level, to in (document.get("switch_over") or {}).items()},
        {name: tuple(to) for name, to in (document.get("model_failover") or {}).items()},
    )


def _tuple(values: Any) -> Any:
    return None if values is None else tuple(values)


def _limits(document: Any) -> Limits:
    given = document or {}
    return Limits(**{name: given.get(name) for name in LIMIT_NAMES})


def _nano(usd: Any) -> int | None:
    return None if usd is None else int((Decimal(str(usd)) * NANO).to_integral_value())


def write_rules(rules: Rules) -> RulesDocument:
    """Values as a document, without what says nothing."""
    found: dict[str, Any] = {}
    for name in LISTS:
        value = getattr(rules, name)
        if value is not None:
            found[name] = list(value)
    if rules.limits.items():
        found["limits"] = dict(rules.limits.items())
    if rules.model_limits:
        found["model_limits"] = {p: dict(one.items()) for p, one in rules.model_limits.items()}
    budget: dict[str, Any] = {f"{name}_usd": nano / NANO for name, nano in rules.budget.items()}
    if rules.budget.notify_at is not None:
        budget["notify_at"] = rules.budget.notify_at
    if budget:
        found["budget"] = budget
    if rules.model_map:
        found["model_map"] = dict(rules.model_map)
    if rules.max_output_tokens is not None:
        found["max_output_tokens"] = rules.max_output_tokens
    return cast(RulesDocument, found)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a part of the effective rules comes from."""

    rule: str
    account: Account


def effective(chain: Sequence[tuple[Account, Compiled]]) -> tuple[Rules, list[Source]]:
    """What holds for the last account of a path, as one document, and whose each part is.

    A list shows what lies within every account's list; a number is the lowest. Names that only
    several overlapping patterns allow together are allowed all the same, and not listed.
    """
    values, sources = _common_lists(chain)
    limits: dict[str, int] = {}
    by_model: dict[str, dict[str, int]] = {}
    budget: dict[str, Any] = {}
    mapped: dict[str, str] = {}
    for account, made in chain:
        rules = made.rules
        for name, value in rules.limits.items():
            if value < limits.get(name, value + 1):
                limits[name] = value
                sources.append(Source(f"limits.{name}", account))
        for pattern, some in rules.model_limits.items():
            for name, value in some.items():
                known = by_model.setdefault(pattern, {})
                known[name] = min(value, known.get(name, value))
                sources.append(Source(f"model_limits.{pattern}.{name}", account))
        for name, value in rules.budget.items():
            if value < budget.get(f"{name}_nano", value + 1):
                budget[f"{name}_nano"] = value
                sources.append(Source(f"budget.{name}_usd", account))
        if rules.budget.notify_at is not None:
            budget["notify_at"] = rules.budget.notify_at
        # The nearest account's pattern wins over the same one further up.
        mapped.update(rules.model_map)
        sources += [Source(f"model_map.{pattern}", account) for pattern in rules.model_map]
    whole = Rules(
        **values,
        limits=Limits(**limits),
        model_limits={pattern: Limits(**some) for pattern, some in by_model.items()},
        budget=Budget(**budget),
        model_map=mapped,
    )
    return whole, sources


def _common_lists(
    chain: Sequence[tuple[Account, Compiled]],
) -> tuple[dict[str, Any], list[Source]]:
    """The fields of the effective document that need no sum: lists and the most output."""
    steps = Steps()
    sources: list[Source] = []
    values: dict[str, Any] = {}
    for name in LISTS:
        own = [(account, made) for account, made in chain if getattr(made.rules, name) is not None]
        if own:
            values[name] = _common(name, [made for _, made in own], steps)
            sources += [Source(name, account) for account, _ in own]
    most = [(made.rules.max_output_tokens, account) for account, made in chain]
    known_most = [(value, account) for value, account in most if value is not None]
    if known_most:
        value, account = min(known_most, key=lambda one: one[0])
        values["max_output_tokens"] = value
        sources.append(Source("max_output_tokens", account))
    return values, sources


def _common(name: str, made: list[Compiled], steps: Steps) -> tuple[Any, ...]:
    """What of several lists lies within each of them, nothing of it twice."""
    lists = [getattr(one.rules, name) for one in made]
    kept: list[Any] = [
        item
        for item in dict.fromkeys(item for some in lists for item in some)
        if all(_is_covered(name, item, one, steps) for one in made)
    ]
    if name == "allow_levels":
        return tuple(sorted(kept))
    if name == "allow_ips":
        return without_inner(kept)
    if name == "allow_models":
        return _without_inner_names(kept, steps)
    return tuple(
        item for item in kept if not any(one != item and is_path_within(item, one) for one in kept)
    )


def _without_inner_names(names: list[str], steps: Steps) -> tuple[str, ...]:
    """Names and patterns without those that lie within a single other one."""
    patterns = [PatternSet((one,)) for one in names if "*" in one]
    return tuple(
        name
        for name in names
        if not any(
            one.patterns[0] != name
            and one.contains(name, steps)
            and not ("*" in name and PatternSet((name,)).contains(one.patterns[0], steps))
            for one in patterns
        )
    )


def _is_covered(name: str, item: Any, made: Compiled, steps: Steps) -> bool:
    if name == "allow_ips":
        return made.networks is not None and made.networks.covers(item)
    if name == "allow_models":
        return made.models is not None and made.models.contains(item, steps)
    if name == "allow_paths":
        return any(is_path_within(item, other) for other in made.paths or ())
    return item in (made.levels or ())


def is_path_within(path: str, prefix: str) -> bool:
    """Whether a path is the prefix or lies below it, by whole segments; a model's verb behind a
    colon counts as below the model."""
    prefix = prefix.rstrip("/")
    return path == prefix or path.startswith((prefix + "/", prefix + ":"))


@dataclass(frozen=True, slots=True)
class Wider:
    """A part of a document that is wider than what an ancestor allows."""

    rule: str
    what: str
    account: Account


def wider_than(document: Rules, above: Sequence[tuple[Account, Compiled]]) -> list[Wider]:
    """Where rules are wider than those of the accounts above; empty if nowhere.

    ``above`` is the path from the owner to the parent. A rule that is not set inherits and is
    never wider. What cannot be shown to lie within in ``patterns.MOST_STEPS`` counts as wider.
    """
    steps = Steps()
    found: list[Wider] = []
    for account, made in above:
        for name in LISTS:
            if getattr(made.rules, name) is None:
                continue
            for item in getattr(document, name) or ():
                if not _is_covered(name, item, made, steps):
                    found.append(Wider(name, str(item), account))
        found += _wider_numbers(document, account, made.rules)
    return found


def _wider_numbers(document: Rules, account: Account, above: Rules) -> list[Wider]:
    found: list[Wider] = []

    def compare(rule: str, own: int | None, most: int | None, scale: int = 1) -> None:
        if own is not None and most is not None and own > most:
            found.append(Wider(rule, f"{own / scale:g} > {most / scale:g}", account))

    for name in LIMIT_NAMES:
        compare(f"limits.{name}", getattr(document.limits, name), getattr(above.limits, name))
    for pattern, limits in document.model_limits.items():
        same = above.model_limits.get(pattern, Limits())
        for name, value in limits.items():
            most = getattr(same, name)
            compare(f"model_limits.{pattern}.{name}", value, most)
            if most is None:
                compare(f"model_limits.{pattern}.{name}", value, getattr(above.limits, name))
    for one in fields(Budget):
        if one.name.endswith("_nano"):
            rule = f"budget.{one.name.removesuffix('_nano')}_usd"
            compare(rule, getattr(document.budget, one.name), getattr(above.budget, one.name), NANO)
    compare("max_output_tokens", document.max_output_tokens, above.max_output_tokens)
    return found
