"""What an owner's provider keys serve, indexed by dialect and model.

A key serves what its owner listed (names or patterns), else what its provider's models endpoint
said, else, while nobody asked the provider yet, whatever is asked, behind all keys that know the
model. An exact catalogue name wins over reading ``provider/model``.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import merge

from xairouter.domain.accounts import ProviderKey, ProviderKeyStatus
from xairouter.domain.steps import Steps, at_once
from xairouter.policy.patterns import matches

_NAMES_AT_ONCE = 2048
_LOOKS_AT_ONCE = 2048
"""Comparisons of a name with a pattern in one step."""
WIDE = 256
"""Patterns and keys, beyond which what serves a name is found out in steps."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """An owner's active keys, indexed. ``exact`` maps dialect → model → keys; ``patterns`` and
    ``unknown`` map dialect → keys with patterns, and keys of which nothing is known; ``globs`` holds
    the patterns of each key that has some, by its id. It ``is_wide`` where a thing of it is not found
    at once."""

    keys: tuple[ProviderKey, ...]
    exact: Mapping[str, Mapping[str, tuple[ProviderKey, ...]]]
    patterns: Mapping[str, tuple[ProviderKey, ...]]
    unknown: Mapping[str, tuple[ProviderKey, ...]]
    globs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    is_wide: bool = False


def served_names(key: ProviderKey) -> tuple[str, ...]:
    """Names and patterns that the key serves as far as anybody said."""
    return key.models if key.models is not None else key.discovered or ()


def compile_catalogue(keys: Iterable[ProviderKey]) -> Catalogue:
    """``catalogue_in_steps`` at once."""
    return at_once(catalogue_in_steps(keys))


def catalogue_in_steps(keys: Iterable[ProviderKey]) -> Steps[Catalogue]:
    """Index an owner's provider keys; disabled ones are left out."""
    active = tuple(
        sorted(
            (k for k in keys if k.status == ProviderKeyStatus.ACTIVE), key=lambda k: (k.level, k.id)
        )
    )
    exact: dict[str, dict[str, tuple[ProviderKey, ...]]] = {}
    patterns: dict[str, list[ProviderKey]] = {}
    unknown: dict[str, list[ProviderKey]] = {}
    globs: dict[str, tuple[str, ...]] = {}
    for key in active:
        names = served_names(key)
        plain = [name for name in names if "*" not in name]
        if len(plain) < len(names):
            globs[key.id] = tuple(name for name in names if "*" in name)
        for dialect in key.endpoints:
            by_name = exact.setdefault(dialect, {})
            for name in plain:
                by_name[name] = (*by_name.get(name, ()), key)
            if key.id in globs:
                patterns.setdefault(dialect, []).append(key)
            if key.models is None and key.discovered is None:
                unknown.setdefault(dialect, []).append(key)
            yield
    return Catalogue(
        active,
        exact,
        {dialect: tuple(keys) for dialect, keys in patterns.items()},
        {dialect: tuple(keys) for dialect, keys in unknown.items()},
        globs,
        is_wide=len(active) + sum(map(len, globs.values())) > WIDE,
    )


@dataclass(frozen=True, slots=True)
class Named:
    """A model's name, read: the name without a provider in front, and the keys among which it is to
    be found (None: all)."""

    model: str
    within: tuple[ProviderKey, ...] | None = None


def read_name(catalogue: Catalogue, dialect: str, asked: str) -> Named:
    """``provider/model`` where the front names a provider or a key of the owner that speaks the
    dialect; an exact name of the catalogue is never taken apart."""
    if asked in catalogue.exact.get(dialect, {}):
        return Named(asked)
    front, slash, rest = asked.partition("/")
    if slash and rest:
        within = tuple(
            key
            for key in catalogue.keys
            if dialect in key.endpoints and front in (key.provider, key.name)
        )
        if within:
            return Named(rest, within)
    return Named(asked)


def serving(catalogue: Catalogue, dialect: str, named: Named) -> tuple[ProviderKey, ...]:
    """``serving_in_steps`` at once."""
    return at_once(serving_in_steps(catalogue, dialect, named))


def serving_in_steps(
    catalogue: Catalogue, dialect: str, named: Named
) -> Steps[tuple[ProviderKey, ...]]:
    """The keys that serve a model in a dialect, by level and id."""
    exact = catalogue.exact.get(dialect, {}).get(named.model, ())
    found: list[ProviderKey] = []
    looks = 0
    # What many keys have in common is asked once.
    known: dict[tuple[str, ...], bool] = {}
    for key in catalogue.patterns.get(dialect, ()):
        patterns = catalogue.globs[key.id]
        covers = known.get(patterns)
        if covers is None:
            covers = any(matches(pattern, named.model) for pattern in patterns)
            known[patterns] = covers
            looks += len(patterns)
        if covers:
            found.append(key)
        looks += 1
        if looks >= _LOOKS_AT_ONCE:
            looks = 0
            yield
    by_pattern = tuple(found)
    if named.within is not None:
        # Those that say they serve the model, else those that say nothing.
        told = {key.id for key in (*exact, *by_pattern)}
        return tuple(key for key in named.within if key.id in told) or tuple(
            key for key in named.within if key.models is None and key.discovered is None
        )
    if exact:
        return _merged(exact, by_pattern)
    return by_pattern or catalogue.unknown.get(dialect, ())


def _merged(*groups: tuple[ProviderKey, ...]) -> tuple[ProviderKey, ...]:
    return tuple({key.id: key for group in groups for key in group}.values())


def listed_models(catalogue: Catalogue) -> Mapping[str, tuple[ProviderKey, ...]]:
    """``listed_in_steps`` at once."""
    return at_once(listed_in_steps(catalogue))


def listed_in_steps(catalogue: Catalogue) -> Steps[Mapping[str, tuple[ProviderKey, ...]]]:
    """Names for ``/v1/models``, sorted, with the keys that serve each; patterns add no names."""
    found: dict[str, tuple[ProviderKey, ...]] = {}
    for by_name in catalogue.exact.values():
        for count, (name, keys) in enumerate(by_name.items(), 1):
            found[name] = _merged(found[name], keys) if name in found else keys
            if count % _NAMES_AT_ONCE == 0:
                yield
    names = yield from sorted_in_steps(found)
    listed: dict[str, tuple[ProviderKey, ...]] = {}
    for name in names:
        listed[name] = found[name]
        if len(listed) % _NAMES_AT_ONCE == 0:
            yield
    return listed


def sorted_in_steps(names: Iterable[str]) -> Steps[Iterator[str]]:
    """Many names, sorted."""
    unsorted, runs = list(names), []
    for at in range(0, len(unsorted), _NAMES_AT_ONCE):
        runs.append(sorted(unsorted[at : at + _NAMES_AT_ONCE]))
        yield
    return merge(*runs)
