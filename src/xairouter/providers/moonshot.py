"""Moonshot AI (Kimi)."""

from xairouter.domain.failures import Cause, Sign
from xairouter.domain.said import Mark
from xairouter.providers.interface import BEARER, OPENAI_PROBE, SIGNS, Facts, Provider

MOONSHOT = Provider(
    name="moonshot",
    title="Moonshot AI (Kimi)",
    docs="https://platform.moonshot.ai/docs/introduction",
    # docs: …/docs/api/chat, error codes
    signs=(Sign(Cause.OUT_OF_CREDIT, Mark(429, "exceeded_current_quota_error")), *SIGNS),
    endpoints={
        "openai_chat": "https://api.moonshot.ai/v1",
        "anthropic_messages": "https://api.moonshot.ai/anthropic",
    },
    auth={"anthropic_messages": BEARER},
    # docs: …/docs/api/chat: max_tokens is deprecated, and taken
    output_fields={"openai_chat": ("max_completion_tokens", "max_tokens")},
    probe=OPENAI_PROBE,
    # docs: …/docs/api/misc
    facts=(Facts("openai_chat", "/users/me/balance", {"balance": "data.available_balance"}),),
    price_list="moonshotai",
    keys_url="https://platform.moonshot.ai/console/api-keys",
    usage_url="https://platform.moonshot.ai/console/account",
    price_url="https://platform.moonshot.ai/docs/pricing/chat",
)
