"""OpenAI."""

from xairouter.providers.interface import OPENAI_PROBE, Provider, openai_compatible

OPENAI = Provider(
    name="openai",
    title="OpenAI",
    docs="https://platform.openai.com/docs/api-reference",
    endpoints=openai_compatible(
        "https://api.openai.com/v1",
        "openai_completions",
        "openai_responses",
        "openai_embeddings",
    ),
    probe=OPENAI_PROBE,
    # docs: …/api-reference/authentication, …/admin-api-keys
    account_headers={"organization": "openai-organization", "project": "openai-project"},
    admin_marks=("sk-admin-",),
    price_list="openai",
    keys_url="https://platform.openai.com/api-keys",
    usage_url="https://platform.openai.com/usage",
    price_url="https://openai.com/api/pricing/",
)
