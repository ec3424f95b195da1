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
    probe=OPENAI_PROBE,
    is_local=True,
)
