"""What an owner can take along: everything of the tree and the vault, sealed as it is.

Nothing here opens anything: the sealed rows open elsewhere exactly with the XAI API keys and
recovery codes that open them here. Usage records are exported by themselves, page by page.
"""

from base64 import b64encode
from dataclasses import asdict
from typing import Any

from xairouter.clock import now_ms, rfc3339
from xairouter.manage.desk import Actor, Desk, change
from xairouter.storage import keys, owners, provider_keys

FORMAT = "xairouter/owner/v1"


async def export_owner(desk: Desk, actor: Actor) -> dict[str, Any]:
    """Accounts, XAI API keys without their secrets, slots, sealed provider keys, settings, routing
    and prices; bytes are base64. Sessions and open invitations stay behind."""
    async with change(desk, actor, "vault.export", actor.owner_id) as made:
        connection, owner_id = made.connection, actor.owner_id
        owner = await owners.get_owner(connection, owner_id)
        assert owner is not None
        document = {
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
                if one.purpose in ("api_key", "recovery")
            ],
            "provider_keys": [
                _plain(asdict(one)) for one in await provider_keys.list_all(connection, owner_id)
            ],
        }
        made.detail = {
            name: len(found)
            for name in ("accounts", "api_keys", "slots", "provider_keys")
            if isinstance(found := document[name], list)
        }
    return document


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: b64encode(value).decode() if isinstance(value, bytes) else value
        for name, value in row.items()
    }
