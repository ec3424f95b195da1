"""Words in a request or a reply that say at which of a model's rates it is served: service tiers,
Anthropic's speed and region, the kind of traffic at Vertex.

A word that is not known to be the standard is a rate of its own: one that the price list has, or none.
Sources: platform.claude.com/docs/en/api/service-tiers, …/build-with-claude/fast-mode,
…/manage-claude/data-residency; platform.openai.com/docs/api-reference (``service_tier``);
ai.google.dev/gemini-api/docs/priority-inference; console.groq.com/docs/service-tiers;
docs.cloud.google.com (``TrafficType``).
"""

from collections.abc import Iterable

from xairouter.domain.calls import Usage

AT_BASE = frozenset(
    {
        "",
        "auto",
        "default",
        "global",
        "not_available",
        "on_demand",
        "standard",
        "standard_only",
        "unspecified",
    }
)
"""Words of the standard rates. ``auto`` asks for whatever a project is set to, and is no tier that a
provider names when it has served."""
NO_DEARER = frozenset({"batch", "flex"})
"""Words of rates that are never above the standard ones, which stand in where they are not known."""
_PREFIXES = ("service_tier_", "traffic_type_", "on_demand_")
_OF_DETAIL = frozenset({"speed", "inference_geo", "trafficType"})


def rate_word(usage: Usage) -> str | None:
    """The rates that a reply says it was served at; None for the standard ones."""
    tier, detail = usage.service_tier, usage.detail
    if not detail or _OF_DETAIL.isdisjoint(detail):
        return None if tier is None or tier in AT_BASE else joined((tier,))
    return joined((tier, *(detail.get(name) for name in _OF_DETAIL)))


def joined(words: Iterable[object]) -> str | None:
    """Several words as one, in the order of the alphabet; None where all are the standard."""
    found = {_plain(word) for word in words if isinstance(word, str)} - AT_BASE
    return "+".join(sorted(found)) or None


def _plain(word: str) -> str:
    """A word without what some spellings put before it: ``SERVICE_TIER_PRIORITY`` is ``priority``."""
    word = word.strip().lower()
    for prefix in _PREFIXES:
        word = word.removeprefix(prefix)
    return word
