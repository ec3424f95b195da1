"""The command palette: jump to a room, an account, a provider key, a call, or an action."""

from dataclasses import dataclass

from starlette.responses import Response

from xairouter.console.navigation import rooms_of
from xairouter.console.visit import Visit
from xairouter.domain.permissions import Permission
from xairouter.manage import provider_keys, tree

MOST = 8
_ACTIONS = (
    ("add_key", "/console/provider-keys#add", Permission.PROVIDER_KEYS_CREATE),
    ("new_account", "/console/accounts/new", Permission.ACCOUNTS_CREATE),
    ("panic", "/console/panic", Permission.PANIC),
    ("recovery_code", "/console/settings#vault", Permission.VAULT_RECOVERY_CODE),
)


@dataclass(frozen=True, slots=True)
class Hit:
    """Something found: its kind (``find.kind_…`` in the words), its name and its page."""

    kind: str
    name: str
    path: str


async def show_found(visit: Visit) -> Response:
    """What fits what was typed; for the palette only the list."""
    text = visit.query.get("q", "").strip()[:128]
    hits = await _hits(visit, text)
    if visit.is_fragment:
        return visit.render("found.html", hits=hits, q=text)
    return await visit.page("find.html", hits=hits, q=text, trail=[(visit.words("find.title"), "")])


async def _hits(visit: Visit, text: str) -> list[Hit]:
    low = text.lower()
    hits = []
    if text.startswith("call_"):
        hits.append(Hit("call", text, f"/console/calls/{text}"))
    for room in rooms_of(visit.may):
        name = str(visit.words(f"rooms.{room.name}"))
        if low in name.lower():
            hits.append(Hit("room", name, room.path))
    for action, path, verb in _ACTIONS:
        name = str(visit.words(f"find.{action}"))
        if visit.may(verb) and low in name.lower():
            hits.append(Hit("action", name, path))
    if not text:
        return hits
    if visit.may(Permission.PROVIDER_KEYS_READ):
        keys = await provider_keys.list_provider_keys(visit.desk, visit.actor)
        found = [key for key in keys if low in f"{key.name} {key.id} {key.provider}".lower()]
        hits += [
            Hit("provider_key", key.name, f"/console/provider-keys/{key.id}")
            for key in found[:MOST]
        ]
    if visit.may(Permission.ACCOUNTS_READ):
        nodes = await tree.search(visit.desk, visit.actor, text, since_ms=None)
        hits += [
            Hit("account", node.account.name, f"/console/accounts/{node.account.id}")
            for node in nodes[:MOST]
        ]
    return hits
