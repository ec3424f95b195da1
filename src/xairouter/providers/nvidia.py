"""NVIDIA NIM."""

from xairouter.providers.interface import OPENAI_PROBE, Provider, openai_compatible

NVIDIA = Provider(
    name="nvidia",
    title="NVIDIA NIM",
    docs="https://docs.api.nvidia.com/nim/reference/llm-apis",
    endpoints=openai_compatible(
        "https://integrate.api.nvidia.com/v1",
        "openai_completions",
        "openai_embeddings",
    ),
    probe=OPENAI_PROBE,
    keys_url="https://build.nvidia.com/settings/api-keys",
    usage_url="https://build.nvidia.com/",
    price_url="https://build.nvidia.com/",
)
