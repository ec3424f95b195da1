"""What a request body names besides its own model: other models, and objects that a provider keeps.

Fields are known by their names, at any nesting, and not by their places: a provider that moves one
into a new tool opens no way around. ``named_fields`` has the table. What the user's own programs
wrote (tool arguments, schemas, metadata) is not looked into. A field whose name says that it names
something, and which is not in the table, is reported as unlisted. A field that stands twice in an
object is refused: parsers differ in which one they take.

``plain.is_plain`` settles most bodies before; the reading here is bounded in size and in the number
of values.
"""

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from xairouter.dialects.named_fields import (
    AMBIGUOUS,
    MODEL,
    NAMED,
    OWN_DATA,
    TOOL_ENGINES,
    TOP_DATA,
    TOP_ONLY,
    UNLISTED,
    NamedFields,
)
from xairouter.dialects.peek import long_name
from xairouter.dialects.plain import is_plain, plain_in_steps
from xairouter.dialects.schemes import may_name, objects_in_steps
from xairouter.dialects.shorten import shortened
from xairouter.domain.calls import Refusal
from xairouter.domain.steps import Steps, at_once
from xairouter.errors import ErrorCode

MOST_NAMED = 1000
MOST_DISTINCT = 5000
"""Differently named fields; no client writes a tenth of that."""
LONGEST_OBJECT = 1024
_AT_ONCE = 2000
"""Values that are looked at without a pause."""
_PUBLIC_SKILLS = {"anthropic"}
"""The type of those skills that are everybody's."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CONTENT = {
    "message": _words("content"),
    "reasoning": _words("content encrypted_content"),
    "compaction": _words("encrypted_content"),
    "function_call": _words("arguments"),
    "custom_tool_call": _words("input"),
    "tool_search_call": _words("arguments"),
    "tool_search_output": _words("tools"),
    # Older clients leave the action out.
    "web_search_call": _words("action status"),
    "file_search_call": _words("queries results"),
    "computer_call": _words("action actions"),
    "local_shell_call": _words("action"),
    "shell_call": _words("action"),
    "apply_patch_call": _words("operation"),
    "code_interpreter_call": _words("code outputs"),
    "image_generation_call": _words("result"),
    "mcp_list_tools": _words("tools error"),
    "mcp_approval_request": _words("arguments"),
    "mcp_approval_response": _words("approve"),
    "mcp_call": _words("arguments"),
}
"""The fields that hold the content of each type of a response's input items. An item with an id and
without content stands for the one that the provider keeps. Of other types: ``_ANY_CONTENT``."""
_ANY_CONTENT = frozenset[str]().union(*_CONTENT.values(), ["output"]) - {"status"}
_MAY_BE_EMPTY = _words("arguments input output code approve")
"""Fields that are content as an empty string or false, too."""
_MAY_BE_NONE = {
    "message": _words("content"),
    "mcp_list_tools": _words("tools"),
    "tool_search_output": _words("tools"),
}
"""Fields that are content as an empty list, too."""


@dataclass(slots=True)
class Named:
    """What a body names; ``unlisted`` holds names of fields that the table does not know."""

    models: list[str] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)


_NOTHING = Named()


def find_named(dialect: str, body: bytes) -> Named | Refusal:
    """What a body names besides its own model; nearly all bodies name nothing, which costs little."""
    found = _NOTHING if is_plain(dialect, body) else read_named(dialect, body)
    return at_once(_with_schemes(found, body)) if may_name(body) else found


def find_in_steps(dialect: str, body: bytes) -> Steps[Named | Refusal]:
    """``find_named`` of a body that may take long."""
    plain = yield from plain_in_steps(dialect, body)
    yield
    found = _NOTHING if plain else (yield from read_in_steps(dialect, body))
    return (yield from _with_schemes(found, body)) if may_name(body) else found


def _with_schemes(found: Named | Refusal, body: bytes) -> Steps[Named | Refusal]:
    """The same with what values name by their schemes."""
    if isinstance(found, Refusal):
        return found
    objects = yield from objects_in_steps(body)
    if not objects:
        return found
    return Named(found.models, list(dict.fromkeys(found.objects + objects)), found.unlisted)


def read_named(dialect: str, body: bytes) -> Named | Refusal:
    """``read_in_steps`` at once."""
    return at_once(read_in_steps(dialect, body))


def read_in_steps(dialect: str, body: bytes) -> Steps[Named | Refusal]:
    """Everything that a body, known to be one JSON object, names besides its top-level model.

    Refuses what cannot be checked within bounds, and what parsers read differently: a field twice
    in one object, or a naming one in another letter case than its own.
    """
    short = yield from shortened(body)
    if short is None:
        return _refusal("The body has too many values beside fields that name models or objects.")
    try:
        top = json.loads(short, object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        return _refusal("The body cannot be checked for what it names.")
    yield
    reader = _Reader(NAMED[dialect])
    refused = yield from reader.read(top)
    return refused or reader.found


def _twice(name: str) -> Refusal:
    return _refusal(f"The field `{name[:64]}` stands twice or in an odd spelling.", name)


def _refusal(message: str, param: str | None = None) -> Refusal:
    return Refusal(ErrorCode.INVALID_REQUEST, message, param)


Pairs = tuple[tuple[str, Any], ...]
Fields = dict[str, Any]


class _Reader:
    """Walks over one body. Objects are tuples of (name, value), arrays are lists."""

    def __init__(self, table: NamedFields) -> None:
        self._table = table
        self.found = Named()
        self._kinds: dict[str, str | None] = {}
        self._left: list[tuple[str, Any]] = []
        self._object: Fields = {}
        self._is_map = False
        self._approvals: list[str] = []
        self._requests = set[str]()

    def read(self, top: Pairs) -> Steps[Refusal | None]:
        self._left.append(("", top))
        is_top, done = True, 0
        while self._left:
            holder, value = self._left.pop()
            is_list = isinstance(value, list)
            refused = None if is_list else self._begin(holder, value)
            for at in range(0, len(value), _AT_ONCE):
                if refused:
                    return refused
                if at:
                    yield
                some = value[at : at + _AT_ONCE]
                if is_list:
                    self._left += [
                        (holder, one) for one in some if one and isinstance(one, list | tuple)
                    ]
                else:
                    refused = self._fields(some, is_top=is_top)
            if refused:
                return refused
            if not is_list:
                self._take_id(holder)
            is_top = False
            done += 1 + len(value)
            if done >= _AT_ONCE:
                done = 0
                yield
        return self._bound()

    def _begin(self, holder: str, pairs: Pairs) -> Refusal | None:
        """Look at an object as a whole."""
        self._object = dict(pairs)
        self._is_map = holder in self._table.maps
        if len(self._object) != len(pairs):
            return _twice(_repeated(pairs))
        if holder in self._table.models and pairs and not self._object.keys() & self._table.models:
            # The names may be its fields' names, or anywhere.
            self.found.unlisted.append(holder)
        return None

    def _bound(self) -> Refusal | None:
        # An approval of a request that the body holds itself refers to nothing that is kept.
        self.found.objects += [one for one in self._approvals if one not in self._requests]
        named = [*self.found.models, *self.found.objects]
        if len(named) > MOST_NAMED:
            return _refusal(f"The body names more than {MOST_NAMED} models and objects.")
        if any(len(name) > LONGEST_OBJECT for name in self.found.objects):
            return _refusal(f"The body names an object by more than {LONGEST_OBJECT} characters.")
        return next((no for one in self.found.models if (no := long_name(one))), None)

    def _fields(self, some: Pairs, *, is_top: bool) -> Refusal | None:
        """Some of the object's fields."""
        if self._is_map:
            for _, value in some:
                self._descend("", value)
            return None
        kinds = self._kinds
        for name, value in some:
            if name in kinds:
                kind = kinds[name]
            elif len(kinds) < MOST_DISTINCT:
                kind = kinds[name] = self._table.kind(name)
            else:
                return _refusal(f"The body has more than {MOST_DISTINCT} different fields.")
            if kind == AMBIGUOUS:
                return _twice(name)
            if kind == OWN_DATA and _is_own(name, self._object, is_top=is_top):
                continue
            if kind and not (is_top and name == "model"):
                self._take(kind, name, value)
            self._descend(name, value)
        return None

    def _take(self, kind: str, name: str, value: Any) -> None:
        """What one field names."""
        if kind == UNLISTED:
            if value and value is not True:
                self.found.unlisted.append(name)
            return
        if kind != OWN_DATA and _has_others(value):
            # A server may take a number for a name, or look into lists.
            self.found.unlisted.append(name)
        if kind == MODEL:
            names = _names_in(value)
            self.found.models += names if name != "engine" else filter(_is_model, names)
        elif name == "approval_request_id":
            self._approvals += _names_in(value)
        elif kind != OWN_DATA and not (
            name == "skill_id" and _type(self._object) in _PUBLIC_SKILLS
        ):
            self.found.objects += [one for one in _names_in(value) if _is_kept(name, one)]

    def _take_id(self, holder: str) -> None:
        """The object's id, if it stands for one which is kept, or is a request to be approved."""
        said = self._object.get("id")
        ids = _names_in(str(said) if type(said) in (int, float) else said)
        if not ids:
            return
        if holder in self._table.parents or _is_reference(holder, self._object):
            self.found.objects += ids
        elif _type(self._object) == "mcp_approval_request":
            self._requests.update(ids)

    def _descend(self, name: str, value: Any) -> None:
        if isinstance(value, list | tuple):
            self._left.append((name, value))


def _names_in(value: Any) -> list[str]:
    """The names in a field: itself, or the strings of a list; objects are looked into later."""
    if isinstance(value, str):
        return [value] if value else []
    return (
        [one for one in filter(None, value) if isinstance(one, str)]
        if isinstance(value, list)
        else []
    )


def _has_others(value: Any) -> bool:
    """Whether a field that names something has numbers, or lists in its list."""
    kinds = set(map(type, value)) if isinstance(value, list) else {type(value)}
    return not kinds.isdisjoint((int, float, list))


def _is_model(engine: str) -> bool:
    return engine not in TOOL_ENGINES


def _type(fields: Fields) -> str | None:
    kind = fields.get("type")
    return kind if isinstance(kind, str) else None


def _is_own(name: str, fields: Fields, *, is_top: bool) -> bool:
    """Whether a field of such a name holds data of the user's here. At a body's top a provider
    reads it. The ``parameters`` of a function of the client, known by its type and name, are a
    schema; those of a tool that a provider runs are settings, and OpenRouter's name models."""
    if is_top:
        return name in TOP_DATA
    if name != "parameters":
        return name not in TOP_ONLY
    return _type(fields) in (None, "function") and "name" in fields


def _repeated(pairs: Pairs) -> str:
    """The first name that stands twice."""
    seen = set[str]()
    for name, _ in pairs:
        if name in seen:
            return name
        seen.add(name)
    return ""


def _is_reference(holder: str, fields: Fields) -> bool:
    """An input item that stands for a stored one: said by its type, or by having an id and none of
    its type's content."""
    kind = _type(fields)
    if holder != "input" or kind == "item_reference":
        return kind == "item_reference"
    kind = kind or "message"
    if kind.endswith("_call_output") and fields.get("call_id") and "output" in fields:
        return False  # The client's own, also where its tool found nothing.
    if any(fields.get(name) == [] for name in _MAY_BE_NONE.get(kind, ())):
        return kind == "message" and "role" not in fields
    content = _CONTENT.get(kind, _ANY_CONTENT)
    return not any(
        fields[name] or (name in _MAY_BE_EMPTY and (fields[name] == "" or fields[name] is False))
        for name in content & fields.keys()
    )


def _is_kept(name: str, value: str) -> bool:
    """Whether a Gemini file is the provider's, and not one somewhere on the web."""
    if name not in ("fileUri", "file_uri"):
        return True
    try:
        url = urlsplit(value)
        host = (url.hostname or "").rstrip(".")
    except ValueError:
        return True
    is_google = host == "googleapis.com" or host.endswith(".googleapis.com")
    return url.scheme not in ("http", "https") or not host or is_google
