"""Together AI."""

from xairouter.providers.interface import OPENAI_PROBE, Provider, openai_compatible

TOGETHER = Provider(
    name="together",
    title="Together AI",
    docs="https://docs.together.ai/docs/openai-api-compatibility",
    endpoints=openai_compatible(
        "https://api.together.xyz/v1",
        "openai_completions",
        "openai_embeddings",
    ),
    probe=OPENAI_PROBE,
    price_list="together",
    keys_url="https://api.together.ai/settings/api-keys",
    usage_url="https://api.together.ai/settings/billing",
    price_url="https://www.together.ai/pricing",
)
