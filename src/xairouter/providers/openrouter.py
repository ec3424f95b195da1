"""OpenRouter."""

from xairouter.providers.interface import Probe, Provider, openai_compatible

OPENROUTER = Provider(
    name="openrouter",
    title="OpenRouter",
    docs="https://openrouter.ai/docs/api-reference/overview",
    endpoints=openai_compatible(
        "https://openrouter.ai/api/v1",
        "openai_completions",
        "openai_responses",
        "openai_embeddings",
    ),
    forward_headers=frozenset({"http-referer", "x-title"}),
    probe=Probe("openai_chat", "/models/user"),  # /models answers without a key
    price_list="openrouter",
    keys_url="https://openrouter.ai/settings/keys",
    usage_url="https://openrouter.ai/activity",
    price_url="https://openrouter.ai/models",
)
