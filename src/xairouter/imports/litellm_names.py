"""What LiteLLM calls things, and what they are here: providers, addresses, and the reasons why some
settings have no counterpart."""

import re
from dataclasses import dataclass
from typing import Any

_OPENAI = ("openai_chat", "openai_completions", "openai_responses", "openai_embeddings")
# Any server may be meant that speaks as OpenAI does; few of them know Responses.
_OPENAI_LIKE = ("openai_chat", "openai_completions", "openai_embeddings")


@dataclass(frozen=True, slots=True)
class Known:
    """A provider of LiteLLM's: its ``row`` in the provider table, the ``variable`` of the
    environment that LiteLLM reads unasked, and how an address of one's own is taken: which
    ``dialects`` it serves, after the first of ``without`` is cut off its end and ``path`` put
    there. ``is_any``: with such an address it is not that provider at all."""

    row: str
    variable: str = ""
    dialects: tuple[str, ...] = _OPENAI_LIKE
    without: tuple[str, ...] = ()
    path: str = ""
    is_any: bool = False

    def address(self, base: str) -> dict[str, str]:
        """Dialect → base URL, from an ``api_base``."""
        base = base.rstrip("/")
        end = next((end for end in self.without if base.endswith(end)), "")
        return dict.fromkeys(self.dialects, base.removesuffix(end) + self.path)


KNOWN = {
    "openai": Known("openai", "OPENAI_API_KEY", is_any=True),
    "text-completion-openai": Known("openai", "OPENAI_API_KEY", is_any=True),
    "anthropic": Known(
        "anthropic", "ANTHROPIC_API_KEY", ("anthropic_messages",), without=("/v1/messages", "/v1")
    ),
    "gemini": Known("gemini", "GEMINI_API_KEY", ("gemini_generate",)),
    "deepseek": Known("deepseek", "DEEPSEEK_API_KEY", ("openai_chat",)),
    "mistral": Known("mistral", "MISTRAL_API_KEY"),
    "groq": Known("groq", "GROQ_API_KEY"),
    "xai": Known("xai", "XAI_API_KEY"),
    "openrouter": Known("openrouter", "OPENROUTER_API_KEY"),
    "together_ai": Known("together", "TOGETHERAI_API_KEY"),
    "fireworks_ai": Known("fireworks", "FIREWORKS_AI_API_KEY"),
    "cerebras": Known("cerebras", "CEREBRAS_API_KEY"),
    "perplexity": Known("perplexity", "PERPLEXITYAI_API_KEY"),
    "cohere": Known("cohere", "COHERE_API_KEY"),
    "cohere_chat": Known("cohere", "COHERE_API_KEY"),
    "moonshot": Known("moonshot", "MOONSHOT_API_KEY"),
    "zai": Known("zhipu", "ZAI_API_KEY"),
    "dashscope": Known("qwen", "DASHSCOPE_API_KEY"),
    "minimax": Known("minimax", "MINIMAX_API_KEY"),
    "volcengine": Known("volcengine", "VOLCENGINE_API_KEY"),
    "nvidia_nim": Known("nvidia", "NVIDIA_NIM_API_KEY"),
    "azure": Known(
        "azure_openai",
        "AZURE_API_KEY",
        _OPENAI,
        without=("/openai/v1", "/openai"),
        path="/openai/v1",
    ),
    "ollama": Known("ollama", "", _OPENAI, without=("/v1",), path="/v1"),
    "ollama_chat": Known("ollama", "", _OPENAI, without=("/v1",), path="/v1"),
    "hosted_vllm": Known("vllm", "", _OPENAI),
    "vllm": Known("vllm", "", _OPENAI),
    "lm_studio": Known("lmstudio", "", _OPENAI),
}
BARE = (
    (("gpt-", "o1", "o3", "o4", "chatgpt-", "text-embedding-"), "openai"),
    (("claude-",), "anthropic"),
)
"""Models that LiteLLM knows without their provider's name: how they begin, and whose they are."""

NO_COUNTERPART = "has no counterpart here"
WHY = {
    "master_key": "every account gets XAI API keys of its own, and no key rules over all",
    "salt_key": "provider keys are sealed under the owner's own XAI API keys",
    "database_url": "the router's database is XAIROUTER_DATABASE_URL",
    "num_retries": "retries have a budget of their own, before the first byte only",
    "routing_strategy": "keys of one level share calls by weight",
    "context_window_fallbacks": "a request that is too long is the client's own to change",
    "content_policy_fallbacks": "a refused content is not sent to another provider",
    "rpm": "a provider key has no limit of its own; accounts have (rules, limits)",
    "tpm": "a provider key has no limit of its own; accounts have (rules, limits)",
    "guardrails": "requests and replies pass unread",
    "callbacks": "what was used is in the usage records; notices go to a webhook",
    "success_callback": "what was used is in the usage records; notices go to a webhook",
    "cache": "replies are not stored",
    "drop_params": "requests pass as they are",
    "api_version": "the provider's versionless address is used",
    "include": "import those files one by one",
    "environment_variables": "set them in the environment of this command instead",
    "spend": "counting begins anew",
    "members_with_roles": "persons get accounts of their own below the team's",
}
COSTS = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cached_input",
    "cache_creation_input_token_cost": "cache_write",
}
READ_PARAMS = {
    "model",
    "api_key",
    "api_base",
    "base_url",
    "custom_llm_provider",
    "litellm_credential_name",
    "weight",
    "order",
    *COSTS,
}
READ_INFO = {"id", *COSTS}
READ_TEAM = {
    "team_id",
    "team_alias",
    "models",
    "max_budget",
    "budget_duration",
    "rpm_limit",
    "tpm_limit",
    "max_parallel_requests",
    "blocked",
    # What its server keeps about the row itself.
    "created_at",
    "updated_at",
    "budget_reset_at",
    "keys",
    "members_count",
}


def window_of(duration: Any) -> str | None:
    """The budget's name for LiteLLM's `budget_duration`, None where there is none like it."""
    if duration is None:
        return "total_usd"
    found = re.fullmatch(r"(\d{1,6})(s|m|h|d|w|mo)", str(duration).strip().lower())
    if found is None:
        return None
    number, unit = int(found[1]), found[2]
    if unit == "mo":
        return "month_usd" if number == 1 else None
    seconds = number * {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}[unit]
    if seconds == 86_400:
        return "day_usd"
    return "month_usd" if 28 * 86_400 <= seconds <= 31 * 86_400 else None


def split_model(model: str, provider: Any) -> tuple[str, str]:
    """(LiteLLM's provider, the model's name there), both as LiteLLM reads ``provider/model``."""
    prefix, slash, rest = model.partition("/")
    if isinstance(provider, str) and provider:
        return provider, rest if slash and prefix == provider else model
    if slash and rest:
        return prefix, rest
    for begins, name in BARE:
        if model.startswith(begins):
            return name, model
    return "", model
