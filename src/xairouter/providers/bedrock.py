"""Amazon Bedrock (OpenAI-compatible).

The address names a region: https://bedrock-runtime.REGION.amazonaws.com/openai/v1 (give it as
`endpoints`). A Bedrock API key is sent as bearer token.
"""

from xairouter.providers.interface import Provider

BEDROCK = Provider(
    name="bedrock",
    title="Amazon Bedrock (OpenAI-compatible)",
    docs="https://docs.aws.amazon.com/bedrock/latest/userguide/inference-chat-completions.html",
    # the id that support asks for
    reply_headers=frozenset({"x-amzn-requestid"}),
    price_list="aws",
    keys_url="https://console.aws.amazon.com/bedrock/home#/api-keys",
    usage_url="https://console.aws.amazon.com/billing/home",
    price_url="https://aws.amazon.com/bedrock/pricing/",
)
