"""What tells one conversation from another in a request, so that it can stay on one provider key.

Providers cache the beginning of a conversation per account; turns of one conversation share their
own word for it (``prompt_cache_key``, ``metadata.user_id``) or at least their first messages.
"""

from hashlib import blake2b
from typing import Any

import msgspec


class _Body(msgspec.Struct):
    prompt_cache_key: Any = None
    metadata: Any = None
    system: msgspec.Raw | None = None
    instructions: msgspec.Raw | None = None
    systemInstruction: msgspec.Raw | None = None  # noqa: N815 -- the wire's name
    messages: list[msgspec.Raw] | None = None
    contents: list[msgspec.Raw] | None = None
    input: msgspec.Raw | None = None


_BODY = msgspec.json.Decoder(_Body)
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_FIRST = 2
"""Messages that count: often a system prompt and the first question."""


def conversation_of(body: bytes, session: str | None) -> int | None:
    """A number that is the same for each turn of a conversation; None if nothing tells.

    ``session`` is a client's own id of it, from a header; it wins over what the body says.
    """
    parts = [session.encode()] if session else _parts(body)
    if not parts:
        return None
    digest = blake2b(digest_size=8)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return int.from_bytes(digest.digest(), "big")


def _parts(body: bytes) -> list[bytes]:
    try:
        read = _BODY.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []
    if isinstance(read.prompt_cache_key, str) and read.prompt_cache_key:
        return [read.prompt_cache_key.encode("utf-8", "replace")]
    user = read.metadata.get("user_id") if isinstance(read.metadata, dict) else None
    if isinstance(user, str) and user:
        return [user.encode("utf-8", "replace")]
    found = [bytes(one) for one in (read.system, read.instructions, read.systemInstruction) if one]
    messages = read.messages or read.contents
    if messages is None and read.input is not None:
        try:
            messages = _ITEMS.decode(read.input)
        except msgspec.MsgspecError:
            messages = [read.input]
    return found + [bytes(one) for one in (messages or [])[:_FIRST]]
