"""xAI."""

from xairouter.domain.failures import OUT_OF_CREDIT, Sign
from xairouter.providers.interface import OPENAI_PROBE, SIGNS, Facts, Provider, openai_compatible

XAI = Provider(
    name="xai",
    title="xAI",
    docs="https://docs.x.ai/docs/api-reference",
    # docs: …/docs/key-information/debugging
    signs=(Sign(OUT_OF_CREDIT, 403, b"credits"), Sign(OUT_OF_CREDIT, 429, b"credits"), *SIGNS),
    endpoints=openai_compatible("https://api.x.ai/v1", "openai_responses"),
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
    price_list="x-ai",
    keys_url="https://console.x.ai/",
    usage_url="https://console.x.ai/",
    price_url="https://docs.x.ai/docs/models",
)
