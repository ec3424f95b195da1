"""A peek at a JSON request body: the governed top-level fields and where their values stand.

msgspec checks the whole body's syntax and hands out each top-level value as an unparsed slice;
nothing below the governed fields becomes a Python object. What could take long is counted first
(``survey``), step by step. A second, cheap walk over the top level
finds each value's offset and refuses what two parsers could read differently: a field named twice
(escapes included) and a governed name in another letter case (Go's decoder folds case).
"""

import re
from codecs import getincrementaldecoder
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, TypeVar

import msgspec

from xairouter.dialects.condense import Bounds, Condenser
from xairouter.domain.calls import LONGEST_MODEL, Refusal, Span
from xairouter.domain.steps import Steps
from xairouter.errors import ErrorCode

_TOP = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANY = msgspec.json.Decoder()
_KEY = msgspec.json.Decoder(str)
_FIELD = re.compile(rb'[ \t\n\r]*("[^"\\]*(?:\\.[^"\\]*)*")[ \t\n\r]*:[ \t\n\r]*', re.DOTALL)
_NEXT = re.compile(rb"[ \t\n\r]*([,}])")
_END = re.compile(rb"[ \t\n\r]*}")
_BEGIN = re.compile(rb"[ \t\n\r]*{")
_BLOCK = 1 << 16
MOST_GOVERNED = 64 * 1024
"""Largest governed field in bytes: it becomes Python objects, many times its size."""
_NO_TYPES: Mapping[str, type] = {}
MAX_DEPTH = 500
"""Deepest nesting that is passed on, whatever the parser of a Python version could take."""
MOST_FIELDS = 256
"""Most fields at the top of a body; no dialect has half as many."""
LARGE = 64 * 1024
"""A larger body is looked over in steps before it is parsed."""
_STEP = 8 * 1024
_TOO_DEEP = Refusal(ErrorCode.INVALID_REQUEST, "The body's JSON is nested too deep.")
_TOO_MANY = Refusal(
    ErrorCode.INVALID_REQUEST, f"The body has more than {MOST_FIELDS} fields at its top."
)
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"\\'))
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_STRUCTURE = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]+|[\]}]+', re.DOTALL)

Fields = dict[str, tuple[object, Span]]
S = TypeVar("S", bound=msgspec.Struct)
Top = Mapping[str, msgspec.Raw]


def read_object(
    body: bytes,
    governed: tuple[str, ...],
    types: Mapping[str, type] = _NO_TYPES,
    top: Top | None = None,
) -> tuple[Fields, int] | Refusal:
    """The governed fields of a JSON object as (decoded value, span), and where fields begin.

    A field named in ``types`` is decoded as that msgspec type, which leaves the rest of it
    unparsed; any other governed field is small, or refused. ``top`` is what ``read_top`` returned,
    where it has been asked.

    The second item is the offset just behind the opening brace. Refuses with ``invalid_request``
    what is not one JSON object in UTF-8, or is ambiguous.
    """
    if top is None:
        read = read_top(body)
        if isinstance(read, Refusal):
            return read
        top = read
    spans = _walk(body, top, _folded(governed))
    if isinstance(spans, Refusal):
        return spans
    fields: Fields = {}
    for name, span in spans.items():
        wanted_type = types.get(name)
        if wanted_type is None and span[1] - span[0] > MOST_GOVERNED:
            return Refusal(ErrorCode.INVALID_REQUEST, f"The field `{name}` is too large.", name)
        try:
            if wanted_type is None:
                value: Any = _ANY.decode(top[name])
            elif wanted_type is msgspec.Raw:
                value = top[name]
            else:
                value = msgspec.json.decode(top[name], type=wanted_type)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return Refusal(ErrorCode.INVALID_REQUEST, f"The field `{name}` cannot be read.", name)
        fields[name] = (value, span)
    return fields, body.index(b"{") + 1


def read_top(body: bytes) -> Top | Refusal:
    """The top-level fields of a JSON object, unparsed. A body larger than ``LARGE`` has passed
    ``survey``."""
    if not body:
        return Refusal(
            ErrorCode.INVALID_REQUEST, "The request has no body; a JSON object is needed."
        )
    try:
        if len(body) <= LARGE and not body.isascii():
            body.decode("utf-8")
        top = _TOP.decode(body)
    except UnicodeDecodeError:
        return Refusal(ErrorCode.INVALID_REQUEST, "The body is not UTF-8.")
    except msgspec.ValidationError:
        return Refusal(ErrorCode.INVALID_REQUEST, "The body must be a JSON object.")
    except msgspec.DecodeError as error:
        return Refusal(ErrorCode.INVALID_REQUEST, f"The body is not JSON: {_reason(error)}.")
    except RecursionError:
        return _TOO_DEEP
    if len(top) > MOST_FIELDS:
        return _TOO_MANY
    if len(body) <= LARGE and _is_too_deep(body):
        return _TOO_DEEP
    return top


def survey(body: bytes) -> Steps[Refusal | None]:
    """Look a large body over in short steps, with a pause after each: whether it is UTF-8, and has
    neither more fields at its top nor deeper nesting than is read. Its syntax is left to the parser.
    """
    steps = range(0, len(body), _STEP)
    if not body.isascii():
        decoder = getincrementaldecoder("utf-8")()
        try:
            for at in steps:
                decoder.decode(body[at : at + _STEP])
                yield
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return Refusal(ErrorCode.INVALID_REQUEST, "The body is not UTF-8.")
    if not _BEGIN.match(body):
        return None
    reader = Condenser(_leave, frozenset(), bounds=Bounds(MOST_FIELDS, MAX_DEPTH - 1))
    for at in steps:
        reader.feed(body[at : at + _STEP])
        if reader.is_over:
            break
        yield
    reader.close()
    return {"fields": _TOO_MANY, "depth": _TOO_DEEP}.get(reader.exceeds or "")


def _leave(document: bytes) -> None:
    """Nothing of it is wanted."""


@cache
def _folded(governed: tuple[str, ...]) -> Mapping[str, str]:
    return {name.casefold(): name for name in governed}


def _is_too_deep(body: bytes) -> bool:
    """Whether brackets stand deeper than ``MAX_DEPTH``; the body is known to be JSON.

    Nearly all bodies are settled by counting. In the others everything but brackets, quotes and
    backslashes is dropped, then the strings that had none of them inside, and what little is left
    is read.
    """
    if not _has_more(body, (b"[", b"{"), MAX_DEPTH):
        return False
    # A backslash keeps the character behind it, which may be one that is dropped here.
    skeleton = _ESCAPE.sub(b"", body) if b"\\" in body else body
    skeleton = skeleton.translate(None, _NOT_STRUCTURE).replace(b'""', b"")
    depth = 0
    for token in _STRUCTURE.finditer(skeleton):
        first = skeleton[token.start()]
        if first in b"[{":
            depth += token.end() - token.start()
            if depth > MAX_DEPTH:
                return True
        elif first in b"]}":
            depth -= token.end() - token.start()
    return False


def _has_more(body: bytes, marks: tuple[bytes, ...], most: int) -> bool:
    """Whether single bytes occur more than so often. Finding the next one is ten times as fast as
    counting all, and a large body (an image, say) has few."""
    found = 0
    for mark in marks:
        at = body.find(mark)
        while at >= 0:
            found += 1
            if found > most:
                return True
            at = body.find(mark, at + 1)
    return False


def _reason(error: msgspec.DecodeError) -> str:
    """msgspec's own words, which name a byte offset and never quote the input."""
    return (
        str(error).removeprefix("JSON is malformed: ").removeprefix("Input data was ").rstrip(".")
    )


def _walk(
    body: bytes, top: Mapping[str, msgspec.Raw], wanted: Mapping[str, str]
) -> dict[str, Span] | Refusal:
    """Spans of the wanted fields, each key seen once and each value where msgspec saw it.

    msgspec keeps the last of two values under one name, so at the first of two different ones the
    bytes cannot agree; of two equal ones the second repeats a key. Both are caught here.
    """
    spans: dict[str, Span] = {}
    seen: set[str] = set()
    at = body.index(b"{") + 1
    while True:
        key = _FIELD.match(body, at)
        if key is None:
            # An object without fields has nothing but its end here.
            return spans if not top and _END.match(body, at) else _ambiguous()
        quoted = key.group(1)
        name = _KEY.decode(quoted) if b"\\" in quoted else quoted[1:-1].decode()
        if name in seen:
            return _ambiguous(name)
        seen.add(name)
        exact = wanted.get(name.casefold())
        if exact is not None and exact != name:
            return _ambiguous(name)
        start = key.end()
        raw = memoryview(top[name])
        end = start + len(raw)
        if not _stands_at(body, raw, start):
            return _ambiguous(name)
        if exact is not None:
            spans[name] = (start, end)
        behind = _NEXT.match(body, end)
        if behind is None:
            return _ambiguous(name)
        if behind.group(1) == b"}":
            return spans
        at = behind.end()


def _stands_at(body: bytes, raw: memoryview, start: int) -> bool:
    """Whether ``raw`` stands in ``body`` at ``start``, compared in blocks to bound the copies."""
    if len(raw) <= _BLOCK:
        return body.startswith(bytes(raw), start)
    return all(
        body.startswith(bytes(raw[offset : offset + _BLOCK]), start + offset)
        for offset in range(0, len(raw), _BLOCK)
    )


def _ambiguous(name: str | None = None) -> Refusal:
    what = f"the field `{name[:64]}`" if name else "a field"
    return Refusal(
        ErrorCode.INVALID_REQUEST,
        f"The body names {what} twice, or in a spelling that is ambiguous.",
        name,
    )


def picked(top: Top, kind: type[S]) -> S:
    """A struct of unparsed fields, filled from those at the top of a body."""
    return kind(**{name: top[name] for name in kind.__struct_fields__ if name in top})


def long_name(model: str) -> Refusal | None:
    """Why a model's name is refused that is longer than any model's."""
    if len(model) <= LONGEST_MODEL:
        return None
    return Refusal(
        ErrorCode.INVALID_REQUEST,
        f"The name of a model has at most {LONGEST_MODEL} characters; this one has {len(model)}.",
        "model",
    )


def text_field(fields: Fields, name: str) -> str | Refusal | None:
    """A governed string, None if absent or null; refuses any other type."""
    value = fields.get(name, (None, (0, 0)))[0]
    if value is None or isinstance(value, str):
        return value
    return Refusal(ErrorCode.INVALID_REQUEST, f"The field `{name}` must be a string.", name)


def flag_field(fields: Fields, name: str) -> bool | Refusal:
    """A governed true/false, False if absent or null; refuses any other type."""
    value = fields.get(name, (None, (0, 0)))[0]
    if value is None or isinstance(value, bool):
        return bool(value)
    return Refusal(ErrorCode.INVALID_REQUEST, f"The field `{name}` must be true or false.", name)


def count_field(value: object, name: str) -> int | Refusal | None:
    """A governed whole number ≥ 0 (a float such as 100.0 counts), None if absent or null."""
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 53:
        return Refusal(
            ErrorCode.INVALID_REQUEST, f"The field `{name}` must be a whole number.", name
        )
    return value


def splice(body: bytes, changes: Iterable[tuple[Span, bytes]]) -> bytes:
    """The body with each span replaced; spans must not overlap. An empty span inserts."""
    parts: list[bytes | memoryview] = []
    view, at = memoryview(body), 0
    for (start, end), replacement in sorted(changes, key=lambda change: change[0]):
        parts += (view[at:start], replacement)
        at = end
    parts.append(view[at:])
    return b"".join(parts)
