"""LM Studio."""

from xairouter.providers.interface import OPENAI_PROBE, Provider, openai_compatible

LMSTUDIO = Provider(
    name="lmstudio",
    title="LM Studio",
    docs="https://lmstudio.ai/docs/developer/openai-compat",
    endpoints=openai_compatible(
        "http://127.0.0.1:1234/v1",
        "openai_completions",
        "openai_responses",
        "openai_embeddings",
    ),
    probe=OPENAI_PROBE,
    is_local=True,
)
