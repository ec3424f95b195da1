"""Cohere (compatibility API). The compatibility API has no models endpoint, hence no probe."""

from xairouter.providers.interface import Provider, openai_compatible

COHERE = Provider(
    name="cohere",
    title="Cohere (compatibility API)",
    docs="https://docs.cohere.com/docs/compatibility-api",
    endpoints=openai_compatible("https://api.cohere.ai/compatibility/v1", "openai_embeddings"),
    # docs: …/docs/errors: the id that support asks for; warnings of deprecated models
    reply_headers=frozenset({"x-debug-trace-id", "x-api-warning", "num-tokens", "num-chars"}),
    price_list="cohere",
    keys_url="https://dashboard.cohere.com/api-keys",
    usage_url="https://dashboard.cohere.com/billing",
    price_url="https://cohere.com/pricing",
)
