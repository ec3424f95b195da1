"""How a provider key does, as its owner sees it: what is stored, and what this instance has met."""

from typing import Any

from xairouter.clock import now_ms
from xairouter.domain.accounts import ProviderKey
from xairouter.manage.desk import Desk
from xairouter.manage.provider_keys import REJECTED
from xairouter.manage.views import instant
from xairouter.policy.health import EVERY_MODEL, Ailment


def health_of(desk: Desk, key: ProviderKey) -> dict[str, Any]:
    """``state`` (ok, sleeping, rejected), ``until`` when it sleeps, and ``why``, as this instance
    knows it; a sleep of single models only names them."""
    if key.health == REJECTED:
        return {"state": REJECTED, "until": None, "why": key.health_why}
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
