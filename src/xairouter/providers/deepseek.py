"""DeepSeek. Speaks OpenAI's chat and Anthropic's messages."""

from xairouter.providers.interface import OPENAI_PROBE, Facts, Provider

DEEPSEEK = Provider(
    name="deepseek",
    title="DeepSeek",
    docs="https://api-docs.deepseek.com/",
    endpoints={
        "openai_chat": "https://api.deepseek.com",
        "anthropic_messages": "https://api.deepseek.com/anthropic",
    },
    probe=OPENAI_PROBE,
    # docs: …/api/get-user-balance
    facts=(
        Facts(
            "openai_chat",
            "/user/balance",
            {
                "balance": "balance_infos.0.total_balance",
                "currency": "balance_infos.0.currency",
                "usable": "is_available",
            },
        ),
    ),
    # the id that support asks for
    reply_headers=frozenset({"x-ds-trace-id"}),
    price_list="deepseek",
    keys_url="https://platform.deepseek.com/api_keys",
    usage_url="https://platform.deepseek.com/usage",
    price_url="https://api-docs.deepseek.com/quick_start/pricing",
)
