"""SiliconFlow."""

from xairouter.domain.failures import OUT_OF_CREDIT, Sign
from xairouter.providers.interface import OPENAI_PROBE, SIGNS, Facts, Provider, openai_compatible

SILICONFLOW = Provider(
    name="siliconflow",
    title="SiliconFlow",
    docs="https://docs.siliconflow.com/en/api-reference/chat-completions/chat-completions",
    # docs: …/faqs/error-code
    signs=(Sign(OUT_OF_CREDIT, 403, b"balance"), *SIGNS),
    endpoints=openai_compatible(
        "https://api.siliconflow.com/v1",
        "openai_completions",
        "openai_embeddings",
    ),
    probe=OPENAI_PROBE,
    # docs: …/api-reference/userinfo/get-user-info
    facts=(
        Facts(
            "openai_chat",
            "/user/info",
            {"account": "data.name", "balance": "data.totalBalance", "status": "data.status"},
        ),
    ),
    keys_url="https://cloud.siliconflow.com/account/ak",
    usage_url="https://cloud.siliconflow.com/bills",
    price_url="https://www.siliconflow.com/pricing",
)
