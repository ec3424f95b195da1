"""The fields that name models and objects, by dialect: the table that ``named`` reads bodies by.

A field is known by its name, at any nesting. One whose name says that it names something
(``_NAMING``), and which is not in its dialect's row, is unlisted: whoever is bound by rules may not
use it. Sources: the providers' references of today, and what their servers document beside them
(OpenRouter's fallbacks and plugins, Groq's compound systems, the adapters of vLLM, SGLang and TGI,
LiteLLM's fallbacks, Azure's deployments).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

MODEL, OBJECT, OWN_DATA, UNLISTED, AMBIGUOUS = "model", "object", "own data", "unlisted", "odd"
_NAMING = re.compile(
    r"(?:^|[_-])(?:ids?|uris?|arns?|identifiers?)$|(?<=[a-z0-9])(?:Ids?|Uris?|Arns?|Identifiers?)$"
    r"|(?i:(?<![a-z])(?:model|engine|deployment|adapter|lora|fallback|router?)s?(?![a-z]))"
    r"|(?:^|(?<=[a-z0-9]))(?:Model|Engine|Deployment|Adapter|Lora|Fallback|Router?)s?(?![a-z])"
    r"|(?:^|(?<=[^a-zA-Z]))(?:model|engine|deployment|adapter|lora|fallback|router?)s?(?=[A-Z])"
)
"""A last word that says "an id", or any word that says "a model"."""
_LONGEST_FIELD = 64


@dataclass(frozen=True, slots=True, eq=False)
class NamedFields:
    """One dialect's fields.

    ``models`` and ``objects`` hold a name, a list of names, or objects with such fields.
    ``holders`` are further fields whose value's ``id`` names an object. ``own_data`` is not
    looked into (at a body's top: that of ``TOP_DATA``); ``harmless`` looks as if it named something
    and names nothing that a provider keeps. The fields of an object in ``maps`` have names of the
    user's; their values are looked into.
    """

    models: frozenset[str]
    objects: frozenset[str]
    holders: frozenset[str]
    own_data: frozenset[str]
    harmless: frozenset[str]
    maps: frozenset[str] = frozenset()
    kinds: Mapping[str, str | None] = field(init=False)
    folded: frozenset[str] = field(init=False)
    parents: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        parents = self.objects | self.holders
        kinds: dict[str, str | None] = dict.fromkeys(self.harmless | self.holders)
        kinds |= dict.fromkeys(self.models, MODEL) | dict.fromkeys(self.objects, OBJECT)
        kinds |= dict.fromkeys(self.own_data, OWN_DATA)
        names = self.models | parents | {"id"}
        object.__setattr__(self, "kinds", kinds)
        object.__setattr__(self, "folded", frozenset(name.casefold() for name in names))
        object.__setattr__(self, "parents", parents)

    def kind(self, name: str) -> str | None:
        """What a field's name says of it; None where it says nothing."""
        if name in self.kinds:
            return self.kinds[name]
        if name.casefold() in self.folded:
            return AMBIGUOUS
        return UNLISTED if len(name) <= _LONGEST_FIELD and _NAMING.search(name) else None


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MODELS = _words(
    "model models model_id modelId model_name modelName model_names base_model target_model "
    "target_models draft_model safety_model judge_model analysis_models allowed_models "
    "answering_model reasoning_model embedding_model embeddingModel rerank_model reranker "
    "fallbacks fallback_model fallback_models context_window_fallbacks content_policy_fallbacks "
    "engine deployment deployments deployment_id deployment_name route router "
    "lora lora_path lora_request adapter adapter_id"
)
_HARMLESS = _words(
    # Ids of a conversation's own parts, of the client's users, and of public connectors.
    "id ids tool_use_id tool_call_id call_id caller_id tool_id connector_id "
    "user_id session_id trace_id request_id custom_id tab_id download_id uri url_sources "
    "safety_identifier user_identifier search_engine "
    # Numbers of tokens; ids of a client's own chats (Open WebUI) and traces (LiteLLM).
    "stop_token_ids allowed_token_ids prompt_token_ids token_ids input_ids chat_id message_id "
    "litellm_session_id litellm_trace_id litellm_call_id"
)
_OWN_DATA = _words(
    "metadata client_metadata parameters input_schema output_schema schema arguments properties "
    "logit_bias image_url input_audio annotations citations results svg_usage headers "
    # Schemas, whose definitions have the names of the user's classes, and what Azure logs.
    "$defs definitions guided_json structured_outputs json_schema user_security_context "
    "internal_chat_message_metadata_passthrough"
)

TOOL_ENGINES = _words("native exa firecrawl parallel pdf-text mistral-ocr cloudflare-ai")
"""What ``engine`` says of OpenRouter's plugins: how one searches or reads a file, and no model."""
TOP_ONLY = _words("guided_json structured_outputs json_schema user_security_context")
"""Own data nowhere else."""
TOP_DATA = TOP_ONLY | _words("metadata client_metadata labels logit_bias")
"""Own data at the top of a body; what has another of those names there is a provider's setting."""

OPENAI = NamedFields(
    models=_MODELS,
    objects=_words(
        "file_id input_file_id file_ids vector_store_id vector_store_ids container_id skill_id "
        "previous_response_id comparison_response_id continuation_id tunnel_id response_id "
        "container conversation conversation_id prompt_id preset cached_content cachedContent "
        "batch_id assistant_id "
        "thread_id upload_id video_id approval_request_id"
    ),
    holders=frozenset({"audio", "voice"}),
    own_data=_OWN_DATA,
    harmless=_HARMLESS,
)
RESPONSES = NamedFields(
    models=OPENAI.models,
    objects=OPENAI.objects,
    holders=OPENAI.holders | {"prompt"},
    own_data=OPENAI.own_data,
    harmless=OPENAI.harmless,
    # A stored prompt's: strings, or files and images.
    maps=frozenset({"variables"}),
)
ANTHROPIC = NamedFields(
    models=_MODELS,
    objects=_words(
        "file_id file_ids container container_id skill_id thread previous_message_id "
        "user_profile_id workspace_id "
        "fallback_credit_token environment_id vault_id agent_id batch_id"
    ),
    holders=frozenset(),
    # `from` and `to`: which models a fallback of an earlier turn went between.
    own_data=_OWN_DATA | {"input", "from", "to", "input_examples"},
    harmless=_HARMLESS,
    # The tools of an MCP server, by name.
    maps=frozenset({"configs"}),
)
GEMINI = NamedFields(
    # `engine`: a Vertex AI search engine.
    models=_MODELS - {"engine"},
    objects=_words(
        "cachedContent cached_content fileUri file_uri fileSearchStoreNames "
        "file_search_store_names fileSearchStore file_search_store ragCorpus rag_corpus ragCorpora "
        "rag_corpora datastore dataStore engine promptTemplateName prompt_template_name "
        "responseTemplateName response_template_name"
    ),
    holders=frozenset(),
    own_data=_OWN_DATA
    | _words(
        "args response labels responseSchema response_schema responseJsonSchema "
        "response_json_schema parametersJsonSchema parameters_json_schema partMetadata "
        "part_metadata"
    ),
    harmless=_HARMLESS
    | _words(
        "modelConfig model_config modelSelectionConfig model_selection_config modelArmorConfig "
        "model_armor_config modelRoutingPreference model_routing_preference"
    ),
)
NAMED = {
    "openai_chat": OPENAI,
    "openai_completions": OPENAI,
    "openai_embeddings": OPENAI,
    "openai_responses": RESPONSES,
    "anthropic_messages": ANTHROPIC,
    "gemini_generate": GEMINI,
}
