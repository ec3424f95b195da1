"""The door in: a raw management body comes, its secret stays, the rest goes on.

The body is parsed here and nowhere else, so that no validation error elsewhere can carry a
secret. The secret lives in an ``Intake`` until it is sealed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

import msgspec

from xairouter.custody.vault import OpenVault, fingerprint, last4, seal, unseal
from xairouter.domain.accounts import ProviderKey
from xairouter.domain.unshown import Unshown
from xairouter.errors import ErrorCode, ManageError

_SECRET = re.compile(r"[\x21-\x7e]{0,8192}\Z")

_UNREADABLE = object()
MOST_FIELDS = 1000
"""Fields of one form."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """What is stored of a provider key's secret."""

    sealed: bytes = field(repr=False)
    last4: str | None
    fingerprint: str


class Intake(Unshown):
    """A parsed body: ``fields`` without the secret, and the secret, which only ``seal`` uses."""

    __slots__ = ("_secret", "fields")

    def __init__(self, fields: dict[str, object], secret: str | None) -> None:
        self.fields = fields
        self._secret = secret

    @property
    def has_secret(self) -> bool:
        """Whether the body brought a secret; an empty one (a keyless endpoint) counts."""
        return self._secret is not None

    @property
    def is_keyless(self) -> bool:
        return self._secret == ""

    def has_mark(self, begins: tuple[str, ...], but_not: tuple[str, ...] = ()) -> bool:
        """Whether the secret begins with one of a provider's public marks, such as that of its
        administration keys, and with none of the others."""
        secret = self._secret or ""
        return secret.startswith(begins) and not secret.startswith(but_not)

    def seal(
        self,
        vault: OpenVault,
        *,
        key_id: str,
        revision: int,
        auth: Mapping[str, str],
        endpoints: Mapping[str, str],
    ) -> Sealed:
        """Seal the secret for one row."""
        secret = self._secret or ""
        raw = secret.encode("ascii")
        blob = seal(vault, raw, key_id=key_id, revision=revision, auth=auth, endpoints=endpoints)
        return Sealed(blob, last4(secret), fingerprint(vault, raw))


def read_body(body: bytes) -> Intake:
    """Parse a management body that may carry a ``secret``.

    Raises ManageError ``invalid_field`` with words of ours only: never the parser's, which may
    quote its input.
    """
    parsed = parse_json(body) if body else {}
    if not isinstance(parsed, dict):
        raise ManageError(
            ErrorCode.INVALID_FIELD, "The body must be a JSON object.", {"body": "not JSON"}
        )
    return _taken_in(parsed)


def parse_json(body: bytes) -> object:
    """A management body's value, of every operation: the only parser of the plane.

    Raises ManageError ``invalid_field`` for what is not JSON by RFC 8259, for what no storage and no
    reply can hold (a lone surrogate, NUL), and for numbers and depths out of range.
    """
    try:
        value: object = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        value = _UNREADABLE
    if value is _UNREADABLE:
        raise ManageError(
            ErrorCode.INVALID_FIELD,
            "The body must be JSON, with numbers and a depth in range.",
            {"body": "not JSON"},
        )
    field = _nul_in(value) if b"\\u0000" in body else None
    if field is not None:
        raise ManageError(
            ErrorCode.INVALID_FIELD,
            "A body has no NUL characters.",
            {field: "has a NUL character"},
        )
    return value


def _nul_in(value: object) -> str | None:
    """The field of the body in which a string or a name has a NUL character, if there is one."""
    fields = value.items() if isinstance(value, dict) else [("body", value)]
    for name, held in fields:
        left = [name, held]
        while left:
            one = left.pop()
            if isinstance(one, dict):
                left += [*one.keys(), *one.values()]
            elif isinstance(one, list):
                left += one
            elif isinstance(one, str) and "\0" in one:
                return name.replace("\0", "")[:64] or "body"
    return None


def read_form(body: bytes) -> Intake:
    """Parse an HTML form that may carry a ``secret``; its fields are strings, the last one counts."""
    try:
        pairs = parse_qsl(
            body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MOST_FIELDS
        )
    except ValueError:
        raise ManageError(ErrorCode.INVALID_REQUEST, "The form has too many fields.") from None
    if any("\0" in text for pair in pairs for text in pair):
        raise ManageError(ErrorCode.INVALID_REQUEST, "A form has no NUL characters.")
    return _taken_in(dict(pairs))


def _taken_in(fields: dict[str, object]) -> Intake:
    secret = fields.pop("secret", None)
    if secret is not None and not (isinstance(secret, str) and _SECRET.match(secret)):
        raise ManageError(
            ErrorCode.INVALID_FIELD,
            "The field `secret` must be a string of visible ASCII characters.",
            {"secret": "must be visible ASCII without spaces"},
        )
    return Intake(fields, secret)


def reseal(vault: OpenVault, onto: OpenVault, row: ProviderKey) -> Sealed:
    """A stored key opened with one vault and sealed under another (re-key, take-over)."""
    raw = unseal(vault, row)
    blob = seal(
        onto, raw, key_id=row.id, revision=row.revision, auth=row.auth, endpoints=row.endpoints
    )
    return Sealed(blob, row.last4, fingerprint(onto, raw))
