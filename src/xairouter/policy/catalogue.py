"""What an owner's provider keys serve, indexed by dialect and model.

A key serves what its owner listed (names or patterns), else what its provider's models endpoint
said, else, while nobody asked the provider yet, whatever is asked, behind all keys that know the
model. An exact catalogue name wins over reading ``provider/model``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from xairouter.domain.accounts import ACTIVE, ProviderKey
from xairouter.policy.patterns import matches


@dataclass(frozen=True, slots=True)
class Catalogue:
    """An owner's active keys, indexed. ``exact`` maps dialect → model → keys; ``patterns`` and
    ``unknown`` map dialect → keys with patterns, and keys of which nothing is known."""

    keys: tuple[ProviderKey, ...]
    exact: Mapping[str, Mapping[str, tuple[ProviderKey, ...]]]
    patterns: Mapping[str, tuple[ProviderKey, ...]]
    unknown: Mapping[str, tuple[ProviderKey, ...]]


def served_names(key: ProviderKey) -> tuple[str, ...]:
    """Names and patterns that the key serves as far as anybody said."""
    return key.models if key.models is not None else key.discovered or ()


def compile_catalogue(keys: Iterable[ProviderKey]) -> Catalogue:
    """Index an owner's provider keys; disabled ones are left out."""
    active = tuple(sorted((k for k in keys if k.status == ACTIVE), key=lambda k: (k.level, k.id)))
    exact: dict[str, dict[str, list[ProviderKey]]] = {}
    patterns: dict[str, list[ProviderKey]] = {}
    unknown: dict[str, list[ProviderKey]] = {}
    for key in active:
        names = served_names(key)
        plain = [name for name in names if "*" not in name]
        for dialect in key.endpoints:
            by_name = exact.setdefault(dialect, {})
            for name in plain:
                by_name.setdefault(name, []).append(key)
            if len(plain) < len(names):
                patterns.setdefault(dialect, []).append(key)
            if key.models is None and key.discovered is None:
                unknown.setdefault(dialect, []).append(key)
    return Catalogue(
        active,
        {dialect: {n: tuple(k) for n, k in names.items()} for dialect, names in exact.items()},
        {dialect: tuple(keys) for dialect, keys in patterns.items()},
        {dialect: tuple(keys) for dialect, keys in unknown.items()},
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
    """The keys that serve a model in a dialect, by level and id."""
    if named.within is not None:
        return _serving_of(named.within, named.model)
    exact = catalogue.exact.get(dialect, {}).get(named.model, ())
    by_pattern = _by_pattern(catalogue, dialect, named.model)
    if exact:
        return _merged(exact, by_pattern)
    return by_pattern or catalogue.unknown.get(dialect, ())


def _by_pattern(catalogue: Catalogue, dialect: str, model: str) -> tuple[ProviderKey, ...]:
    return tuple(
        key
        for key in catalogue.patterns.get(dialect, ())
        if any("*" in name and matches(name, model) for name in served_names(key))
    )


def _serving_of(keys: tuple[ProviderKey, ...], model: str) -> tuple[ProviderKey, ...]:
    """Of some keys those that say they serve the model, else those that say nothing."""
    told = tuple(k for k in keys if any(matches(name, model) for name in served_names(k)))
    return told or tuple(k for k in keys if k.models is None and k.discovered is None)


def _merged(*groups: tuple[ProviderKey, ...]) -> tuple[ProviderKey, ...]:
    return tuple({key.id: key for group in groups for key in group}.values())


def listed_models(catalogue: Catalogue) -> Mapping[str, tuple[ProviderKey, ...]]:
    """Names for ``/v1/models``, sorted, with the keys that serve each; patterns add no names."""
    found: dict[str, dict[str, ProviderKey]] = {}
    for by_name in catalogue.exact.values():
        for name, keys in by_name.items():
            found.setdefault(name, {}).update({key.id: key for key in keys})
    return {name: tuple(found[name].values()) for name in sorted(found)}
