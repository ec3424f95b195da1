"""Fireworks AI."""

from xairouter.providers.interface import OPENAI_PROBE, Provider, openai_compatible

FIREWORKS = Provider(
    name="fireworks",
    title="Fireworks AI",
    docs="https://docs.fireworks.ai/tools-sdks/openai-compatibility",
    endpoints=openai_compatible(
        "https://api.fireworks.ai/inference/v1",
        "openai_completions",
        "openai_responses",
        "openai_embeddings",
    ),
    probe=OPENAI_PROBE,
    # docs: …/faq-new/models-inference/how-to-get-performance-metrics-for-streaming-responses
    reply_headers=frozenset({"fireworks-*"}),
    price_list="fireworks",
    keys_url="https://app.fireworks.ai/settings/users/api-keys",
    usage_url="https://app.fireworks.ai/account/billing",
    price_url="https://fireworks.ai/pricing",
)
