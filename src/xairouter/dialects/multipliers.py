"""What in a request multiplies its cost, beside the answers that it asks for: prompts in a list, words
that ask for other rates, tools that the provider runs and bills, output that is no text, and fields of
some servers that ask for more output in ways of their own.
"""

import re
from collections.abc import Iterator

import msgspec

from xairouter.accounting.reservation import BYTES_PER_TOKEN
from xairouter.accounting.words import joined
from xairouter.dialects.peek import Top, picked
from xairouter.dialects.tokens import structure
from xairouter.dialects.tools import SEARCHES, Tools
from xairouter.domain.calls import PLAIN, Multipliers, Refusal
from xairouter.domain.steps import Steps, at_once
from xairouter.errors import ErrorCode

MOST_PROMPTS = 10_000
_NONE = msgspec.Raw()
_ABSENT = (b"", b"null")
_NOTHING = (*_ABSENT, b"false")
_ONE = frozenset({*_NOTHING, b"1", b"1.0"})
_NO_READS = (*_ABSENT, b"false", b"[]")
_COMPACTS = re.compile(rb"compact|\\u")
"""In settings of the context: a compaction, also in letters spelt as escapes."""
_NUMBERS = re.compile(rb"\[[ \t\n\r]*[\[\d-]")


class _Body(msgspec.Struct):
    prompt: msgspec.Raw = _NONE
    input: msgspec.Raw = _NONE
    service_tier: msgspec.Raw = _NONE
    serviceTier: msgspec.Raw = _NONE  # noqa: N815 -- the wire's name
    speed: msgspec.Raw = _NONE
    inference_geo: msgspec.Raw = _NONE
    context_management: msgspec.Raw = _NONE
    compaction: msgspec.Raw = _NONE
    tools: msgspec.Raw = _NONE
    max_tool_calls: msgspec.Raw = _NONE
    web_search_options: msgspec.Raw = _NONE
    search_parameters: msgspec.Raw = _NONE
    plugins: msgspec.Raw = _NONE
    mcp_servers: msgspec.Raw = _NONE
    thinking_budget: msgspec.Raw = _NONE
    prediction: msgspec.Raw = _NONE
    modalities: msgspec.Raw = _NONE
    generationConfig: msgspec.Raw = _NONE  # noqa: N815
    generation_config: msgspec.Raw = _NONE
    num_return_sequences: msgspec.Raw = _NONE
    num_completions: msgspec.Raw = _NONE
    num_generations: msgspec.Raw = _NONE
    num_outputs: msgspec.Raw = _NONE
    num_beams: msgspec.Raw = _NONE
    beam_width: msgspec.Raw = _NONE
    use_beam_search: msgspec.Raw = _NONE
    candidate_count: msgspec.Raw = _NONE
    candidateCount: msgspec.Raw = _NONE  # noqa: N815
    # Together's, a second model that reads question and answer.
    safety_model: msgspec.Raw = _NONE
    # xAI's: the reply is fetched elsewhere, and its usage with it.
    deferred: msgspec.Raw = _NONE
    # vLLM's: each prompt that is given as numbers of its own kind is answered.
    prompt_embeds: msgspec.Raw = _NONE
    # Qwen's searches and code, Groq's models that run tools by themselves, and Azure's searches of data.
    enable_search: msgspec.Raw = _NONE
    enable_code_interpreter: msgspec.Raw = _NONE
    search_options: msgspec.Raw = _NONE
    compound_custom: msgspec.Raw = _NONE
    data_sources: msgspec.Raw = _NONE
    dataSources: msgspec.Raw = _NONE  # noqa: N815


class _Config(msgspec.Struct):
    """Gemini's, of which a field that stands twice has been refused."""

    responseModalities: msgspec.Raw = _NONE  # noqa: N815
    response_modalities: msgspec.Raw = _NONE


UNKNOWN = _Body.__struct_fields__[_Body.__struct_fields__.index("num_return_sequences") :]
"""Fields that multiply in some servers, or have more billed; by how much is not known here."""
_COUNTS = frozenset(
    {
        *("num_return_sequences", "num_completions", "num_generations", "num_outputs"),
        *("num_beams", "beam_width", "candidate_count", "candidateCount"),
    }
)
"""Those of them that are numbers, of which one asks for nothing more; elsewhere a 1 may say yes."""
_READS = (
    "web_search_options",
    "search_parameters",
    "plugins",
    "mcp_servers",
    *("enable_search", "enable_code_interpreter", "search_options", "compound_custom"),
    *("data_sources", "dataSources"),
)
"""Fields that have a provider read more than the body, or use tools of its own."""
WORDS = ("service_tier", "serviceTier", "speed", "inference_geo")
"""Fields that ask for rates of their own. Sources: see ``accounting/words.py``."""
_KINDS = frozenset({"audio", "image", "video"})
_LONGEST_LIST = 1024
_TEXT = frozenset({"text", "modality_unspecified"})
_BODY = msgspec.json.Decoder(_Body)
_CONFIG = msgspec.json.Decoder(_Config | None)
_EMPTY = _Body()
_WORD = msgspec.json.Decoder(str)
_WORDS = msgspec.json.Decoder(list[str])


def multipliers_of(body: bytes) -> Multipliers | Refusal:
    """``multipliers_in_steps`` at once."""
    read = _BODY.decode(body)
    return PLAIN if read == _EMPTY else at_once(_multipliers(read))


def multipliers_in_steps(top: Top) -> Steps[Multipliers | Refusal]:
    """What multiplies a request's cost, by the fields at the top of its body; a refusal where it
    cannot be read."""
    return _multipliers(picked(top, _Body))


_NO_NUMBER = Refusal(
    ErrorCode.INVALID_REQUEST,
    "The field `max_tool_calls` must be a whole number.",
    "max_tool_calls",
)


def _is_whole(raw: bytes) -> bool:
    """Whether a provider reads the number that is read here, if there is one."""
    return raw in _ABSENT or (raw.isdigit() and len(raw) < 10)


def _multipliers(read: _Body) -> Steps[Multipliers | Refusal]:
    prompts, token_ids = _prompts(read)
    yield
    if not 0 < prompts <= MOST_PROMPTS:
        sentence = (
            f"More than {MOST_PROMPTS} prompts in one request."
            if prompts
            else "The field `prompt` must hold either texts, or lists of tokens."
        )
        return Refusal(ErrorCode.INVALID_REQUEST, sentence, "prompt")
    asked: dict[str, str] = {}
    for name in WORDS:
        raw = bytes(getattr(read, name))
        if raw not in _ABSENT:
            if raw[:1] != b'"' or len(raw) > 64:
                return Refusal(
                    ErrorCode.INVALID_REQUEST, f"The field `{name}` must be a word.", name
                )
            asked[name] = _WORD.decode(raw)
    unknown = _unknown(read)
    kinds = tuple(_kinds(read, unknown))
    if not _is_whole(bytes(read.max_tool_calls)):
        return _NO_NUMBER
    # It bounds calls in Responses alone, whose requests have an input.
    tools = Tools(bytes(read.max_tool_calls) if bytes(read.input) not in _ABSENT else b"")
    yield
    if not (yield from tools.read(bytes(read.tools))):
        return Refusal(ErrorCode.INVALID_REQUEST, "The field `tools` cannot be read.", "tools")
    searches = tools.searches + (1 if bytes(read.web_search_options) not in _NOTHING else 0)
    if bytes(read.search_parameters) not in _NOTHING:
        searches += SEARCHES
    compacts = _COMPACTS.search(read.context_management) is not None
    compacts = compacts or bytes(read.compaction) not in _NO_READS
    return Multipliers(
        prompts,
        joined(asked.values()),
        next((name for name, word in asked.items() if joined([word])), None),
        searches,
        tuple(unknown + tools.paid),
        kinds,
        token_ids,
        tools.reads or any(bytes(getattr(read, name)) not in _NO_READS for name in _READS),
        compacts,
        _thinking(bytes(read.thinking_budget)) + _predicted(bytes(read.prediction)),
    )


def _unknown(read: _Body) -> list[str]:
    """The fields that ask for what has no known cost."""
    found = [
        name
        for name in UNKNOWN
        if bytes(getattr(read, name)) not in (_ONE if name in _COUNTS else _NOTHING)
    ]
    if not _are_free(bytes(read.plugins)):
        found.append("plugins")
    if bytes(read.prompt)[:1] == b"{":
        # A prompt that the provider keeps, with texts and tools that are not seen here.
        found.append("prompt")
    if not _is_whole(bytes(read.thinking_budget)):
        found.append("thinking_budget")
    return found


def _thinking(raw: bytes) -> int:
    """Qwen's: beside the maximum of output, which does not bound what the model thinks."""
    return int(raw) if raw.isdigit() and _is_whole(raw) else 0


def _predicted(raw: bytes) -> int:
    """OpenAI's: what of a prediction is not in the answer is billed as output all the same
    (platform.openai.com/docs/guides/predicted-outputs)."""
    return 0 if raw in _ABSENT else -(-len(raw) // BYTES_PER_TOKEN)


class _Plugin(msgspec.Struct):
    id: str


_PLUGINS = msgspec.json.Decoder(list[_Plugin] | None)
_FREE = frozenset({"response-healing"})
"""OpenRouter's plugins that cost nothing (openrouter.ai/docs/guides/features/plugins)."""


def _are_free(raw: bytes) -> bool:
    """Whether there are no plugins that may cost."""
    if raw in _ABSENT:
        return True
    try:
        plugins = _PLUGINS.decode(raw) if len(raw) <= _LONGEST_LIST else None
    except msgspec.MsgspecError:
        return False
    return plugins is not None and all(one.id in _FREE for one in plugins)


def _prompts(read: _Body) -> tuple[int, int]:
    """(prompts, tokens given as numbers beyond what their size is taken for)."""
    prompts, token_ids = _in_list(bytes(read.prompt))
    given = bytes(read.input)
    if _NUMBERS.match(given):
        token_ids += _in_list(given)[1]
    return prompts, token_ids


def _in_list(raw: bytes) -> tuple[int, int]:
    """The same of one field: each text in a list is a prompt, and so is each list of numbers; a list
    of numbers alone is one. None (0) stand for what is neither."""
    if not raw.startswith(b"["):
        return 1, 0
    inside = structure(raw)
    if inside is None:
        return MOST_PROMPTS + 1, 0
    inside = inside.translate(None, b" \t\n\r")
    texts, lists, items = inside.count(b'""'), inside.count(b"[") - 1, inside.count(b",") + 1
    if lists:
        # Nothing stands between lists but commas, and no list in another.
        if not inside.startswith(b"[[") or inside.count(b"],[") != lists - 1 or texts:
            return 0, 0
        if not inside.endswith(b"]]"):
            return 0, 0
    numbers = 0 if texts == items else items
    prompts = lists or (items if texts else 1)
    return prompts, max(0, numbers - len(raw) // BYTES_PER_TOKEN)


def _kinds(read: _Body, unknown: list[str]) -> Iterator[str]:
    """What else than text a request asks for; what cannot be read joins the unknown."""
    fields = [("modalities", read.modalities)]
    for raw in (read.generationConfig, read.generation_config):
        config = _CONFIG.decode(raw) if bytes(raw) else None
        if config is not None:
            fields += [
                ("responseModalities", config.responseModalities),
                ("response_modalities", config.response_modalities),
            ]
    for name, given in fields:
        if bytes(given) in _ABSENT:
            continue
        try:
            some = given if len(memoryview(given)) <= _LONGEST_LIST else b"0"
            words = {word.lower() for word in _WORDS.decode(some)} - _TEXT
        except msgspec.MsgspecError:
            words = {name}
        yield from sorted(words & _KINDS)
        if words - _KINDS:
            unknown.append(name)
