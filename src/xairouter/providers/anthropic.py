"""Anthropic. Speaks its own dialect and, through a compatibility layer, OpenAI's chat."""

from xairouter.domain.failures import Cause, Sign
from xairouter.domain.said import Mark
from xairouter.providers.interface import ADMIN_WARNING, SIGNS, KeyMark, Probe, Provider

ANTHROPIC = Provider(
    name="anthropic",
    title="Anthropic",
    docs="https://docs.anthropic.com/en/api/overview",
    endpoints={
        "anthropic_messages": "https://api.anthropic.com",
        "openai_chat": "https://api.anthropic.com/v1",
    },
    forward_headers=frozenset({"anthropic-dangerous-direct-browser-access"}),
    # docs: …/en/api/openai-sdk: both are fully supported
    output_fields={"openai_chat": ("max_tokens", "max_completion_tokens")},
    probe=Probe("anthropic_messages", "/v1/models?limit=1000"),
    # support.claude.com: How will I be billed for Claude API use?
    fails_free=True,
    # docs: …/en/api/rate-limits, …/en/api/administration-api
    account_headers={"organization": "anthropic-organization-id"},
    key_marks=(KeyMark(("sk-ant-admin",), ADMIN_WARNING),),
    # docs: …/en/api/rate-limits, long context
    signs=(
        Sign(
            Cause.TOO_LARGE,
            Mark(429, message="Extra usage is required for long context requests…"),
        ),
        *SIGNS,
    ),
    price_list="anthropic",
    keys_url="https://console.anthropic.com/settings/keys",
    usage_url="https://console.anthropic.com/usage",
    price_url="https://www.anthropic.com/pricing#api",
)
