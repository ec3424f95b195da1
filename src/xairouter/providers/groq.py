"""Groq."""

from xairouter.providers.interface import OPENAI_PROBE, Provider, openai_compatible

GROQ = Provider(
    name="groq",
    title="Groq",
    docs="https://console.groq.com/docs/openai",
    endpoints=openai_compatible("https://api.groq.com/openai/v1", "openai_responses"),
    # docs: …/api-reference (chat): max_tokens is deprecated, and taken
    output_fields={"openai_chat": ("max_tokens", "max_completion_tokens")},
    probe=OPENAI_PROBE,
    price_list="groq",
    keys_url="https://console.groq.com/keys",
    usage_url="https://console.groq.com/dashboard/usage",
    price_url="https://groq.com/pricing",
)
