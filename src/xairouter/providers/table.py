"""The table of providers: one row a file, in the order in which the console lists them."""

from collections.abc import Iterable, Mapping

from xairouter.domain.calls import Declared, Route
from xairouter.providers.anthropic import ANTHROPIC
from xairouter.providers.azure_openai import AZURE_OPENAI
from xairouter.providers.bedrock import BEDROCK
from xairouter.providers.cerebras import CEREBRAS
from xairouter.providers.cohere import COHERE
from xairouter.providers.deepseek import DEEPSEEK
from xairouter.providers.fireworks import FIREWORKS
from xairouter.providers.gemini import GEMINI
from xairouter.providers.github_models import GITHUB_MODELS
from xairouter.providers.groq import GROQ
from xairouter.providers.interface import DEFAULT_AUTH, Probe, Provider
from xairouter.providers.llama_cpp import LLAMA_CPP
from xairouter.providers.lmstudio import LMSTUDIO
from xairouter.providers.minimax import MINIMAX
from xairouter.providers.mistral import MISTRAL
from xairouter.providers.moonshot import MOONSHOT
from xairouter.providers.nvidia import NVIDIA
from xairouter.providers.ollama import OLLAMA
from xairouter.providers.openai import OPENAI
from xairouter.providers.openrouter import OPENROUTER
from xairouter.providers.perplexity import PERPLEXITY
from xairouter.providers.qwen import QWEN
from xairouter.providers.siliconflow import SILICONFLOW
from xairouter.providers.together import TOGETHER
from xairouter.providers.vllm import VLLM
from xairouter.providers.volcengine import VOLCENGINE
from xairouter.providers.xai import XAI
from xairouter.providers.zhipu import ZHIPU

PROVIDERS: Mapping[str, Provider] = {
    provider.name: provider
    for provider in (
        OPENAI,
        ANTHROPIC,
        GEMINI,
        DEEPSEEK,
        MISTRAL,
        GROQ,
        XAI,
        OPENROUTER,
        TOGETHER,
        FIREWORKS,
        CEREBRAS,
        PERPLEXITY,
        COHERE,
        MOONSHOT,
        ZHIPU,
        QWEN,
        MINIMAX,
        SILICONFLOW,
        VOLCENGINE,
        NVIDIA,
        GITHUB_MODELS,
        AZURE_OPENAI,
        BEDROCK,
        OLLAMA,
        VLLM,
        LLAMA_CPP,
        LMSTUDIO,
    )
}

CUSTOM = Provider(
    name="custom",
    title="Any compatible server",
    docs="docs/how-to/add-a-provider.md",
)
"""What is assumed of an endpoint that no row describes: each dialect's own habits."""


def provider_row(name: str) -> Provider:
    """The row of a provider, or the assumptions for a custom endpoint."""
    return PROVIDERS.get(name, CUSTOM)


def keep_maximum(routes: Iterable[Route], declared: Iterable[Declared]) -> bool:
    """Whether every route's provider takes its maximum of output from one of the fields that a request
    declares it in."""
    named = {name for name, value, _ in declared if value}
    for route in routes:
        if named.isdisjoint(provider_row(route.key.provider).bounded_by(route.dialect)):
            return False
    return True


def think_beside(routes: Iterable[Route]) -> bool:
    """Whether a maximum of output leaves out what a model thinks at the provider of one of the routes."""
    return any(route.dialect in provider_row(route.key.provider).thinks_beside for route in routes)


def probe_for(provider: Provider, endpoints: Mapping[str, str]) -> Probe | None:
    """The probe of a row if it fits the endpoints, else the habit of a dialect among them."""
    if provider is not CUSTOM:
        return provider.probe if provider.probe and provider.probe.dialect in endpoints else None
    for dialect, probe in _HABITS.items():
        if dialect in endpoints:
            return probe
    return None


_HABITS: Mapping[str, Probe] = {
    **{name: Probe(name) for name in DEFAULT_AUTH if name.startswith("openai_")},
    "anthropic_messages": Probe("anthropic_messages", "/v1/models?limit=1000"),
    "gemini_generate": Probe(
        "gemini_generate",
        "/v1beta/models?pageSize=1000",
        items="models",
        name="name",
        strip="models/",
    ),
}
