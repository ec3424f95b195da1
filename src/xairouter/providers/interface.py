"""What the router knows of a provider. Data only; every value has its source in ``docs``."""

from collections.abc import Mapping
from dataclasses import dataclass, field

BEARER, X_API_KEY, X_GOOG_API_KEY, API_KEY = "bearer", "x-api-key", "x-goog-api-key", "api-key"

DEFAULT_AUTH: Mapping[str, str] = {
    "openai_chat": BEARER,
    "openai_completions": BEARER,
    "openai_responses": BEARER,
    "openai_embeddings": BEARER,
    "anthropic_messages": X_API_KEY,
    "gemini_generate": X_GOOG_API_KEY,
}
"""How each dialect's own provider takes its key; a provider's row may differ per dialect."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A reply that means “this provider key is not accepted”: a status and, if need be, a mark
    that its body must contain."""

    status: int
    mark: bytes = b""


@dataclass(frozen=True, slots=True)
class Probe:
    """A request that costs no tokens and lists models: which dialect's endpoint and key header to
    use, the path behind the base URL, and the field of each listed item that names the model."""

    dialect: str
    suffix: str = "/models"
    items: str = "data"
    name: str = "id"
    strip: str = ""


LIMIT_HEADERS = ("x-ratelimit-limit-", "anthropic-ratelimit-")


@dataclass(frozen=True, slots=True)
class Facts:
    """A further request that costs nothing and tells of the key or its account.

    ``fields`` maps what is shown → the dotted path in the reply (list positions as numbers).
    """

    dialect: str
    suffix: str
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider.

    ``endpoints`` maps dialect → base URL exactly as that dialect's official SDK takes it; empty
    where each customer has an address of their own. ``asks_usage`` – streams report usage only
    when asked (``stream_options``); False where they always do, or refuse the field.
    ``facts`` are asked after the probe; ``account_headers`` maps what is shown → the probe's reply
    header that says it; ``limit_headers`` are prefixes of reply headers that state limits.
    ``admin_marks`` are the beginnings of keys that administer an account and should not be here.
    ``price_list`` names the provider in the price list. ``keys_url`` is where a user makes and
    revokes keys; ``docs`` is where the values come from.
    """

    name: str
    title: str
    docs: str
    endpoints: Mapping[str, str] = field(default_factory=dict)
    auth: Mapping[str, str] = field(default_factory=dict)
    forward_headers: frozenset[str] = frozenset()
    probe: Probe | None = None
    facts: tuple[Facts, ...] = ()
    account_headers: Mapping[str, str] = field(default_factory=dict)
    limit_headers: tuple[str, ...] = LIMIT_HEADERS
    admin_marks: tuple[str, ...] = ()
    asks_usage: bool = True
    rejections: tuple[Rejection, ...] = (Rejection(401),)
    price_list: str | None = None
    keys_url: str | None = None
    usage_url: str | None = None
    price_url: str | None = None
    is_local: bool = False

    def auth_for(self, dialect: str) -> str:
        """The auth scheme for a dialect's endpoint."""
        return self.auth.get(dialect) or DEFAULT_AUTH[dialect]


OPENAI_PROBE = Probe("openai_chat")


def openai_compatible(base: str, *dialects: str) -> Mapping[str, str]:
    """Endpoints of a provider whose OpenAI dialects share one base URL."""
    return dict.fromkeys(("openai_chat", *dialects), base)
