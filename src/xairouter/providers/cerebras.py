"""Cerebras."""

from xairouter.providers.interface import OPENAI_PROBE, Provider, openai_compatible

CEREBRAS = Provider(
    name="cerebras",
    title="Cerebras",
    docs="https://inference-docs.cerebras.ai/resources/openai",
    endpoints=openai_compatible("https://api.cerebras.ai/v1", "openai_completions"),
    # docs: …/api-reference/chat-completions: max_tokens is deprecated, and taken
    output_fields={"openai_chat": ("max_completion_tokens", "max_tokens")},
    probe=OPENAI_PROBE,
    # the id that support asks for
    reply_headers=frozenset({"inference-id"}),
    price_list="cerebras",
    keys_url="https://cloud.cerebras.ai/platform",
    usage_url="https://cloud.cerebras.ai/platform",
    price_url="https://www.cerebras.ai/pricing",
)
