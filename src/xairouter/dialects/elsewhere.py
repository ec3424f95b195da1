"""Whether a request's input is bounded by its body, or the provider reads more: what it keeps, what
stands at an address, what its own tools find; and whether the body holds media, which providers take
for more than can be seen here (pages of a document, tiles of an image, seconds of sound).

What a provider keeps is known by the names in ``named_fields``, its tools by ``tools``; addresses are
looked for here. A body that is taken for one with an address by mistake is read to its end when its
client has left, and nothing else.
"""

import re

from xairouter.domain.calls import Multipliers, Peek
from xairouter.domain.steps import Steps, at_once

_AT_ONCE = 32 * 1024
_OVERLAP = 16
"""No beginning is longer."""
_SPACE = rb"[ \t\r\n]*+"
_BEGIN = re.compile(
    rb'(?:_ur|Ur)[il]"|"(?:type|image|video|audio|file|document|file_data|data)"|\\u00'
)
_ADDRESS = re.compile(
    # A field whose name ends in url or uri, unless its value stands there.
    rb'(?:_ur|Ur)[il]"S:S(?!"data:|\{S"url"S:S"data:|null\b|"")'
    rb'|"type"S:S"url"'
    rb'|"(?:image|video|audio|file|document|file_data|data)"S:S\[?+S"(?:https?|gs|s3|oss):'
    # No client spells the letters of a name so.
    rb"|\\u00(?:[46][1-9a-fA-F]|[57][0-9aA]|5[fF])".replace(b"S", _SPACE)
)


_MEDIA_BEGIN = re.compile(rb'"(?:data:|(?:inlineData|inline_data|input_audio|type|file_data)")')
_MEDIA = re.compile(
    rb'(?<!\\)"data:(?:image|audio|video|application)|"(?:inlineData|inline_data|input_audio)"S:S\{'
    rb'|"type"S:S"base64"|"file_data"S:S"'.replace(b"S", _SPACE)
)


def holds_media(body: bytes) -> bool:
    """Whether images, sound, films or documents stand in a small body."""
    return _MEDIA.search(body) is not None


def holds_media_in_steps(body: bytes) -> Steps[bool]:
    """The same of any body."""
    return _stands_in(body, _MEDIA_BEGIN, _MEDIA)


def reads_elsewhere(peek: Peek, more: Multipliers, body: bytes) -> bool:
    """Whether a request refers to what the provider keeps or finds, or its body gives an address."""
    if peek.bound_ids or more.reads or peek.unlisted:
        return True
    return _may_have(body) and at_once(has_address_in_steps(body))


def has_address_in_steps(body: bytes) -> Steps[bool]:
    """Whether a body gives an address at which more input stands."""
    return _stands_in(body, _BEGIN, _ADDRESS)


def _stands_in(body: bytes, beginning: re.Pattern[bytes], sought: re.Pattern[bytes]) -> Steps[bool]:
    for at in range(0, len(body), _AT_ONCE):
        end = at + _AT_ONCE + _OVERLAP
        for begin in beginning.finditer(body, at, end):
            if sought.match(body, begin.start()):
                return True
        if end < len(body):
            yield
    return False


def _may_have(body: bytes) -> bool:
    return (
        b"_ur" in body
        or b"Ur" in body
        or b"://" in body
        or b'"url"' in body
        or b":\\/" in body
        or b"\\u00" in body
    )
