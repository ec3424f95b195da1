"""MiniMax."""

from xairouter.providers.interface import Provider

MINIMAX = Provider(
    name="minimax",
    title="MiniMax",
    docs="https://platform.minimax.io/docs/api-reference/text-openai-api",
    endpoints={
        "openai_chat": "https://api.minimax.io/v1",
        "anthropic_messages": "https://api.minimax.io/anthropic",
    },
    price_list="minimax",
    keys_url="https://platform.minimax.io/user-center/basic-information/interface-key",
    usage_url="https://platform.minimax.io/user-center/payment/balance",
    price_url="https://platform.minimax.io/docs/guides/pricing",
)
