"""From a model's name to the owner's provider keys that serve it.

A key serves what its owner listed (names or patterns), else what its provider's models endpoint
said, else, while nobody asked the provider yet, whatever is asked, behind all keys that know the
model. An exact catalogue name wins over reading ``provider/model``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from math import log

from xairouter.domain.accounts import ACTIVE, ProviderKey
from xairouter.domain.calls import Plan, Refusal, Route
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


def choose(catalogue: Catalogue, dialect: str, model: str, *, draw: int) -> Plan | Refusal:
    """The keys of the lowest level that serves the model, in the order to try them."""
    if not catalogue.keys:
        return Refusal("no_provider_key", "The owner has no active provider key.")
    keys, upstream_model = _candidates(catalogue, dialect, model)
    if not keys:
        return _not_found(catalogue, dialect, model)
    level = min(key.level for key in keys)
    ordered = _share([key for key in keys if key.level == level], draw)
    return Plan(tuple(Route(key, upstream_model, dialect) for key in ordered))


def _candidates(
    catalogue: Catalogue, dialect: str, model: str
) -> tuple[tuple[ProviderKey, ...], str]:
    named = catalogue.exact.get(dialect, {}).get(model, ())
    if named:
        return _merged(named, _by_pattern(catalogue, dialect, model)), model
    provider, slash, rest = model.partition("/")
    if slash and rest:
        within = tuple(
            key
            for key in catalogue.keys
            if dialect in key.endpoints and provider in (key.provider, key.name)
        )
        if within:
            return _serving(within, rest), rest
    by_pattern = _by_pattern(catalogue, dialect, model)
    return by_pattern or catalogue.unknown.get(dialect, ()), model


def _by_pattern(catalogue: Catalogue, dialect: str, model: str) -> tuple[ProviderKey, ...]:
    return tuple(
        key
        for key in catalogue.patterns.get(dialect, ())
        if any("*" in name and matches(name, model) for name in served_names(key))
    )


def _serving(keys: tuple[ProviderKey, ...], model: str) -> tuple[ProviderKey, ...]:
    """Of some keys those that say they serve the model, else those that say nothing."""
    told = tuple(k for k in keys if any(matches(name, model) for name in served_names(k)))
    return told or tuple(k for k in keys if k.models is None and k.discovered is None)


def _merged(*groups: tuple[ProviderKey, ...]) -> tuple[ProviderKey, ...]:
    return tuple({key.id: key for group in groups for key in group}.values())


def _share(keys: list[ProviderKey], draw: int) -> list[ProviderKey]:
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
        return key.health == "rejected", log(unit) / key.weight * -1

    return sorted(keys, key=score)


def _not_found(catalogue: Catalogue, dialect: str, model: str) -> Refusal:
    others = sorted(
        {
            other
            for key in catalogue.keys
            for other in key.endpoints
            if other != dialect and _candidates(catalogue, other, model)[0]
        }
    )
    shown = model[:128]
    if others:
        return Refusal(
            "model_not_found",
            f"The model “{shown}” is served in the dialect {' and '.join(others)} only, not in "
            f"{dialect}; translation between dialects is not supported yet.",
            "model",
        )
    return Refusal(
        "model_not_found",
        f"No provider key of the owner serves the model “{shown}” in {dialect}.",
        "model",
    )


def listed_models(catalogue: Catalogue) -> Mapping[str, tuple[ProviderKey, ...]]:
    """Names for ``/v1/models``, sorted, with the keys that serve each; patterns add no names."""
    found: dict[str, dict[str, ProviderKey]] = {}
    for by_name in catalogue.exact.values():
        for name, keys in by_name.items():
            found.setdefault(name, {}).update({key.id: key for key in keys})
    return {name: tuple(found[name].values()) for name in sorted(found)}
