"""``GET /v1/models`` and its kin: the models this account may use, in three dialects' shapes."""

from collections.abc import Generator
from typing import Any

import msgspec

from xairouter.clock import now_ms, rfc3339
from xairouter.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from xairouter.dialects.gemini_generate import GEMINI_GENERATE
from xairouter.dialects.interface import Dialect
from xairouter.dialects.paths import takes_key_in_query
from xairouter.dialects.peek import long_name
from xairouter.dialects.table import asking_dialect
from xairouter.domain.accounts import ProviderKey
from xairouter.domain.calls import Match, Refusal
from xairouter.domain.steps import Steps
from xairouter.errors import ErrorCode
from xairouter.gateway.talk import Talk, client_address
from xairouter.gateway.work import Parts
from xairouter.policy.decide import enter
from xairouter.policy.interface import Caller, OwnerView
from xairouter.policy.routing import usable_in_steps, usable_keys
from xairouter.turns import in_slices

Listed = dict[str, tuple[ProviderKey, ...]]
_ITEMS_AT_ONCE = 512
_VERBS = ["generateContent", "streamGenerateContent", "countTokens"]


async def answer_models(talk: Talk, match: Match, parts: Parts) -> None:
    """List the models that the caller may use, or show one; leaves no record."""
    dialect = asking_dialect(match.path, talk.headers)
    query = talk.query if takes_key_in_query(match) else b""
    identity = await parts.identifier.resolve(talk.headers, query)
    address = client_address(talk.scope, talk.headers, parts.trusted_proxies)
    if isinstance(identity, Refusal):
        await parts.admission.anonymous.turn(address)
        talk.refuse(dialect, identity)
        return
    await parts.admission.turn(identity.caller.owner_id)
    refused = enter(identity.caller, now_ms(), address, match.path)
    if refused is not None:
        talk.refuse(dialect, refused)
        return
    view, caller = identity.view, identity.caller
    wanted = match.variables.get("id")
    if wanted is None:
        steps = _while_there(talk, _listed(dialect, view, caller))
        body = await in_slices(steps, caller.owner_id)
        if body is not None:
            talk.answer(200, body)
        return
    name = wanted.removeprefix("models/")
    refused = long_name(name)
    if refused is not None:
        talk.refuse(dialect, refused)
        return
    keys = await in_slices(usable_keys(view, caller, name), caller.owner_id)
    if not keys:
        talk.refuse(
            dialect,
            Refusal(
                ErrorCode.MODEL_NOT_FOUND, f"This account may use no model “{name[:128]}”.", "model"
            ),
        )
        return
    talk.answer(200, msgspec.json.encode(_item(dialect, name, keys)))


def _while_there(talk: Talk, steps: Steps[bytes]) -> Steps[bytes | None]:
    """The same steps, as long as the client is there; None where it has left."""
    while not talk.link.is_gone:
        try:
            next(steps)
        except StopIteration as end:
            body: bytes = end.value
            return body
        yield
    return None


def _listed(dialect: Dialect, view: OwnerView, caller: Caller) -> Steps[bytes]:
    models = yield from usable_in_steps(view, caller)
    return (yield from _list(dialect, models))


def _list(dialect: Dialect, models: Listed) -> Generator[None, None, bytes]:
    items: list[msgspec.Raw] = []
    for name, keys in models.items():
        items.append(msgspec.Raw(msgspec.json.encode(_item(dialect, name, keys))))
        if len(items) % _ITEMS_AT_ONCE == 0:
            yield
    if dialect is ANTHROPIC_MESSAGES:
        ends = {"first_id": next(iter(models), None), "last_id": next(reversed(models), None)}
        return msgspec.json.encode({"data": items, "has_more": False, **ends})
    if dialect is GEMINI_GENERATE:
        return msgspec.json.encode({"models": items})
    return msgspec.json.encode({"object": "list", "data": items})


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
