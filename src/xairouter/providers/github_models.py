"""GitHub Models. The catalogue of models lives at another path than inference, hence no probe."""

from xairouter.providers.interface import Provider, openai_compatible

GITHUB_MODELS = Provider(
    name="github_models",
    title="GitHub Models",
    docs="https://docs.github.com/en/rest/models/inference",
    endpoints=openai_compatible("https://models.github.ai/inference", "openai_embeddings"),
    keys_url="https://github.com/settings/personal-access-tokens",
    usage_url="https://github.com/settings/billing",
    price_url="https://docs.github.com/en/billing/concepts/product-billing/github-models",
)
