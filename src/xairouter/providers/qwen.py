"""Alibaba Cloud Model Studio (Qwen)."""

from xairouter.providers.interface import OPENAI_PROBE, Provider

QWEN = Provider(
    name="qwen",
    title="Alibaba Cloud Model Studio (Qwen)",
    docs="https://www.alibabacloud.com/help/en/model-studio/compatibility-of-openai-with-dashscope",
    endpoints={
        "openai_chat": "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        "openai_completions": "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        "openai_embeddings": "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        "anthropic_messages": "https://dashscope-intl.aliyuncs.com/apps/anthropic",
    },
    # docs: …/model-studio/deep-thinking: thinking_budget alone bounds it
    thinks_beside=frozenset({"openai_chat"}),
    probe=OPENAI_PROBE,
    keys_url="https://modelstudio.console.alibabacloud.com/",
    usage_url="https://usercenter2-intl.console.alibabacloud.com/billing",
    price_url="https://www.alibabacloud.com/help/en/model-studio/model-pricing",
)
