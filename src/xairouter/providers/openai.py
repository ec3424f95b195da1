"""OpenAI."""

from xairouter.providers.interface import (
    ADMIN_WARNING,
    OPENAI_PROBE,
    KeyMark,
    Provider,
    openai_compatible,
)

OPENAI = Provider(
    name="openai",
    title="OpenAI",
    docs="https://platform.openai.com/docs/api-reference",
    endpoints=openai_compatible(
        "https://api.openai.com/v1",
        "openai_completions",
        "openai_responses",
        "openai_embeddings",
    ),
    # docs: …/api-reference/chat/create: max_tokens is refused by reasoning models
    output_fields={"openai_chat": ("max_completion_tokens", "max_tokens")},
    probe=OPENAI_PROBE,
    # docs: …/api-reference/authentication, …/admin-api-keys
    account_headers={"organization": "openai-organization", "project": "openai-project"},
    key_marks=(
        KeyMark(("sk-admin-",), ADMIN_WARNING),
        KeyMark(
            ("sk-",),
            "This is a user's key of the old kind: it may do in every project what its user may. "
            "Put a project's key here (sk-proj-…), restricted to models.",
            but_not=("sk-proj-", "sk-svcacct-", "sk-admin-"),
        ),
    ),
    # what Codex reads of a reply, and repeats (x-codex-turn-state)
    reply_headers=frozenset(
        {"x-codex-*", "x-oai-request-id", "x-models-etag", "x-reasoning-included"}
    ),
    price_list="openai",
    keys_url="https://platform.openai.com/api-keys",
    usage_url="https://platform.openai.com/usage",
    price_url="https://openai.com/api/pricing/",
)
