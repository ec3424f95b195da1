"""Azure OpenAI.

Each customer has an address: https://RESOURCE.openai.azure.com/openai/v1 (give it as
`endpoints`).
"""

from xairouter.providers.interface import API_KEY, OPENAI_PROBE, Provider

AZURE_OPENAI = Provider(
    name="azure_openai",
    title="Azure OpenAI",
    docs="https://learn.microsoft.com/en-us/azure/ai-foundry/openai/api-version-lifecycle",
    auth={
        "openai_chat": API_KEY,
        "openai_completions": API_KEY,
        "openai_responses": API_KEY,
        "openai_embeddings": API_KEY,
    },
    probe=OPENAI_PROBE,
    # docs: …/openai/how-to/provisioned-get-started: the id that support asks for, region, tier
    reply_headers=frozenset(
        {"apim-request-id", "x-ms-region", "azureml-model-session", "azureai-*"}
    ),
    # docs: …/foundry/openai/latest; its models with reasoning refuse max_tokens
    output_fields={"openai_chat": ("max_completion_tokens", "max_tokens")},
    price_list="azure",
    keys_url="https://ai.azure.com/",
    usage_url="https://portal.azure.com/",
    price_url="https://azure.microsoft.com/en-us/pricing/details/cognitive-services/openai-service/",
)
