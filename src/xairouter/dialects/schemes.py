"""Objects that a provider keeps and a request names by a value, not by a field: Moonshot's files
(``ms://``) and caches (messages of the role ``cache``), Qwen's files (``fileid://`` at the beginning
of a message), Google's buckets (``gs://``). Sources: platform.moonshot.ai/docs, the references of
Qwen-Long and of Gemini's OpenAI compatibility.
"""

import re

from xairouter.domain.steps import Steps

_AT_ONCE = 32 * 1024
_OVERLAP = 2 * 1024
"""No name that is looked for is longer."""
MOST = 1000
_NAMED = re.compile(
    rb'"[a-z_]{0,32}ur[il]"\s*+:\s*+"((?:ms|gs|fileid):(?:\\?/){2}(?:[^"\\]|\\/){0,1024})'
    rb'|"(?:content|text)"\s*+:\s*+"(fileid:(?:\\?/){2}(?:[^"\\]|\\/){0,1024})'
    rb'|"role"\s*+:\s*+"(cache)"'
    # No client spells the letters of an address so.
    rb'|"[a-z_]{0,32}ur[il]"\s*+:\s*+"((?:[^"\\:]|\\/){0,16}\\u00[2-7])'
)


def may_name(body: bytes) -> bool:
    """Whether a body may name anything so; nearly none does."""
    return b"s://" in body or b":\\/" in body or b"d://" in body or _has_odd(body)


def _has_odd(body: bytes) -> bool:
    return b'"cache"' in body or b"\\u00" in body


def objects_in_steps(body: bytes) -> Steps[list[str]]:
    """The names of such objects, at most ``MOST``."""
    found: list[str] = []
    for at in range(0, len(body), _AT_ONCE):
        end = at + _AT_ONCE
        for one in _NAMED.finditer(body, at, end + _OVERLAP):
            if one.start() >= end or len(found) >= MOST:
                break
            name = one[one.lastindex or 0].decode("utf-8", "replace").replace("\\/", "/")
            found.append(name)
        if end < len(body):
            yield
    return found
