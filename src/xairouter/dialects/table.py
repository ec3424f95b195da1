"""The dialects there are, and whose error language answers where no dialect is known yet."""

from collections.abc import Mapping

from xairouter.dialects.anthropic_messages import ANTHROPIC_MESSAGES
from xairouter.dialects.gemini_generate import GEMINI_GENERATE
from xairouter.dialects.interface import Dialect
from xairouter.dialects.openai_chat import OPENAI_CHAT, OPENAI_COMPLETIONS
from xairouter.dialects.openai_embeddings import OPENAI_EMBEDDINGS
from xairouter.dialects.openai_responses import OPENAI_RESPONSES

DIALECTS: Mapping[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        OPENAI_CHAT,
        OPENAI_COMPLETIONS,
        OPENAI_RESPONSES,
        OPENAI_EMBEDDINGS,
        ANTHROPIC_MESSAGES,
        GEMINI_GENERATE,
    )
}


def asking_dialect(path: str, headers: Mapping[bytes, bytes]) -> Dialect:
    """The dialect in which to answer a request that no operation matched, or that lists models.

    The path speaks first; on paths that dialects share, the client's own headers do.
    """
    if "/messages" in path:
        return ANTHROPIC_MESSAGES
    if path.startswith("/v1beta") or ":" in path.rpartition("/")[2]:
        return GEMINI_GENERATE
    if b"anthropic-version" in headers:
        return ANTHROPIC_MESSAGES
    if b"x-goog-api-key" in headers or b"x-goog-api-client" in headers:
        return GEMINI_GENERATE
    return OPENAI_CHAT
