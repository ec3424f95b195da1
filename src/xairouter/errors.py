"""Every error the product shows, in one table, and the small exception tree behind it.

XAIRouterError
├── ConfigError        at start or for a malformed argument; carries a list of sentences
├── CustodyError       a slot or a sealed row did not open; says nothing of its input
├── UpstreamError      no reply came from a provider: unreachable, timed out, broken, refused address
│   └── StaleConnectionError  a kept connection ended before any byte of a reply
├── LedgerError        the journal cannot take a frame: no place in the book, no call
├── StorageError       the database cannot be used now
│   └── ValkeyAwayError    Valkey cannot be used now
└── ManageError        a management verb was refused; carries a code of the table

Refusals in the data plane are values (``domain.calls.Refusal``), not exceptions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class ErrorCode(StrEnum):
    """The name of a public error, in the order of the table below."""

    INVALID_REQUEST = "invalid_request"
    MODEL_MISSING = "model_missing"
    INVALID_API_KEY = "invalid_api_key"
    API_KEY_EXPIRED = "api_key_expired"
    ACCOUNT_SUSPENDED = "account_suspended"
    IP_NOT_ALLOWED = "ip_not_allowed"
    PATH_NOT_ALLOWED = "path_not_allowed"
    MODEL_NOT_ALLOWED = "model_not_allowed"
    LEVEL_NOT_ALLOWED = "level_not_allowed"
    OUTPUT_NOT_ALLOWED = "output_not_allowed"
    OBJECT_NOT_ALLOWED = "object_not_allowed"
    MODEL_UNPRICED = "model_unpriced"
    RATE_LIMITED = "rate_limited"
    TOKEN_LIMITED = "token_limited"  # noqa: S105 -- a name, no secret
    CONCURRENCY_LIMITED = "concurrency_limited"
    BUDGET_EXHAUSTED = "budget_exhausted"
    UNKNOWN_PATH = "unknown_path"
    MODEL_NOT_FOUND = "model_not_found"
    OBJECT_NOT_FOUND = "object_not_found"
    BODY_TOO_LARGE = "body_too_large"
    UPGRADE_UNSUPPORTED = "upgrade_unsupported"
    INTERNAL_ERROR = "internal_error"
    PROVIDER_KEY_REJECTED = "provider_key_rejected"
    UPSTREAM_ERROR_WITHHELD = "upstream_error_withheld"
    UPSTREAM_UNREACHABLE = "upstream_unreachable"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    NO_PROVIDER_KEY = "no_provider_key"
    ALL_KEYS_SLEEPING = "all_keys_sleeping"
    LEDGER_UNAVAILABLE = "ledger_unavailable"
    OVERLOADED = "overloaded"
    DRAINING = "draining"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    HAS_CHILDREN = "has_children"
    CONFLICT = "conflict"
    INVALID_FIELD = "invalid_field"
    UNKNOWN_FIELD = "unknown_field"
    WIDER_THAN_PARENT = "wider_than_parent"
    ADDRESS_NOT_ALLOWED = "address_not_allowed"
    SECRET_REQUIRED = "secret_required"  # noqa: S105 -- a name, no secret
    STORAGE_UNAVAILABLE = "storage_unavailable"


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One public error: HTTP status, what it means, what to do; whether a retry can help."""

    code: ErrorCode
    status: int
    meaning: str
    remedy: str
    retry_helps: bool = False


_CALLS = (
    ErrorRow(
        ErrorCode.INVALID_REQUEST,
        400,
        "The request cannot be understood.",
        "Correct the request as the message says.",
    ),
    ErrorRow(
        ErrorCode.MODEL_MISSING,
        400,
        "The request names no model.",
        "Name a model in the body, or in the path for Gemini.",
    ),
    ErrorRow(
        ErrorCode.INVALID_API_KEY,
        401,
        "No valid XAI API key came with the request.",
        "Send exactly one XAI API key (sk-Xvs…) that has not been deleted.",
    ),
    ErrorRow(
        ErrorCode.API_KEY_EXPIRED,
        401,
        "The XAI API key has expired.",
        "Ask the account's manager for a new key, or rotate it before it expires.",
    ),
    ErrorRow(
        ErrorCode.ACCOUNT_SUSPENDED,
        401,
        "The account, one above it, or the key is suspended.",
        "Ask whoever manages the account to resume it.",
    ),
    ErrorRow(
        ErrorCode.IP_NOT_ALLOWED,
        403,
        "The account may not be used from this address.",
        "Call from an allowed address, or ask whoever manages the account (rule allow_ips).",
    ),
    ErrorRow(
        ErrorCode.PATH_NOT_ALLOWED,
        403,
        "The account may not use this operation.",
        "Ask whoever manages the account (rule allow_paths).",
    ),
    ErrorRow(
        ErrorCode.MODEL_NOT_ALLOWED,
        403,
        "The account may not use this model.",
        "Use a model of GET /v1/models, or ask whoever manages the account (rule allow_models).",
    ),
    ErrorRow(
        ErrorCode.LEVEL_NOT_ALLOWED,
        403,
        "The model is served only at levels that the account may not use.",
        "Ask whoever manages the account (rule allow_levels), or the owner about routing.",
    ),
    ErrorRow(
        ErrorCode.OUTPUT_NOT_ALLOWED,
        403,
        "The request declares more output than the account may ask for.",
        "Declare less, or ask whoever manages the account (rule max_output_tokens).",
    ),
    ErrorRow(
        ErrorCode.OBJECT_NOT_ALLOWED,
        403,
        "The request has a field that names a model or an object, and that the router does not know.",
        "Leave the field out, or call with a key of the owner's own account.",
    ),
    ErrorRow(
        ErrorCode.MODEL_UNPRICED,
        403,
        "The account has a budget and the model's price is not known.",
        "The owner sets a price with PUT /api/v1/prices, or `unpriced: estimate` in the settings.",
    ),
    ErrorRow(
        ErrorCode.RATE_LIMITED,
        429,
        "A limit of requests is used up.",
        "Wait for the time in retry-after.",
        retry_helps=True,
    ),
    ErrorRow(
        ErrorCode.TOKEN_LIMITED,
        429,
        "A limit of tokens is used up.",
        "Wait for the time in retry-after, or declare less output.",
        retry_helps=True,
    ),
    ErrorRow(
        ErrorCode.CONCURRENCY_LIMITED,
        429,
        "As many calls as allowed are under way.",
        "Wait until one of them has ended.",
        retry_helps=True,
    ),
    ErrorRow(
        ErrorCode.BUDGET_EXHAUSTED,
        429,
        "A budget is used up.",
        "Wait for the next day or month, or ask whoever manages the account (rule budget).",
    ),
    ErrorRow(
        ErrorCode.UNKNOWN_PATH,
        404,
        "There is no such operation at this path.",
        "Check the base URL of the client; docs/reference/paths.md lists the operations.",
    ),
    ErrorRow(
        ErrorCode.MODEL_NOT_FOUND,
        404,
        "Provider keys exist, but none serves this model here.",
        "Ask GET /v1/models for the models of this account, or add a provider key for it.",
    ),
    ErrorRow(
        ErrorCode.OBJECT_NOT_FOUND,
        404,
        "No such provider object belongs to this account.",
        "Use an id that this account made, with the same XAI Router.",
    ),
    ErrorRow(
        ErrorCode.BODY_TOO_LARGE,
        413,
        "The request's body is larger than this router accepts.",
        "Send less, or raise XAIROUTER_MAX_BODY.",
    ),
    ErrorRow(
        ErrorCode.UPGRADE_UNSUPPORTED,
        426,
        "WebSockets are not supported at this path.",
        "Use the same operation over plain HTTP; clients fall back by themselves.",
    ),
    ErrorRow(
        ErrorCode.INTERNAL_ERROR,
        500,
        "The router failed; the call was recorded as far as it went.",
        "Report the call id to the operator; the log has the cause.",
        retry_helps=True,
    ),
    ErrorRow(
        ErrorCode.PROVIDER_KEY_REJECTED,
        502,
        "The provider rejected the owner's provider key.",
        "The owner should test and replace the provider key that the receipt names.",
    ),
    ErrorRow(
        ErrorCode.UPSTREAM_ERROR_WITHHELD,
        502,
        "The provider's error quoted a secret; it is withheld.",
        "Look at the provider's own console for the cause.",
        retry_helps=True,
    ),
    ErrorRow(
        ErrorCode.UPSTREAM_UNREACHABLE,
        502,
        "No connection to the provider, or it broke.",
        "Try again; if it stays, check the base URL and the network.",
        retry_helps=True,
    ),
    ErrorRow(
        ErrorCode.UPSTREAM_TIMEOUT,
        504,
        "The provider did not answer in time.",
        "Try again, or raise the time limits.",
        retry_helps=True,
    ),
    ErrorRow(
        ErrorCode.NO_PROVIDER_KEY,
        503,
        "The owner has no active provider key.",
        "The owner adds one with POST /api/v1/provider-keys.",
    ),
    ErrorRow(
        ErrorCode.ALL_KEYS_SLEEPING,
        503,
        "Every provider key for this was told by its provider to wait.",
        "Try again after the time in retry-after, or add another provider key.",
        retry_helps=True,
    ),
    ErrorRow(
        ErrorCode.LEDGER_UNAVAILABLE,
        503,
        "The call could not be recorded, so it was not made.",
        "Free disk space for the journal, or repair the database.",
        retry_helps=True,
    ),
    ErrorRow(
        ErrorCode.OVERLOADED,
        503,
        "The router holds as many calls, request bodies or connections as it may.",
        "Try again shortly; doctor says how many files may be open, settings what else is bounded.",
        retry_helps=True,
    ),
    ErrorRow(
        ErrorCode.DRAINING,
        503,
        "The router is shutting down.",
        "Try again; another instance or the restarted one will answer.",
        retry_helps=True,
    ),
)

_MANAGEMENT = (
    ErrorRow(
        ErrorCode.FORBIDDEN,
        403,
        "This XAI API key may not do that; or a browser asked for a reply of the data plane as a page, "
        "a frame, a script or an image.",
        "Use a key of scope “manage” of an account that may; in a browser app, ask by `fetch`.",
    ),
    ErrorRow(
        ErrorCode.NOT_FOUND,
        404,
        "There is no such thing within reach of this key.",
        "Check the id; ids of other owners answer the same.",
    ),
    ErrorRow(
        ErrorCode.HAS_CHILDREN,
        409,
        "The account still has sub-accounts.",
        "Delete them first, or repeat with ?recursive=true.",
    ),
    ErrorRow(
        ErrorCode.CONFLICT,
        409,
        "Somebody changed it at the same time.",
        "Read it again and repeat.",
        retry_helps=True,
    ),
    ErrorRow(
        ErrorCode.INVALID_FIELD,
        422,
        "A field has a value that is not possible.",
        "Correct the field that the answer names.",
    ),
    ErrorRow(
        ErrorCode.UNKNOWN_FIELD,
        422,
        "The body has a field that this call does not know.",
        "Remove the field that the answer names.",
    ),
    ErrorRow(
        ErrorCode.WIDER_THAN_PARENT,
        422,
        "A rule would allow more than an account above does.",
        "Narrow the rule, or let whoever manages the named account widen it first.",
    ),
    ErrorRow(
        ErrorCode.ADDRESS_NOT_ALLOWED,
        422,
        "Provider keys may not be sent to this address.",
        "Use a public https address, or let the operator allow private providers.",
    ),
    ErrorRow(
        ErrorCode.SECRET_REQUIRED,
        422,
        "This change needs the provider's secret again.",
        "Send `secret` together with the changed endpoints; where the key's row was changed outside of "
        "the router, with `provider` or `endpoints`.",
    ),
    ErrorRow(
        ErrorCode.STORAGE_UNAVAILABLE,
        503,
        "The database cannot be used now.",
        "Try again; calls with known keys go on meanwhile.",
        retry_helps=True,
    ),
)

ERRORS: Mapping[ErrorCode, ErrorRow] = {row.code: row for row in (*_CALLS, *_MANAGEMENT)}


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

    def __init__(self, code: ErrorCode, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.code = code
        self.sent = sent


class StaleConnectionError(UpstreamError):
    """A reused connection ended right after the request was sent, before any byte of a reply: most
    likely the provider had closed it before the request came."""


class LedgerError(XAIRouterError):
    """The journal cannot take a frame (disk full, size limit)."""


class StorageError(XAIRouterError):
    """The database is away, locked for too long, or newer than this code. ``public`` is what anybody
    may read of it, where the message names the database: clients are told no path and no address."""

    def __init__(self, message: str, public: str = "") -> None:
        super().__init__(message)
        self.public = public or message


class ValkeyAwayError(StorageError):
    """Valkey cannot be reached now, or does not answer."""


@dataclass(eq=False)
class ManageError(XAIRouterError):
    """A management verb refused: a code of ``ERRORS``, a sentence, the fields at fault, and the
    seconds after which a retry may pass."""

    code: ErrorCode
    detail: str
    fields: Mapping[str, str] = field(default_factory=dict)
    retry_after: int | None = None

    def __post_init__(self) -> None:
        super().__init__(self.detail)
