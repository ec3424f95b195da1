"""From a model's name to the ordered routes that may serve it.

First the levels: the one that ``level_map`` names for the model, else the lowest allowed one that
serves it; then those that ``switch_over`` goes on to from there, each once. Then, for each model
that ``model_failover`` names, the same again. Inside a level keys share the load by weighted
rendezvous hashing of the session, so that a conversation stays on one key while it is healthy.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, islice
from math import log

from xairouter.domain.accounts import KeyHealth, ProviderKey
from xairouter.domain.calls import Plan, Refusal, Route
from xairouter.domain.rules import Routing
from xairouter.domain.steps import Steps, at_once
from xairouter.errors import ErrorCode
from xairouter.policy.access import mapped_model, who_forbids, who_forbids_level
from xairouter.policy.catalogue import (
    Catalogue,
    Named,
    read_name,
    serving_in_steps,
    sorted_in_steps,
)
from xairouter.policy.interface import Caller, OwnerView
from xairouter.policy.patterns import best_match

_NAMES_AT_ONCE = 4096
_LOOKS_AT_ONCE = 4096
"""Comparisons of a name with a pattern, and keys looked at, in one step."""
_LOOKS_A_NAME = 16
"""What a name takes beside these."""
MOST_ROUTES = 64
"""Routes of one plan; further ones are left out."""
MOST_KEPT = 4096
"""Ways that a view remembers."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a call asks for, read: ``asked`` without a provider in front, and what it maps to."""

    asked: Named
    mapped: Named


@dataclass(slots=True)
class Trace:
    """Why each key has its place, for whoever asks; filled while a plan is made."""

    lines: list[tuple[str, str, str]]

    def add(self, key: ProviderKey, model: str, why: str) -> None:
        self.lines.append((key.id, model, why))


def read_model(view: OwnerView, caller: Caller, dialect: str, model: str) -> Wanted:
    """The model asked for, and the one it is mapped to (``model_map``, applied once)."""
    asked = read_name(view.catalogue, dialect, model)
    target = mapped_model(caller.path, asked.model)
    if target == asked.model:
        return Wanted(asked, asked)
    mapped = read_name(view.catalogue, dialect, target)
    if mapped.within is None and asked.within is not None:
        mapped = Named(mapped.model, asked.within)
    return Wanted(asked, mapped)


@dataclass(frozen=True, slots=True)
class Group:
    """Keys of one level that may serve a model. ``place`` – 0, or how far model_failover went on.
    ``turn`` – 0, or how far switch_over did."""

    place: int
    turn: int
    level: int
    model: str
    keys: tuple[ProviderKey, ...]


@dataclass(frozen=True, slots=True)
class Ways:
    """All that is settled about a name before a call draws its lot: what it means, and the groups of
    keys in their order, or why there are none."""

    wanted: Wanted
    groups: tuple[Group, ...] | Refusal


def find_ways(view: OwnerView, caller: Caller, dialect: str, model: str) -> Ways:
    """The ways to a model for an account; found out once for each view."""
    known = view.ways.get((id(caller), dialect, model))
    # The caller is kept beside what holds for it, so that no other one has its number meanwhile.
    if known is not None and known[0] is caller:
        made: Ways = known[1]
        return made
    return at_once(ways_in_steps(view, caller, dialect, model))


def ways_in_steps(view: OwnerView, caller: Caller, dialect: str, model: str) -> Steps[Ways]:
    """The same for whoever has a catalogue that is wide."""
    place = id(caller), dialect, model
    known = view.ways.get(place)
    if known is not None and known[0] is caller:
        made: Ways = known[1]
        return made
    wanted = read_model(view, caller, dialect, model)
    found = Ways(wanted, (yield from _groups(view, caller, dialect, wanted)))
    if len(view.ways) >= MOST_KEPT:
        view.ways.clear()
    view.ways[place] = caller, found
    return found


def is_model_name(model: str) -> bool:
    """Whether a name can stand in a provider's path: none of its segments leads to another path."""
    return not any(segment in (".", "..") for segment in model.split("/"))


def choose(ways: Ways, dialect: str, *, draw: int, trace: Trace | None = None) -> Plan | Refusal:
    """The routes to try, best first; sleeping keys are looked at later."""
    if isinstance(ways.groups, Refusal):
        return ways.groups
    routes: list[Route] = []
    seen: set[tuple[str, str]] = set()
    for group in ways.groups:
        if len(routes) >= MOST_ROUTES:
            break  # The keys of a level may be a thousand: not shared out for nothing.
        for key in share(group.keys, draw):
            if (key.id, group.model) in seen or len(routes) >= MOST_ROUTES:
                continue
            seen.add((key.id, group.model))
            routes.append(Route(key, group.model, dialect))
            if trace is not None:
                trace.add(key, group.model, _why(group))
    return Plan(tuple(routes))


def _groups(
    view: OwnerView, caller: Caller, dialect: str, wanted: Wanted
) -> Steps[tuple[Group, ...] | Refusal]:
    if not view.catalogue.keys:
        return Refusal(ErrorCode.NO_PROVIDER_KEY, "The owner has no active provider key.")
    groups: list[Group] = []
    forbidden: Refusal | None = None
    found = False
    models = chain((wanted.mapped,), _failover(view, caller, dialect, wanted.mapped))
    for place, named in enumerate(models):
        keys = yield from serving_in_steps(view.catalogue, dialect, named)
        if view.catalogue.is_wide:
            yield
        if not keys or not is_model_name(named.model):
            continue
        found = True
        levels = _levels(view.routing, caller, named.model, keys)
        if isinstance(levels, Refusal):
            forbidden = forbidden or levels
            continue
        for turn, level in enumerate(levels):
            here = tuple(key for key in keys if key.level == level)
            if here:
                groups.append(Group(place, turn, level, named.model, here))
    if groups:
        return tuple(groups)
    if forbidden is not None:
        return forbidden
    if found:
        return Refusal(
            ErrorCode.MODEL_NOT_FOUND,
            f"The model “{wanted.mapped.model[:128]}” is routed to a level at which no provider key "
            "serves it.",
            "model",
        )
    return (yield from _not_found(view.catalogue, dialect, wanted.mapped.model))


def usable_models(view: OwnerView, caller: Caller) -> Mapping[str, tuple[ProviderKey, ...]]:
    """``usable_in_steps`` at once."""
    return at_once(usable_in_steps(view, caller))


def usable_in_steps(view: OwnerView, caller: Caller) -> Steps[dict[str, tuple[ProviderKey, ...]]]:
    """Exactly the names that the caller may ask for and that something serves, sorted, with the
    keys that serve each; patterns of a key add no names, exact names of a ``model_map`` do. There
    may be a hundred thousand, so that it pauses again and again."""
    names = _mapped_names(caller)
    for by_name in view.catalogue.exact.values():
        rest = iter(by_name)
        while part := tuple(islice(rest, _NAMES_AT_ONCE)):
            names.update(part)
            yield
    ordered = yield from sorted_in_steps(names)
    found: dict[str, tuple[ProviderKey, ...]] = {}
    looks, each = 0, _LOOKS_A_NAME + _patterns(view, caller)
    for name in ordered:
        keys = yield from usable_keys(view, caller, name)
        if keys:
            found[name] = keys
        looks += each + len(keys)
        if looks >= _LOOKS_AT_ONCE:
            looks = 0
            yield
    return found


def _patterns(view: OwnerView, caller: Caller) -> int:
    """Patterns with which ``usable_keys`` may compare one name."""
    count = len(view.routing.level_map)
    for _, made in caller.path:
        count += len(made.rules.model_map)
        count += 2 * len(made.models.patterns) if made.models is not None else 0
    return count


def usable_keys(view: OwnerView, caller: Caller, name: str) -> Steps[tuple[ProviderKey, ...]]:
    """The keys that serve a name which the caller may ask for; none where it is not listed."""
    if not _listing(view.catalogue, name) and name not in _mapped_names(caller):
        return ()
    target = mapped_model(caller.path, name)
    if who_forbids(caller, name) or who_forbids(caller, target):
        return ()
    keys = _listing(view.catalogue, target)
    if not keys:
        by_id: dict[str, ProviderKey] = {}
        for dialect in view.catalogue.patterns:
            found = yield from serving_in_steps(view.catalogue, dialect, Named(target))
            by_id |= {key.id: key for key in found}
        keys = tuple(by_id.values())
    levels = _levels(view.routing, caller, target, keys) if keys else []
    if isinstance(levels, Refusal):
        return ()
    return tuple(key for key in keys if key.level in levels)


def _mapped_names(caller: Caller) -> set[str]:
    return {name for _, made in caller.path for name in made.rules.model_map if "*" not in name}


def _listing(catalogue: Catalogue, name: str) -> tuple[ProviderKey, ...]:
    """The keys that list a name, in whatever dialect."""
    found = [keys for by_name in catalogue.exact.values() if (keys := by_name.get(name))]
    if len(found) == 1:
        return found[0]
    return tuple({key.id: key for keys in found for key in keys}.values())


def _why(group: Group) -> str:
    words = [f"level {group.level}"]
    if group.turn:
        words.append("by switch_over")
    if group.place:
        words.append("by model_failover")
    if len(group.keys) > 1:
        words.append(f"one of {len(group.keys)} keys, by weight and session")
    return ", ".join(words)


def _failover(view: OwnerView, caller: Caller, dialect: str, named: Named) -> Iterator[Named]:
    """The models to go on to; those that a rule forbids are skipped, none leads to further ones."""
    for name in dict.fromkeys(best_match(view.routing.model_failover, named.model) or ()):
        further = read_name(view.catalogue, dialect, name)
        if further.model != named.model and who_forbids(caller, further.model) is None:
            yield further


def _levels(
    routing: Routing, caller: Caller, model: str, keys: tuple[ProviderKey, ...]
) -> list[int] | Refusal:
    """The levels to try for a model, in order; a refusal where the rules allow none of them."""
    mapped = best_match(routing.level_map, model)
    at_hand = sorted({key.level for key in keys})
    if mapped is not None:
        start: int | None = mapped
    else:
        allowed = [level for level in at_hand if who_forbids_level(caller, level) is None]
        start = allowed[0] if allowed else None
    if start is None:
        return _level_refused(caller, at_hand[0], model)
    order, queue = [], [start]
    while queue:
        level = queue.pop(0)
        if level in order:
            continue
        order.append(level)
        queue += routing.switch_over.get(level, ())
    levels = [level for level in order if who_forbids_level(caller, level) is None]
    return levels or _level_refused(caller, start, model)


def _level_refused(caller: Caller, level: int, model: str) -> Refusal:
    by = who_forbids_level(caller, level)
    name = by.name if by is not None else caller.account.name
    return Refusal(
        ErrorCode.LEVEL_NOT_ALLOWED,
        f"The model “{model[:128]}” is served at level {level}, which the account “{name}” may not "
        "use (rule allow_levels).",
    )


def share(keys: Sequence[ProviderKey], draw: int) -> Sequence[ProviderKey]:
    """Weighted rendezvous hashing: each key wins in proportion to its weight.

    Keys that their provider rejected come last. Source: Thaler and Ravishankar 1998; weights by
    Schindelhauer and Schomaker 2005 (score = −weight / ln h).
    """
    if len(keys) == 1:
        return keys
    seed = draw.to_bytes(8, "big", signed=False)

    def score(key: ProviderKey) -> tuple[bool, float]:
        digest = blake2b(key.id.encode(), digest_size=8, key=seed).digest()
        unit = (int.from_bytes(digest, "big") + 1) / (2**64 + 2)
        return key.health != KeyHealth.OK, log(unit) / key.weight * -1

    return sorted(keys, key=score)


def _not_found(catalogue: Catalogue, dialect: str, model: str) -> Steps[Refusal]:
    others = []
    for other in sorted({other for key in catalogue.keys for other in key.endpoints} - {dialect}):
        named = read_name(catalogue, other, model)
        if (yield from serving_in_steps(catalogue, other, named)):
            others.append(other)
    shown = model[:128]
    if others:
        return Refusal(
            ErrorCode.MODEL_NOT_FOUND,
            f"The model “{shown}” is served in the dialect {' and '.join(others)} only, not in "
            f"{dialect}; translation between dialects is not supported yet.",
            "model",
        )
    return Refusal(
        ErrorCode.MODEL_NOT_FOUND,
        f"No provider key of the owner serves the model “{shown}” in {dialect}.",
        "model",
    )
