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
    price_list="azure",
    keys_url="https://ai.azure.com/",
    usage_url="https://portal.azure.com/",
    price_url="https://azure.microsoft.com/en-us/pricing/details/cognitive-services/openai-service/",
)
