"""vLLM."""

from xairouter.providers.interface import BEARER, OPENAI_PROBE, Provider

VLLM = Provider(
    name="vllm",
    title="vLLM",
    docs="https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
    endpoints={
        "openai_chat": "http://127.0.0.1:8000/v1",
        "openai_completions": "http://127.0.0.1:8000/v1",
        "openai_responses": "http://127.0.0.1:8000/v1",
        "openai_embeddings": "http://127.0.0.1:8000/v1",
        "anthropic_messages": "http://127.0.0.1:8000",
    },
    auth={"anthropic_messages": BEARER},
    # docs: …/serving/openai_compatible_server: both, the second wins
    output_fields={"openai_chat": ("max_tokens", "max_completion_tokens")},
    probe=OPENAI_PROBE,
    is_local=True,
)
