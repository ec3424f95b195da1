"""Perplexity.

There is no models endpoint at this base URL, hence no probe; every chunk carries usage.
"""

from xairouter.providers.interface import Provider, openai_compatible

PERPLEXITY = Provider(
    name="perplexity",
    title="Perplexity",
    docs="https://docs.perplexity.ai/guides/chat-completions-guide",
    endpoints=openai_compatible("https://api.perplexity.ai"),
    asks_usage=False,
    price_list="perplexity",
    keys_url="https://www.perplexity.ai/account/api/keys",
    usage_url="https://www.perplexity.ai/account/api/billing",
    price_url="https://docs.perplexity.ai/getting-started/pricing",
)
