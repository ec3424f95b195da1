"""llama.cpp server. Its default port is this router's too; move one of the two."""

from xairouter.providers.interface import OPENAI_PROBE, Provider, openai_compatible

LLAMA_CPP = Provider(
    name="llama_cpp",
    title="llama.cpp server",
    docs="https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
    endpoints=openai_compatible(
        "http://127.0.0.1:8080/v1",
        "openai_completions",
        "openai_embeddings",
    ),
    # source: tools/server/server-task.cpp: n_predict wins over the others
    output_fields={
        "openai_chat": ("max_tokens", "max_completion_tokens", "n_predict"),
        "openai_completions": ("max_tokens", "max_completion_tokens", "n_predict"),
    },
    probe=OPENAI_PROBE,
    is_local=True,
)
