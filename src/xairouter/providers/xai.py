"""xAI."""

from xairouter.domain.failures import Cause, Sign
from xairouter.domain.said import Mark
from xairouter.providers.interface import OPENAI_PROBE, SIGNS, Facts, Provider, openai_compatible

XAI = Provider(
    name="xai",
    title="xAI",
    docs="https://docs.x.ai/docs/api-reference",
    # docs: …/docs/key-information/debugging
    signs=(
        *(
            Sign(Cause.OUT_OF_CREDIT, Mark(status, message=sentence))
            for status in (403, 429)
            for sentence in (
                "Your team …used all available credits…",
                "Your newly created team…credits…",
                "You have run out of credits…",
            )
        ),
        *SIGNS,
    ),
    endpoints=openai_compatible("https://api.x.ai/v1", "openai_responses"),
    # docs: …/api-reference (chat): max_tokens is deprecated, and taken
    output_fields={"openai_chat": ("max_tokens", "max_completion_tokens")},
    # max_completion_tokens: “visible output tokens”
    thinks_beside=frozenset({"openai_chat"}),
    probe=OPENAI_PROBE,
    # docs: …/api-reference (GET /v1/api-key)
    facts=(
        Facts(
            "openai_chat",
            "/api-key",
            {
                "key": "name",
                "team": "team_id",
                "may": "acls",
                "blocked": "api_key_blocked",
                "disabled": "api_key_disabled",
            },
        ),
    ),
    # latency, and whether the reply is kept there
    reply_headers=frozenset({"x-metrics-*", "x-data-retention", "x-zero-data-retention"}),
    price_list="x-ai",
    keys_url="https://console.x.ai/",
    usage_url="https://console.x.ai/",
    price_url="https://docs.x.ai/docs/models",
)
