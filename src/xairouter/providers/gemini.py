"""Google Gemini (AI Studio keys). Vertex AI, which needs OAuth, is not supported."""

from xairouter.domain.said import Mark
from xairouter.providers.interface import Probe, Provider

GEMINI = Provider(
    name="gemini",
    title="Google Gemini",
    docs="https://ai.google.dev/api",
    endpoints={
        "gemini_generate": "https://generativelanguage.googleapis.com",
        "openai_chat": "https://generativelanguage.googleapis.com/v1beta/openai",
        "openai_embeddings": "https://generativelanguage.googleapis.com/v1beta/openai",
    },
    probe=Probe(
        "gemini_generate",
        "/v1beta/models?pageSize=1000",
        items="models",
        name="name",
        strip="models/",
    ),
    # A rejected key is a 400 with this reason; a revoked or leaked one a 403 that says so.
    rejections=(
        Mark(400, "API_KEY_INVALID"),
        Mark(401),
        Mark(403, "API_KEY_INVALID"),
        Mark(403, "CONSUMER_SUSPENDED"),
        Mark(403, message="Your API key…"),
        Mark(403, message="API key…"),
    ),
    # docs: …/gemini-api/docs/billing, “Am I charged for failed requests?”
    fails_free=True,
    # which service tier answered
    reply_headers=frozenset({"x-gemini-service-tier"}),
    price_list="google",
    keys_url="https://aistudio.google.com/apikey",
    usage_url="https://aistudio.google.com/usage",
    price_url="https://ai.google.dev/gemini-api/docs/pricing",
)
