"""Every error the product shows, in one table, and the small exception tree behind it.

XAIRouterError
├── ConfigError        at start or for a malformed argument; carries a list of sentences
├── CustodyError       a slot or a sealed row did not open; says nothing of its input
├── UpstreamError      no reply came from a provider: unreachable, timed out, broken, refused address
├── LedgerError        the journal cannot take a frame: no place in the book, no call
├── StorageError       the database cannot be used now
│   └── ValkeyAwayError    Valkey cannot be used now
└── ManageError        a management verb was refused; carries a code of the table

Refusals in the data plane are values (``domain.calls.Refusal``), not exceptions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One public error: HTTP status, what it means, what to do; whether a retry can help."""

    code: str
    status: int
    meaning: str
    remedy: str
    retry_helps: bool = False


_CALLS = (
    ErrorRow(
        "invalid_request",
        400,
        "The request cannot be understood.",
        "Correct the request as the message says.",
    ),
    ErrorRow(
        "model_missing",
        400,
        "The request names no model.",
        "Name a model in the body, or in the path for Gemini.",
    ),
    ErrorRow(
        "invalid_api_key",
        401,
        "No valid XAI API key came with the request.",
        "Send exactly one XAI API key (sk-Xvs…) that has not been deleted.",
    ),
    ErrorRow(
        "api_key_expired",
        401,
        "The XAI API key has expired.",
        "Ask the account's manager for a new key, or rotate it before it expires.",
    ),
    ErrorRow(
        "account_suspended",
        401,
        "The account, one above it, or the key is suspended.",
        "Ask whoever manages the account to resume it.",
    ),
    ErrorRow(
        "ip_not_allowed",
        403,
        "The account may not be used from this address.",
        "Call from an allowed address, or ask whoever manages the account (rule allow_ips).",
    ),
    ErrorRow(
        "path_not_allowed",
        403,
        "The account may not use this operation.",
        "Ask whoever manages the account (rule allow_paths).",
    ),
    ErrorRow(
        "model_not_allowed",
        403,
        "The account may not use this model.",
        "Use a model of GET /v1/models, or ask whoever manages the account (rule allow_models).",
    ),
    ErrorRow(
        "level_not_allowed",
        403,
        "The model is served only at levels that the account may not use.",
        "Ask whoever manages the account (rule allow_levels), or the owner about routing.",
    ),
    ErrorRow(
        "output_not_allowed",
        403,
        "The request declares more output than the account may ask for.",
        "Declare less, or ask whoever manages the account (rule max_output_tokens).",
    ),
    ErrorRow(
        "model_unpriced",
        403,
        "The account has a budget and the model's price is not known.",
        "The owner sets a price with PUT /api/v1/prices, or `unpriced: estimate` in the settings.",
    ),
    ErrorRow(
        "rate_limited",
        429,
        "A limit of requests is used up.",
        "Wait for the time in retry-after.",
        retry_helps=True,
    ),
    ErrorRow(
        "token_limited",
        429,
        "A limit of tokens is used up.",
        "Wait for the time in retry-after, or declare less output.",
        retry_helps=True,
    ),
    ErrorRow(
        "concurrency_limited",
        429,
        "As many calls as allowed are under way.",
        "Wait until one of them has ended.",
        retry_helps=True,
    ),
    ErrorRow(
        "budget_exhausted",
        429,
        "A budget is used up.",
        "Wait for the next day or month, or ask whoever manages the account (rule budget).",
    ),
    ErrorRow(
        "unknown_path",
        404,
        "There is no such operation at this path.",
        "Check the base URL of the client; docs/reference/paths.md lists the operations.",
    ),
    ErrorRow(
        "model_not_found",
        404,
        "Provider keys exist, but none serves this model here.",
        "Ask GET /v1/models for the models of this account, or add a provider key for it.",
    ),
    ErrorRow(
        "object_not_found",
        404,
        "No such provider object belongs to this account.",
        "Use an id that this account made, with the same XAI Router.",
    ),
    ErrorRow(
        "body_too_large",
        413,
        "The request's body is larger than this router accepts.",
        "Send less, or raise XAIROUTER_MAX_BODY.",
    ),
    ErrorRow(
        "upgrade_unsupported",
        426,
        "WebSockets are not supported at this path.",
        "Use the same operation over plain HTTP; clients fall back by themselves.",
    ),
    ErrorRow(
        "internal_error",
        500,
        "The router failed; the call was recorded as far as it went.",
        "Report the call id to the operator; the log has the cause.",
        retry_helps=True,
    ),
    ErrorRow(
        "provider_key_rejected",
        502,
        "The provider rejected the owner's provider key.",
        "The owner should test and replace the provider key that the receipt names.",
    ),
    ErrorRow(
        "upstream_error_withheld",
        502,
        "The provider's error quoted a secret; it is withheld.",
        "Look at the provider's own console for the cause.",
        retry_helps=True,
    ),
    ErrorRow(
        "upstream_unreachable",
        502,
        "No connection to the provider, or it broke.",
        "Try again; if it stays, check the base URL and the network.",
        retry_helps=True,
    ),
    ErrorRow(
        "upstream_timeout",
        504,
        "The provider did not answer in time.",
        "Try again, or raise the time limits.",
        retry_helps=True,
    ),
    ErrorRow(
        "no_provider_key",
        503,
        "The owner has no active provider key.",
        "The owner adds one with POST /api/v1/provider-keys.",
    ),
    ErrorRow(
        "all_keys_sleeping",
        503,
        "Every provider key for this was told by its provider to wait.",
        "Try again after the time in retry-after, or add another provider key.",
        retry_helps=True,
    ),
    ErrorRow(
        "ledger_unavailable",
        503,
        "The call could not be recorded, so it was not made.",
        "Free disk space for the journal, or repair the database.",
        retry_helps=True,
    ),
    ErrorRow(
        "overloaded",
        503,
        "The router holds as many request bodies as it may.",
        "Try again shortly, or raise XAIROUTER_MAX_BUFFERED.",
        retry_helps=True,
    ),
    ErrorRow(
        "draining",
        503,
        "The router is shutting down.",
        "Try again; another instance or the restarted one will answer.",
        retry_helps=True,
    ),
)

_MANAGEMENT = (
    ErrorRow(
        "forbidden",
        403,
        "This XAI API key may not do that.",
        "Use a key of scope “manage” of an account that may.",
    ),
    ErrorRow(
        "not_found",
        404,
        "There is no such thing within reach of this key.",
        "Check the id; ids of other owners answer the same.",
    ),
    ErrorRow(
        "has_children",
        409,
        "The account still has sub-accounts.",
        "Delete them first, or repeat with ?recursive=true.",
    ),
    ErrorRow(
        "conflict",
        409,
        "Somebody changed it at the same time.",
        "Read it again and repeat.",
        retry_helps=True,
    ),
    ErrorRow(
        "invalid_field",
        422,
        "A field has a value that is not possible.",
        "Correct the field that the answer names.",
    ),
    ErrorRow(
        "unknown_field",
        422,
        "The body has a field that this call does not know.",
        "Remove the field that the answer names.",
    ),
    ErrorRow(
        "wider_than_parent",
        422,
        "A rule would allow more than an account above does.",
        "Narrow the rule, or let whoever manages the named account widen it first.",
    ),
    ErrorRow(
        "address_not_allowed",
        422,
        "Provider keys may not be sent to this address.",
        "Use a public https address, or let the operator allow private providers.",
    ),
    ErrorRow(
        "secret_required",
        422,
        "This change needs the provider's secret again.",
        "Send `secret` together with the changed endpoints.",
    ),
    ErrorRow(
        "storage_unavailable",
        503,
        "The database cannot be used now.",
        "Try again; calls with known keys go on meanwhile.",
        retry_helps=True,
    ),
)

ERRORS: Mapping[str, ErrorRow] = {row.code: row for row in (*_CALLS, *_MANAGEMENT)}


class XAIRouterError(Exception):
    """Root of the tree; its text is a sentence for a person and never holds a secret."""


class ConfigError(XAIRouterError):
    """Settings or arguments are unusable; ``problems`` lists one sentence each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = problems


class CustodyError(XAIRouterError):
    """Something sealed did not open, or was not made by us. Carries no detail on purpose."""


class UpstreamError(XAIRouterError):
    """No usable reply from a provider.

    ``code`` is ``upstream_unreachable`` or ``upstream_timeout``; ``sent`` is False only where it
    is certain that no byte of the request reached the provider.
    """

    def __init__(self, code: str, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.code = code
        self.sent = sent


class LedgerError(XAIRouterError):
    """The journal cannot take a frame (disk full, size limit)."""


class StorageError(XAIRouterError):
    """The database is away, locked for too long, or newer than this code."""


class ValkeyAwayError(StorageError):
    """Valkey cannot be reached now, or does not answer."""


@dataclass(eq=False)
class ManageError(XAIRouterError):
    """A management verb refused: a code of ``ERRORS``, a sentence, and the fields at fault."""

    code: str
    detail: str
    fields: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(self.detail)
