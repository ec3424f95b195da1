"""How a provider key does, as its owner sees it: what is stored, and what this instance has met."""

from xairouter.clock import now_ms
from xairouter.domain.accounts import KeyHealth, ProviderKey
from xairouter.domain.notices import Notice
from xairouter.manage.desk import Desk
from xairouter.manage.probe import ALTERED_ROW
from xairouter.manage.views import HealthView, instant
from xairouter.policy.health import EVERY_MODEL, Ailment
from xairouter.storage.provider_keys import ProviderKeyChange

WELL: ProviderKeyChange = {"health": KeyHealth.OK, "health_why": None}
REJECTED: ProviderKeyChange = {
    "health": KeyHealth.REJECTED,
    "health_why": "The provider rejects the key.",
}
ALTERED: ProviderKeyChange = {"health": KeyHealth.ALTERED, "health_why": ALTERED_ROW}
KIND_OF = {KeyHealth.REJECTED: Notice.KEY_REJECTED, KeyHealth.ALTERED: Notice.KEY_ALTERED}
"""The notice that tells of a stored state."""


def health_of(desk: Desk, key: ProviderKey) -> HealthView:
    """A key's health as this instance knows it; a sleep of single models only names them."""
    if key.health != KeyHealth.OK:
        return {"state": key.health, "until": None, "why": key.health_why}
    asleep = desk.health.of(key)
    if not asleep:
        return {"state": key.health, "until": None, "why": key.health_why}
    scope, worst = next((one for one in asleep if one[0] == EVERY_MODEL), asleep[0])
    until = now_ms() + int((worst.until - desk.health.now()) * 1000)
    why = worst.cause if scope == EVERY_MODEL else f"{worst.cause} for {_names(asleep)}"
    return {"state": "sleeping", "until": instant(until), "why": why}


def _names(asleep: list[tuple[str, Ailment]]) -> str:
    shown = [scope[:64] for scope, _ in asleep[:3]]
    return ", ".join(shown) + (" and others" if len(asleep) > len(shown) else "")
