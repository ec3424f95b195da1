"""Ollama."""

from xairouter.providers.interface import OPENAI_PROBE, Provider, openai_compatible

OLLAMA = Provider(
    name="ollama",
    title="Ollama",
    docs="https://docs.ollama.com/api/openai-compatibility",
    endpoints=openai_compatible(
        "http://127.0.0.1:11434/v1",
        "openai_completions",
        "openai_responses",
        "openai_embeddings",
    ),
    probe=OPENAI_PROBE,
    is_local=True,
)
