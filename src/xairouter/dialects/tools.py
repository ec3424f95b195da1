"""Which of a request's tools the provider runs and bills: searches, which have a price, and others.

A tool is what its type says; without one, its fields say it (Gemini's: several at once). Tools may hold
further ones (``namespace``). A field that stands twice in a tool may be read either way, and is refused.
"""

import re

import msgspec

from xairouter.dialects.peek import LARGE, read_object, survey
from xairouter.dialects.tokens import items_in_steps
from xairouter.domain.calls import Refusal
from xairouter.domain.steps import Steps

SEARCHES = 10
"""Uses of a search that are reserved where the request bounds none."""
MOST_TOOLS = 2000
"""In one request; OpenAI takes 128, Gemini 512."""
MOST_LEVELS = 4
_OWN = (
    "apply_patch",
    "bash",
    "codeExecution",
    "code_execution_tool",
    "computer",
    "custom",
    "function",
    "local_shell",
    "mcp",
    "memory",
    "namespace",
    "shell",
    "str_replace",
    "text_editor",
    "tool_search",
    "urlContext",
    "url_context",
    "web_fetch",
)
"""Beginnings of the kinds of tools that the client runs, or that cost nothing but tokens."""
_AT_CLIENT = (
    "apply_patch",
    "bash",
    "computer",
    "custom",
    "function",
    "local_shell",
    "memory",
    "namespace",
    "shell",
    "str_replace",
    "text_editor",
)
"""Beginnings of the kinds whose results the client sends, in the body of its next request."""
_SEARCHES = ("web_search", "x_search", "googleSearch", "google_search", "enterpriseWebSearch")
_BUILT_IN = "builtin_function"
"""Kimi's type of tools that it runs by itself, of which ``$web_search`` is billed by the use, and what
it finds with the next request (platform.kimi.ai/docs/pricing/tools)."""
_FREE = frozenset({"functionDeclarations", "function_declarations", "code_execution"})
"""Fields of a tool without a type, Gemini's, that cost nothing but tokens."""
_BY_FIELD = frozenset(
    {
        *("googleSearch", "google_search", "googleSearchRetrieval", "google_search_retrieval"),
        *("enterpriseWebSearch", "enterprise_web_search", "parallelAiSearch", "retrieval"),
        *("googleMaps", "google_maps", "fileSearch", "file_search"),
    }
)
"""Fields that are tools of Gemini's which are billed (ai.google.dev/api/caching#Tool, and Vertex's)."""
_GOVERNED = ("type", "max_uses", "tools")
_RAW = {"type": msgspec.Raw, "max_uses": msgspec.Raw, "tools": msgspec.Raw}
_IS_BOUNDED = re.compile(r"web_search_[0-9]{8}")
"""Anthropic's kinds of searches, of which ``max_uses`` bounds the uses; others ignore it."""
_IS_EMPTY = re.compile(rb"\[[ \t\n\r]*\]")
_TOOL = msgspec.json.Decoder(dict[str, msgspec.Raw])
_KIND = msgspec.json.Decoder(str | None)


class _Function(msgspec.Struct):
    name: str = ""


_FUNCTION = msgspec.json.Decoder(_Function)


class _Environment(msgspec.Struct):
    type: str | None = None


_ENVIRONMENT = msgspec.json.Decoder(_Environment | None)
_USES = msgspec.json.Decoder(int | None)


class Tools:
    """What a request's tools may bill: ``searches``, and ``paid``, the names of others; ``reads`` says
    whether one has the provider read more than the request. ``most_calls`` is what the request bounds
    calls of tools by, as it stands there: a whole number, or nothing."""

    def __init__(self, most_calls: bytes) -> None:
        self._bound = int(most_calls) if most_calls.isdigit() else SEARCHES
        self._seen = 0
        self.searches = 0
        self.reads = False
        self.paid: list[str] = []

    def read(self, raw: bytes, level: int = 0) -> Steps[bool]:
        """Take a list of tools in; whether it could be read."""
        if raw in (b"", b"null", b"[]"):
            return True
        tools = yield from items_in_steps(raw, MOST_TOOLS + 1)
        self._seen += len(tools)
        if not tools:
            return _IS_EMPTY.fullmatch(raw) is not None
        if level >= MOST_LEVELS or self._seen > MOST_TOOLS:
            return False
        for tool in tools:
            if not (yield from self._take(tool, level)):
                return False
            yield
        return True

    def _take(self, raw: bytes, level: int) -> Steps[bool]:
        # A large one's fields are counted first.
        refused = (yield from survey(raw)) if len(raw) > LARGE else None
        try:
            if refused or isinstance(read_object(raw, _GOVERNED, _RAW), Refusal):
                return False
            tool = _TOOL.decode(raw)
            for kind in _kinds(tool):
                # Other tools, such as OpenAI's computer, have environments of other meanings.
                is_hosted = kind == "shell" and _is_hosted(tool)
                if is_hosted or not (kind.startswith(_AT_CLIENT) or _is_client_search(kind, tool)):
                    self.reads = True
                if kind.startswith(_SEARCHES):
                    is_bounded = "max_uses" in tool and _IS_BOUNDED.fullmatch(kind) is not None
                    uses = _USES.decode(tool["max_uses"]) if is_bounded else None
                    self.searches += self._bound if uses is None else max(0, uses)
                elif not kind.startswith(_OWN) or is_hosted:
                    self.paid.append(kind[:64])
        except (msgspec.MsgspecError, RecursionError):
            return False
        yield
        return "tools" not in tool or (yield from self.read(bytes(tool["tools"]), level + 1))


def _is_hosted(tool: dict[str, msgspec.Raw]) -> bool:
    """Whether a shell runs at the provider, which bills its container."""
    if "environment" not in tool:
        return False
    raw = bytes(tool["environment"])
    if raw != b"null" and isinstance(read_object(raw, ("type",)), Refusal):
        raise msgspec.DecodeError("environment")
    read = _ENVIRONMENT.decode(raw)
    return read is None or read.type != "local"


def _is_client_search(kind: str, tool: dict[str, msgspec.Raw]) -> bool:
    """Whether it is a search for tools that the client makes."""
    return kind == "tool_search" and bytes(tool.get("execution", b"")) == b'"client"'


def _built_in(tool: dict[str, msgspec.Raw]) -> str:
    """What one of Kimi's own tools is called, without the mark of such names."""
    function = bytes(tool.get("function", b"{}"))
    if isinstance(read_object(function, ("name",)), Refusal):
        raise msgspec.DecodeError("function")
    name = _FUNCTION.decode(function).name
    return (
        name.removeprefix("$") if name.startswith("$web_search") else f"{_BUILT_IN} {name}".strip()
    )


def _kinds(tool: dict[str, msgspec.Raw]) -> list[str]:
    """What a tool is, by its type or its fields, and what of Gemini's its fields ask for besides."""
    kind = _KIND.decode(tool["type"]) if "type" in tool else None
    if kind is None and not ("name" in tool or "function" in tool):
        return [name for name in tool if name not in _FREE and name != "type"]
    besides = [name for name in tool if name in _BY_FIELD and bytes(tool[name]) != b"null"]
    return [_built_in(tool) if kind == _BUILT_IN else kind or "custom", *besides]
