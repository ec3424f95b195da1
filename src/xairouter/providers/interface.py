"""What the router knows of a provider. Data only; every value has its source in ``docs``."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from xairouter.domain.failures import Cause, Sign
from xairouter.domain.said import Mark

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

OUTPUT_FIELDS: Mapping[str, tuple[str, ...]] = {
    "openai_chat": ("max_tokens",),
    "openai_completions": ("max_tokens",),
    "openai_responses": ("max_output_tokens",),
    "anthropic_messages": ("max_tokens",),
    "gemini_generate": ("maxOutputTokens", "max_output_tokens"),
}
"""The request's fields that bound output at every server of a dialect. What a provider takes besides
stands in its row; where none does, no other field bounds anything: most servers ignore what they do
not know."""

MISSING_SCOPES = "You have insufficient permissions for this operation. Missing scopes: …"
"""OpenAI's 401 to a key that it knows, for something that this key may not do."""

SIGNS = (
    # OpenAI's error codes guide, and the many that copy its words.
    Sign(Cause.OUT_OF_CREDIT, Mark(429, "insufficient_quota")),
    *(
        Sign(Cause.OUT_OF_CREDIT, Mark(status, word))
        for word in ("billing_hard_limit_reached", "billing_not_active")
        for status in (400, 403, 429)
    ),
    Sign(
        Cause.OUT_OF_CREDIT,
        Mark(400, message="Your credit balance is too low to access the …purchase credits."),
    ),
    # OpenAI, of one request beyond what its rate limit lets through at once: “Limit …, Requested …”.
    Sign(Cause.TOO_LARGE, Mark(429, message="Request too large for …")),
    Sign(Cause.ABSENT, Mark(401, message=MISSING_SCOPES)),
    Sign(Cause.ABSENT, Mark(404, "model_not_found")),
    Sign(Cause.ABSENT, Mark(404, "not_found_error")),
    Sign(Cause.ABSENT, Mark(404, "NOT_FOUND")),
    # A network's own guard answers in HTML: it concerns our address, not the key.
    Sign(Cause.ADDRESS, Mark(429, message="error code: 1015…")),
    *(
        Sign(Cause.ADDRESS, Mark(status, message=page))
        for status in (429, 403)
        for page in ("<html…", "<!doctype html…")
    ),
)
"""What providers say in the same words; a row adds its own in front."""


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
    ``warnings`` maps a path → the sentence for the owner where a true value stands there.
    """

    dialect: str
    suffix: str
    fields: Mapping[str, str]
    warnings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KeyMark:
    """A kind of key that should not be here, told by its public beginning: one of ``begins`` and
    none of ``but_not``; ``warning`` is a sentence for the owner."""

    begins: tuple[str, ...]
    warning: str
    but_not: tuple[str, ...] = ()


ADMIN_WARNING = (
    "This is an administration key: it steers a whole account at the provider. Put a key here that "
    "may only call models."
)


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider.

    ``endpoints`` maps dialect → base URL exactly as that dialect's official SDK takes it; empty
    where each customer has an address of their own. ``asks_usage`` – streams report usage only
    when asked (``stream_options``); False where they always do, or refuse the field.
    ``output_fields`` maps dialect → the request's fields that bound output, where they are not those
    of ``OUTPUT_FIELDS`` alone; a rule's bound is put into the first.
    ``thinks_beside`` – dialects in which a maximum of output leaves out what a model thinks.
    ``fails_free`` – it says that requests which fail at its side (5xx) are not billed.
    ``forward_headers`` of a client reach the provider, ``reply_headers`` of a reply the client (``*``:
    any ending), beside what passes for every provider.
    ``facts`` are asked after the probe; ``account_headers`` maps what is shown → the probe's reply
    header that says it; ``limit_headers`` are prefixes of reply headers that state limits.
    ``key_marks`` tell keys that may more than call models, and should not be here.
    ``rejections`` say that the key is not accepted, ``signs`` why another error came.
    ``price_list`` names the provider in the price list. ``keys_url`` is where a user makes and
    revokes keys; ``docs`` is where the values come from.
    """

    name: str
    title: str
    docs: str
    endpoints: Mapping[str, str] = field(default_factory=dict)
    auth: Mapping[str, str] = field(default_factory=dict)
    forward_headers: frozenset[str] = frozenset()
    reply_headers: frozenset[str] = frozenset()
    probe: Probe | None = None
    facts: tuple[Facts, ...] = ()
    account_headers: Mapping[str, str] = field(default_factory=dict)
    limit_headers: tuple[str, ...] = LIMIT_HEADERS
    key_marks: tuple[KeyMark, ...] = ()
    asks_usage: bool = True
    output_fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    thinks_beside: frozenset[str] = frozenset()
    fails_free: bool = False
    rejections: tuple[Mark, ...] = (Mark(401, but_not=MISSING_SCOPES),)
    signs: tuple[Sign, ...] = SIGNS
    price_list: str | None = None
    keys_url: str | None = None
    usage_url: str | None = None
    price_url: str | None = None
    is_local: bool = False

    def auth_for(self, dialect: str) -> str:
        """The auth scheme for a dialect's endpoint."""
        return self.auth.get(dialect) or DEFAULT_AUTH[dialect]

    def bounded_by(self, dialect: str) -> tuple[str, ...]:
        """The request's fields that bound output; a rule's bound is put into the first."""
        return self.output_fields.get(dialect) or OUTPUT_FIELDS[dialect]


OPENAI_PROBE = Probe("openai_chat")


def openai_compatible(base: str, *dialects: str) -> Mapping[str, str]:
    """Endpoints of a provider whose OpenAI dialects share one base URL."""
    return dict.fromkeys(("openai_chat", *dialects), base)
