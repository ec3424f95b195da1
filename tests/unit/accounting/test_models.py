"""Which models may think without a word that passes."""

from tests.rows import for_each
from xairouter.accounting.models import thinks


@for_each(
    ("model", "may_think"),
    [
        *((name, True) for name in ("o1", "o3-mini", "openai/o4-mini", "gpt-5", "gpt-5.1-codex")),
        *((name, True) for name in ("gemini-2.5-pro", "google/gemini-3-flash", "x-ai/grok-4")),
        *((name, True) for name in ("gpt-oss-120b", "deepseek-reasoner", "kimi-k2-thinking")),
        *((name, True) for name in ("qwen3-max", "qwen-plus-latest", "doubao-seed-1-6-250615")),
        *((name, False) for name in ("qwen2.5-72b-instruct", "qwen-vl-ocr", "doubao-pro-32k")),
        *((name, False) for name in ("gpt-4o", "gpt-4.1-mini", "gpt-3.5-turbo", "gemini-1.5-pro")),
        *((name, False) for name in ("gemini-2.0-flash", "llama-3.3-70b", "mistral-large")),
    ],
)
def test_names_tell_which_models_think(model: str, may_think: bool):
    assert thinks(model) is may_think
