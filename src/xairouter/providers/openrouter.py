"""OpenRouter."""

from xairouter.domain.failures import Cause, Sign
from xairouter.domain.said import Mark
from xairouter.providers.interface import (
    ADMIN_WARNING,
    SIGNS,
    Facts,
    Probe,
    Provider,
    openai_compatible,
)

OPENROUTER = Provider(
    name="openrouter",
    title="OpenRouter",
    docs="https://openrouter.ai/docs/api-reference/overview",
    endpoints=openai_compatible(
        "https://openrouter.ai/api/v1",
        "openai_completions",
        "openai_responses",
        "openai_embeddings",
    ),
    # docs: …/docs/api-reference/parameters, …/chat-completion
    output_fields={"openai_chat": ("max_tokens", "max_completion_tokens")},
    forward_headers=frozenset({"http-referer", "x-title"}),
    probe=Probe("openai_chat", "/models/user"),  # /models answers without a key
    # docs: …/docs/api-reference/limits
    facts=(
        Facts(
            "openai_chat",
            "/key",
            {
                "key": "data.label",
                "credit_limit": "data.limit",
                "credit_left": "data.limit_remaining",
                "used": "data.usage",
                "free_tier": "data.is_free_tier",
            },
            warnings={"data.is_provisioning_key": ADMIN_WARNING},
        ),
    ),
    # docs: …/docs/api-reference/limits: a request is held against the credit for all that it may use
    signs=(
        Sign(
            Cause.TOO_LARGE,
            Mark(402, message="This request requires more credits, or fewer max_tokens…"),
        ),
        Sign(Cause.TOO_LARGE, Mark(402, message="Prompt tokens limit exceeded: …")),
        *SIGNS,
    ),
    # docs: …/docs/api-reference/get-a-generation: the id of the call
    reply_headers=frozenset({"x-generation-id"}),
    price_list="openrouter",
    keys_url="https://openrouter.ai/settings/keys",
    usage_url="https://openrouter.ai/activity",
    price_url="https://openrouter.ai/models",
)
