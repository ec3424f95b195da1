"""``GET /v1/models`` and its kin: the models this account may use, in three dialects' shapes."""

from collections.abc import Mapping
from typing import Any

import msgspec

from xairouter.clock import now_ms, rfc3339
from xairouter.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from xairouter.dialects.gemini_generate import GEMINI_GENERATE
from xairouter.dialects.interface import Dialect
from xairouter.dialects.table import asking_dialect
from xairouter.directory.identity import Identifier
from xairouter.domain.accounts import ProviderKey
from xairouter.domain.calls import Match, Refusal
from xairouter.gateway.talk import Network, Talk, client_address
from xairouter.policy.decide import enter
from xairouter.policy.routing import usable_models

Listed = Mapping[str, tuple[ProviderKey, ...]]
_VERBS = ["generateContent", "streamGenerateContent", "countTokens"]


async def answer_models(
    talk: Talk, match: Match, identifier: Identifier, trusted: tuple[Network, ...]
) -> None:
    """List the models that the caller may use, or show one; leaves no record."""
    dialect = asking_dialect(match.path, talk.headers)
    identity = await identifier.resolve(talk.headers, talk.query)
    if isinstance(identity, Refusal):
        talk.refuse(dialect, identity)
        return
    address = client_address(talk.scope, talk.headers, trusted)
    refused = enter(identity.caller, now_ms(), address, match.path)
    if refused is not None:
        talk.refuse(dialect, refused)
        return
    models = usable_models(identity.view, identity.caller)
    wanted = match.variables.get("id")
    if wanted is None:
        talk.answer(200, msgspec.json.encode(_list(dialect, models)))
        return
    name = wanted.removeprefix("models/")
    if name not in models:
        talk.refuse(
            dialect,
            Refusal("model_not_found", f"This account may use no model “{name[:128]}”.", "model"),
        )
        return
    talk.answer(200, msgspec.json.encode(_item(dialect, name, models[name])))


def _list(dialect: Dialect, models: Listed) -> dict[str, Any]:
    items = [_item(dialect, name, keys) for name, keys in models.items()]
    if dialect is ANTHROPIC_MESSAGES:
        return {
            "data": items,
            "has_more": False,
            "first_id": items[0]["id"] if items else None,
            "last_id": items[-1]["id"] if items else None,
        }
    if dialect is GEMINI_GENERATE:
        return {"models": items}
    return {"object": "list", "data": items}


def _item(dialect: Dialect, name: str, keys: tuple[ProviderKey, ...]) -> dict[str, Any]:
    since = min(key.created_at_ms for key in keys)
    if dialect is ANTHROPIC_MESSAGES:
        return {"type": "model", "id": name, "display_name": name, "created_at": rfc3339(since)}
    if dialect is GEMINI_GENERATE:
        return {
            "name": f"models/{name}",
            "baseModelId": name,
            "version": "",
            "displayName": name,
            "supportedGenerationMethods": _VERBS,
        }
    return {"id": name, "object": "model", "created": since // 1000, "owned_by": keys[0].provider}
