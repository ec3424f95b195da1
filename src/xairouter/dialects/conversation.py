"""What tells one conversation from another in a request, so that it can stay on one provider key.

Providers cache the beginning of a conversation per account; turns of one conversation share their
own word for it (``prompt_cache_key``, ``metadata.user_id``) or at least their first messages.
"""

from hashlib import blake2b
from typing import TypeVar

import msgspec

from xairouter.dialects.peek import Top, picked
from xairouter.dialects.tokens import first_items

T = TypeVar("T")


_ABSENT = msgspec.Raw(b"")


class _Body(msgspec.Struct):
    prompt_cache_key: msgspec.Raw = _ABSENT
    metadata: msgspec.Raw = _ABSENT
    system: msgspec.Raw = _ABSENT
    instructions: msgspec.Raw = _ABSENT
    systemInstruction: msgspec.Raw = _ABSENT  # noqa: N815 -- the wire's name
    messages: msgspec.Raw = _ABSENT
    contents: msgspec.Raw = _ABSENT
    input: msgspec.Raw = _ABSENT


class _Metadata(msgspec.Struct):
    user_id: str = ""


_BODY = msgspec.json.Decoder(_Body)
_FIRST = 2
"""Messages that count: often a system prompt and the first question."""
_READ = 64 * 1024
"""Of each field so many bytes tell one conversation from another."""


def conversation_of(body: bytes, session: str | None, top: Top | None = None) -> int | None:
    """A number that is the same for each turn of a conversation; None if nothing tells.

    ``session`` is a client's own id of it, from a header; it wins over what the body says. ``top``
    holds the body's fields, where they are known.
    """
    parts = [session.encode()] if session else _parts(body, top)
    if not parts:
        return None
    digest = blake2b(digest_size=8)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return int.from_bytes(digest.digest(), "big")


def _parts(body: bytes, top: Top | None) -> list[bytes]:
    try:
        read = _BODY.decode(body) if top is None else picked(top, _Body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []
    key = _word(read.prompt_cache_key, str)
    if key:
        return [key.encode("utf-8", "replace")]
    about = _word(read.metadata, _Metadata)
    if about is not None and about.user_id:
        return [about.user_id.encode("utf-8", "replace")]
    found = [_beginning(one) for one in (read.system, read.instructions, read.systemInstruction)]
    messages = _beginning(read.messages) or _beginning(read.contents) or _beginning(read.input)
    if messages.startswith(b"["):
        found += first_items(messages, _FIRST)
    else:
        found.append(messages)
    return [one for one in found if one]


def _beginning(value: msgspec.Raw) -> bytes:
    """The first bytes of a value; nothing where it says nothing."""
    beginning = bytes(memoryview(value)[:_READ])
    return b"" if beginning == b"null" else beginning


def _word(value: msgspec.Raw, kind: type[T]) -> T | None:
    """A small value of a kind; None for any other."""
    if not 0 < len(memoryview(value)) < _READ:
        return None
    try:
        return msgspec.json.decode(value, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
