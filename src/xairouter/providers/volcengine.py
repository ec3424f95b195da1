"""Volcengine Ark (Doubao)."""

from xairouter.providers.interface import OPENAI_PROBE, Provider, openai_compatible

VOLCENGINE = Provider(
    name="volcengine",
    title="Volcengine Ark (Doubao)",
    docs="https://www.volcengine.com/docs/82379/1330626",
    endpoints=openai_compatible(
        "https://ark.cn-beijing.volces.com/api/v3",
        "openai_responses",
        "openai_embeddings",
    ),
    # docs: …/docs/82379/1494384 (chat)
    output_fields={"openai_chat": ("max_tokens", "max_completion_tokens")},
    # max_tokens bounds the answer alone
    thinks_beside=frozenset({"openai_chat"}),
    probe=OPENAI_PROBE,
    keys_url="https://console.volcengine.com/ark/region:ark+cn-beijing/apiKey",
    usage_url="https://console.volcengine.com/finance/bill/overview/",
    price_url="https://www.volcengine.com/docs/82379/1544106",
)
