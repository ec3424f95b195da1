"""Zhipu AI (GLM). The last chunk of a stream carries usage; no models endpoint is documented."""

from xairouter.domain.failures import Cause, Sign
from xairouter.domain.said import Mark
from xairouter.providers.interface import SIGNS, Provider

ZHIPU = Provider(
    name="zhipu",
    title="Zhipu AI (GLM)",
    docs="https://docs.bigmodel.cn/cn/guide/develop/openai/introduction",
    # docs: …/api/error-codes
    signs=(Sign(Cause.OUT_OF_CREDIT, Mark(429, "1113")), *SIGNS),
    endpoints={
        "openai_chat": "https://open.bigmodel.cn/api/paas/v4",
        "openai_embeddings": "https://open.bigmodel.cn/api/paas/v4",
        "anthropic_messages": "https://open.bigmodel.cn/api/anthropic",
    },
    asks_usage=False,
    price_list="zhipuai",
    keys_url="https://open.bigmodel.cn/usercenter/apikeys",
    usage_url="https://open.bigmodel.cn/finance/overview",
    price_url="https://open.bigmodel.cn/pricing",
)
