"""Mistral AI. Streams report usage in their last chunk without being asked."""

from xairouter.providers.interface import OPENAI_PROBE, Provider, openai_compatible

MISTRAL = Provider(
    name="mistral",
    title="Mistral AI",
    docs="https://docs.mistral.ai/api/",
    endpoints=openai_compatible("https://api.mistral.ai/v1", "openai_embeddings"),
    probe=OPENAI_PROBE,
    asks_usage=False,
    # the id that support asks for
    reply_headers=frozenset({"mistral-correlation-id"}),
    price_list="mistral",
    keys_url="https://console.mistral.ai/api-keys",
    usage_url="https://console.mistral.ai/usage",
    price_url="https://mistral.ai/pricing",
)
