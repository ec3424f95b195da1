"""SiliconFlow."""

from xairouter.domain.failures import Cause, Sign
from xairouter.domain.said import Mark
from xairouter.providers.interface import OPENAI_PROBE, SIGNS, Facts, Provider, openai_compatible

SILICONFLOW = Provider(
    name="siliconflow",
    title="SiliconFlow",
    docs="https://docs.siliconflow.com/en/api-reference/chat-completions/chat-completions",
    # docs: …/faqs/error-code
    signs=(
        Sign(Cause.OUT_OF_CREDIT, Mark(403, "30001")),
        Sign(
            Cause.OUT_OF_CREDIT, Mark(403, message="Sorry, your account balance is insufficient…")
        ),
        *SIGNS,
    ),
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
    # docs: …/faqs/error-code: the id that support asks for
    reply_headers=frozenset({"x-siliconcloud-trace-id"}),
    keys_url="https://cloud.siliconflow.com/account/ak",
    usage_url="https://cloud.siliconflow.com/bills",
    price_url="https://www.siliconflow.com/pricing",
)
