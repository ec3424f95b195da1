"""Groq."""

from xairouter.providers.interface import OPENAI_PROBE, Provider, openai_compatible

GROQ = Provider(
    name="groq",
    title="Groq",
    docs="https://console.groq.com/docs/openai",
    endpoints=openai_compatible("https://api.groq.com/openai/v1", "openai_responses"),
    probe=OPENAI_PROBE,
    price_list="groq",
    keys_url="https://console.groq.com/keys",
    usage_url="https://console.groq.com/dashboard/usage",
    price_url="https://groq.com/pricing",
)
