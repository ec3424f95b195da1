"""Ready-made lines for the clients that people use, filled with an address and a key."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Snippet:
    """What to paste where: ``{url}`` and ``{key}`` are filled in."""

    title: str
    text: str


DEMO_MODEL = "gpt-4o-mini"
"""What the lines name where nothing is known yet."""

SNIPPETS: tuple[Snippet, ...] = (
    Snippet(
        "curl",
        """curl {url}/v1/chat/completions -H "Authorization: Bearer {key}" \\
  -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'""",
    ),
    Snippet(
        "openai (Python)",
        """from openai import OpenAI
client = OpenAI(base_url="{url}/v1", api_key="{key}")""",
    ),
    Snippet(
        "anthropic (Python)",
        """from anthropic import Anthropic
client = Anthropic(base_url="{url}", api_key="{key}")""",
    ),
    Snippet(
        "google-genai (Python)",
        """from google import genai
from google.genai import types
client = genai.Client(api_key="{key}", http_options=types.HttpOptions(base_url="{url}"))""",
    ),
    Snippet(
        "Claude Code",
        """export ANTHROPIC_BASE_URL={url}
export ANTHROPIC_AUTH_TOKEN={key}
claude""",
    ),
    Snippet(
        "Codex CLI (~/.codex/config.toml)",
        """model_provider = "xai-router"
[model_providers.xai-router]
name = "XAI Router"
base_url = "{url}/v1"
env_key = "XAI_KEY"      # export XAI_KEY={key}
wire_api = "responses\"""",
    ),
    Snippet(
        "Gemini CLI",
        """export GOOGLE_GEMINI_BASE_URL={url}
export GEMINI_API_KEY={key}
gemini""",
    ),
    Snippet(
        "LangChain",
        """from langchain_openai import ChatOpenAI
model = ChatOpenAI(base_url="{url}/v1", api_key="{key}", model="{model}")""",
    ),
)


def filled(url: str, key: str, model: str = DEMO_MODEL) -> list[Snippet]:
    """The snippets with an address, a key and a model in place."""
    return [Snippet(one.title, one.text.format(url=url, key=key, model=model)) for one in SNIPPETS]
