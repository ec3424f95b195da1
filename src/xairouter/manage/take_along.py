"""What an owner can take along: everything of the tree and the vault, sealed as it is.

Nothing here opens anything: the sealed rows open elsewhere exactly with the XAI API keys and
recovery codes that open them here. Usage records are exported by themselves, page by page.
"""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import asdict
from typing import TypedDict

from xairouter.clock import now_ms, rfc3339
from xairouter.domain.permissions import Permission
from xairouter.domain.slots import SlotPurpose
from xairouter.manage.desk import Actor, Desk, change
from xairouter.storage import keys, owners, provider_keys

FORMAT = "xairouter/owner/v1"


class OwnerDocument(TypedDict):
    """Everything of an owner; rows as they are stored, bytes in base64."""

    format: str
    exported_at: str
    owner_id: str
    vault_epoch: int
    settings: dict[str, object]
    routing: dict[str, object]
    prices: dict[str, object]
    accounts: list[dict[str, object]]
    api_keys: list[dict[str, object]]
    slots: list[dict[str, object]]
    provider_keys: list[dict[str, object]]


async def export_owner(desk: Desk, actor: Actor) -> OwnerDocument:
    """Accounts, XAI API keys without their secrets, slots, sealed provider keys, settings, routing
    and prices; bytes are base64. Sessions and open invitations stay behind."""
    async with change(desk, actor, Permission.VAULT_EXPORT, actor.owner_id) as made:
        connection, owner_id = made.connection, actor.owner_id
        owner = await owners.get_owner(connection, owner_id)
        assert owner is not None
        document: OwnerDocument = {
            "format": FORMAT,
            "exported_at": rfc3339(now_ms()),
            "owner_id": owner_id,
            "vault_epoch": owner.vault_epoch,
            "settings": asdict(owner.settings),
            "routing": dict(owner.routing),
            "prices": dict(owner.prices),
            "accounts": [asdict(one) for one in await owners.tree_of(connection, owner_id)],
            "api_keys": [
                asdict(one)
                for one in await keys.list_keys(connection, owner_id)
                if one.session_id is None
            ],
            "slots": [
                _plain(asdict(one))
                for one in await keys.list_slots(connection, owner_id)
                if one.purpose in (SlotPurpose.API_KEY, SlotPurpose.RECOVERY)
            ],
            "provider_keys": [
                _plain(asdict(one)) for one in await provider_keys.list_all(connection, owner_id)
            ],
        }
        made.detail = {
            "accounts": len(document["accounts"]),
            "api_keys": len(document["api_keys"]),
            "slots": len(document["slots"]),
            "provider_keys": len(document["provider_keys"]),
        }
    return document


def _plain(row: Mapping[str, object]) -> dict[str, object]:
    return {
        name: b64encode(value).decode() if isinstance(value, bytes) else value
        for name, value in row.items()
    }
