"""Whether a request body consists of well-known fields that name nothing, settled in few C calls.

``PLAIN`` lists, place by place, the fields of today's official SDKs that name neither another model
nor an object that a provider keeps. A body of these alone, each at most once in its object, which
are nearly all, needs no further look; any other field, anywhere, sends it to ``named.read_named``.
So this table decides about time only: a field that is missing here costs a closer look, and one may
stand here only if nothing in its value is a name: a value that may hold objects has their fields
listed in turn, or is the user's own data (``_OWN``). (The models that Gemini's ``requests`` repeat,
and what ``previous_response_id`` and ``conversation`` name, the dialects read themselves.)
"""

import re
from collections.abc import Mapping
from typing import Any, Union

import msgspec

from xairouter.dialects.shorten import has_more_outside
from xairouter.domain.steps import Steps, at_once

LARGE = 64 << 10
_AT_ONCE = 2000
_MOST = {b"{": 50_000}
_MOST_OF_EACH = {b"{": 50_000, b",": 50_000}
Shape = dict[str, Any]
OWN, SCALAR, WORDS, ROW = "own data", "one word or number", "words", "an array without objects"
_UNSET = msgspec.UnsetType
_KINDS: Mapping[str, Any] = {
    OWN: msgspec.Raw | _UNSET,
    ROW: msgspec.Raw | _UNSET,
    SCALAR: str | int | float | bool | None | _UNSET,
    WORDS: str | list[str] | None | _UNSET,
}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_OWN = _words(
    "metadata client_metadata logit_bias parameters schema arguments image_url input_audio "
    "annotations citations internal_chat_message_metadata_passthrough input_schema input_examples "
    "input args response labels responseSchema response_schema responseJsonSchema "
    "response_json_schema parametersJsonSchema parameters_json_schema"
)
"""Fields that hold what the user's own programs wrote; ``named`` does not look into them either."""
_WORDS = _words(
    "stop modalities include stop_sequences betas allowed_domains blocked_domains exclude_tools "
    "clear_tool_inputs search_content_types stopSequences responseModalities allowedFunctionNames "
    "allowed_function_names searchTypes"
)


def _fields(names: str, **nested: Any) -> Shape:
    return {
        name: OWN if name in _OWN else WORDS if name in _WORDS else SCALAR for name in names.split()
    } | nested


def _compiled(name: str, shape: Shape) -> Any:
    """A struct that takes these fields and no others; nested shapes as text, one object, or a list
    of objects."""
    fields: list[tuple[str, Any, Any]] = []
    for index, (field, inner) in enumerate(shape.items()):
        if isinstance(inner, str):
            kind = _KINDS[inner]
        else:
            one: Any = _compiled(f"{name}_{field}", inner)
            kind = Union[str, one, list[one], None, _UNSET]  # noqa: UP007 -- made at run time
        fields.append((f"f{index}", kind, msgspec.UNSET))
    return msgspec.defstruct(
        name,
        fields,
        rename={f"f{index}": field for index, field in enumerate(shape)},
        forbid_unknown_fields=True,
        gc=False,
    )


_CACHE = _fields("type ttl")
_TOOL = _fields("type name", function=_fields("name"))
_CHOICE = _fields(
    "type name mode disable_parallel_tool_use",
    function=_fields("name"),
    custom=_fields("name"),
    tools=_TOOL,
    allowed_tools=_fields("mode", tools=_TOOL),
)
_PLACE = "type city region country timezone latitude longitude"
_LOCATION = _fields(_PLACE, approximate=_fields(_PLACE))
_FORMAT = _fields("name description strict schema")
_SAMPLING = _fields(
    "model stream temperature top_p top_k seed stop n logprobs top_logprobs frequency_penalty "
    "presence_penalty user service_tier metadata parallel_tool_calls "
    "prompt_cache_key prompt_cache_retention safety_identifier store verbosity",
    tool_choice=_CHOICE,
    stream_options=_fields("include_usage include_obfuscation"),
)
_CALLED = _fields("name arguments")
_DECLARED = _fields("name description parameters strict")
_CHAT_PART = _fields(
    "type text refusal image_url input_audio", cache_control=_CACHE, video_url=_fields("url fps")
)
_CHAT = _SAMPLING | _fields(
    "max_tokens max_completion_tokens logit_bias reasoning_effort modalities min_p "
    "repetition_penalty random_seed safe_prompt enable_thinking",
    thinking=_fields("type budget_tokens clear_thinking"),
    chat_template_kwargs=_fields("thinking enable_thinking reasoning_effort"),
    web_search_options=_fields("search_context_size", user_location=_LOCATION),
    function_call=_fields("name"),
    functions=_DECLARED,
    messages=_fields(
        "role name tool_call_id refusal reasoning reasoning_content annotations",
        function_call=_CALLED,
        tool_calls=_fields("id type index", function=_CALLED, custom=_fields("name", input=SCALAR)),
        cache_control=_CACHE,
        content=_CHAT_PART,
    ),
    tools=_fields(
        "type",
        function=_DECLARED,
        custom=_fields(
            "name description",
            format=_fields("type", grammar=_fields("syntax definition")),
        ),
        cache_control=_CACHE,
    ),
    response_format=_fields("type schema", json_schema=_FORMAT),
    prediction=_fields("type", content=_fields("type text")),
)
_COMPLETIONS = _SAMPLING | _fields(
    "max_tokens max_completion_tokens logit_bias best_of echo suffix min_p repetition_penalty",
    prompt=ROW,
    stop=ROW,
)
_EMBEDDINGS = _fields("model encoding_format dimensions user input_type truncate task", input=ROW)
_RESPONSES_PART = _fields(
    "type text refusal annotations image_url file_url file_data filename detail",
    logprobs=_fields("token logprob"),
)
_FUNCTION = _fields(
    "type name description parameters strict defer_loading",
    format=_fields("type syntax definition"),
)
_RESPONSES = _SAMPLING | _fields(
    "max_output_tokens max_tool_calls instructions include truncation background "
    "client_metadata previous_response_id",
    reasoning=_fields("effort summary generate_summary context"),
    text=_fields("verbosity", format=_fields("type name description strict schema")),
    context_management=_fields("type compact_threshold"),
    conversation=_fields("id"),
    input=_fields(
        "type id role name call_id arguments status phase namespace encrypted_content "
        "internal_chat_message_metadata_passthrough",
        content=_RESPONSES_PART,
        output=_RESPONSES_PART,
        summary=_fields("type text"),
    ),
    # See _have_no_settings.
    tools=_FUNCTION
    | _fields(
        "search_context_size external_web_access search_content_types",
        user_location=_LOCATION,
        filters=_fields("allowed_domains"),
        tools=_FUNCTION,
    ),
)
_ANTHROPIC_SOURCE = _fields("type media_type data url")
_ANTHROPIC_RESULT = _fields(
    "type text title context citations is_error url encrypted_content page_age tool_name",
    cache_control=_CACHE,
    source=_ANTHROPIC_SOURCE,
)
_ANTHROPIC_BLOCK = _fields(
    "type text id name input tool_use_id is_error thinking signature data citations title context",
    cache_control=_CACHE,
    caller=_fields("type tool_id"),
    source=_ANTHROPIC_SOURCE,
    content=_ANTHROPIC_RESULT,
)
_THRESHOLD = _fields("type value")
_OUTPUT_CONFIG = _fields(
    "effort", format=_fields("type schema"), task_budget=_fields("type total remaining")
)
_ANTHROPIC = _fields(
    "model stream max_tokens temperature top_p top_k stop_sequences metadata service_tier "
    "speed inference_geo betas",
    tool_choice=_CHOICE,
    thinking=_fields("type budget_tokens display"),
    output_config=_OUTPUT_CONFIG,
    output_format=_fields("type schema"),
    context_management=_fields(
        "",
        edits=_fields(
            "type exclude_tools clear_tool_inputs instructions pause_after_compaction",
            trigger=_THRESHOLD,
            keep=_THRESHOLD,
            clear_at_least=_THRESHOLD,
        ),
    ),
    cache_control=_CACHE,
    messages=_fields("role clear_at", output_config=_OUTPUT_CONFIG, content=_ANTHROPIC_BLOCK),
    system=_fields("type text citations", cache_control=_CACHE),
    tools=_fields(
        "type name description input_schema strict eager_input_streaming "
        "input_examples defer_loading max_uses allowed_domains blocked_domains "
        "display_width_px display_height_px display_number max_characters",
        user_location=_LOCATION,
        cache_control=_CACHE,
    ),
)
_INLINE = _fields("mimeType mime_type data displayName display_name")
_CALL = _fields("id name args")
_CODE, _OUTCOME = _fields("id language code"), _fields("id outcome output")
_VIDEO = _fields("startOffset endOffset start_offset end_offset fps")
_GEMINI_PART = _fields(
    "text thought thoughtSignature thought_signature",
    inlineData=_INLINE,
    inline_data=_INLINE,
    functionCall=_CALL,
    function_call=_CALL,
    executableCode=_CODE,
    executable_code=_CODE,
    codeExecutionResult=_OUTCOME,
    code_execution_result=_OUTCOME,
    videoMetadata=_VIDEO,
    video_metadata=_VIDEO,
    mediaResolution=_fields("level numTokens"),
    functionResponse=_fields("id name response willContinue scheduling"),
    function_response=_fields("id name response will_continue scheduling"),
)
_GEMINI_CONTENT = _fields("role", parts=_GEMINI_PART)
_GEMINI_FUNCTION = _fields(
    "name description behavior parameters parametersJsonSchema parameters_json_schema response "
    "responseJsonSchema response_json_schema"
)
_SEARCH = _fields("searchTypes", timeRangeFilter=_fields("startTime endTime"))
_GEMINI_TOOL = _fields(
    "",
    functionDeclarations=_GEMINI_FUNCTION,
    function_declarations=_GEMINI_FUNCTION,
    googleSearch=_SEARCH,
    google_search=_SEARCH,
    urlContext=_fields(""),
    url_context=_fields(""),
    codeExecution=_fields(""),
    code_execution=_fields(""),
    googleMaps=_fields("enableWidget"),
    googleSearchRetrieval=_fields("", dynamicRetrievalConfig=_fields("mode dynamicThreshold")),
)
_THINKING = _fields(
    "thinkingBudget includeThoughts thinkingLevel thinking_budget include_thoughts thinking_level"
)
_GEMINI_SETTINGS = _fields(
    "temperature topP topK top_p top_k candidateCount candidate_count maxOutputTokens "
    "max_output_tokens stopSequences stop_sequences responseMimeType response_mime_type "
    "responseSchema response_schema responseJsonSchema response_json_schema responseModalities "
    "presencePenalty frequencyPenalty seed logprobs responseLogprobs "
    "mediaResolution audioTimestamp",
    thinkingConfig=_THINKING,
    thinking_config=_THINKING,
    imageConfig=_fields("aspectRatio imageSize"),
)
_SAFETY = _fields("category threshold method")
_CALLING = _fields("mode allowedFunctionNames allowed_function_names")
_LATITUDE = _fields("latitude longitude")
_TOOL_CONFIG = _fields(
    "includeServerSideToolInvocations",
    functionCallingConfig=_CALLING,
    function_calling_config=_CALLING,
    retrievalConfig=_fields("languageCode", latLng=_LATITUDE),
)
_GEMINI = _fields(
    "labels taskType title outputDimensionality",
    safetySettings=_SAFETY,
    safety_settings=_SAFETY,
    toolConfig=_TOOL_CONFIG,
    tool_config=_TOOL_CONFIG,
    contents=_GEMINI_CONTENT,
    content=_GEMINI_CONTENT,
    systemInstruction=_GEMINI_CONTENT,
    system_instruction=_GEMINI_CONTENT,
    tools=_GEMINI_TOOL,
    generationConfig=_GEMINI_SETTINGS,
    generation_config=_GEMINI_SETTINGS,
    requests=_fields("model taskType title outputDimensionality", content=_GEMINI_CONTENT),
)
PLAIN: Mapping[str, Shape] = {
    "openai_chat": _CHAT,
    "openai_completions": _COMPLETIONS,
    "openai_embeddings": _EMBEDDINGS,
    "openai_responses": _RESPONSES,
    "anthropic_messages": _ANTHROPIC,
    "gemini_generate": _GEMINI,
}
_DECODERS = {name: msgspec.json.Decoder(_compiled(name, shape)) for name, shape in PLAIN.items()}
_ENCODE = msgspec.json.Encoder().encode
_ROWS = {
    name: tuple(f"f{index}" for index, kind in enumerate(shape.values()) if kind == ROW)
    for name, shape in PLAIN.items()
}
_INPUT = f"f{list(_RESPONSES).index('input')}"
_ITEM = list(_RESPONSES["input"])
_TOOLS = f"f{list(_RESPONSES).index('tools')}"
_KIND, _PARAMETERS = (f"f{list(_FUNCTION).index(name)}" for name in ("type", "parameters"))
_NESTED = f"f{list(_RESPONSES['tools']).index('tools')}"
_TYPE, _ID = f"f{_ITEM.index('type')}", f"f{_ITEM.index('id')}"
_COLON = re.compile(rb"\\u003[aA]")


def is_plain(dialect: str, body: bytes) -> bool:
    """``plain_in_steps`` at once."""
    return at_once(plain_in_steps(dialect, body))


def plain_in_steps(dialect: str, body: bytes) -> Steps[bool]:
    """Whether a body, known to be JSON, has none but fields that name nothing, and none twice."""
    rows = _ROWS[dialect]
    if len(body) > LARGE and (yield from has_more_outside(body, _MOST if rows else _MOST_OF_EACH)):
        return False
    try:
        top = _DECODERS[dialect].decode(body)
    except (msgspec.ValidationError, RecursionError):
        return False
    if len(body) > LARGE:
        yield
    # A field that stands twice has been read once: it is missing, and its colon, where what was read
    # is written again. Strings keep theirs, unless one was spelled as an escape.
    if body.count(b":") != _ENCODE(top).count(b":") or _COLON.search(body):
        return False
    if len(body) > LARGE:
        yield
    if dialect == "openai_responses":
        return (yield from _have_content(getattr(top, _INPUT))) and (
            yield from _have_no_settings(getattr(top, _TOOLS))
        )
    for row in rows:
        if (yield from _holds_objects(getattr(top, row))):
            return False
    return True


def _holds_objects(row: object) -> Steps[bool]:
    """Whether an array, or what stands for one, has an object anywhere."""
    if not isinstance(row, msgspec.Raw):
        return False
    value = bytes(row)
    return value[:1] in (b"[", b"{") and (yield from has_more_outside(value, {b"{": 0}))


def _have_content(items: object) -> Steps[bool]:
    """Whether no item of a response's input refers to a stored one: each with an id has content."""
    if not isinstance(items, list):
        return not hasattr(items, _ID) or getattr(items, _ID) is msgspec.UNSET
    for at in range(0, len(items), _AT_ONCE):
        if at:
            yield
        some = items[at : at + _AT_ONCE]
        if not all(_has_content(item) for item in some if getattr(item, _ID) is not msgspec.UNSET):
            return False
    return True


def _has_content(item: Any) -> bool:
    kind = getattr(item, _TYPE)
    field = _CONTENT.get(kind) if isinstance(kind, str) else None
    value = getattr(item, field) if field else None
    if isinstance(value, msgspec.Raw):
        value = bytes(value)
        return value[:1] == b'"' and len(value) > 2
    return isinstance(value, str | list) and bool(value)


_CONTENT = {
    kind: f"f{_ITEM.index(field)}"
    for kind, field in {
        "message": "content",
        "function_call": "arguments",
        "function_call_output": "output",
        "custom_tool_call_output": "output",
        "reasoning": "encrypted_content",
        "compaction": "encrypted_content",
    }.items()
}
"""The field that makes an item of each type whole; what has others needs the closer look."""


def _have_no_settings(tools: object) -> Steps[bool]:
    """Whether all ``parameters`` are schemas of the client's functions; others may name a model."""
    if not isinstance(tools, list):
        return tools is None or tools is msgspec.UNSET
    for count, tool in enumerate(tools, 1):
        has_some = getattr(tool, _PARAMETERS) is not msgspec.UNSET
        if (has_some and getattr(tool, _KIND) != "function") or not (
            yield from _have_no_settings(getattr(tool, _NESTED, None))
        ):
            return False
        if count % _AT_ONCE == 0:
            yield
    return True
