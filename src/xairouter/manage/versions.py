"""Which state of a thing somebody has seen, so that nobody overwrites what they have not.

A version is a digest of what the faces show: an entity tag (RFC 9110 §8.8.3) in the API, a hidden
field in the console.
"""

from collections.abc import Mapping
from hashlib import blake2b

import msgspec

from xairouter.errors import ErrorCode, ManageError


def version_of(view: Mapping[str, object]) -> str:
    """16 hexadecimal digits over a view as canonical JSON."""
    text = msgspec.json.encode(view, order="deterministic")
    return blake2b(text, digest_size=8, person=b"xai-version-v1").hexdigest()


def refuse_stale(expected: str | None, view: Mapping[str, object]) -> None:
    """Raises ManageError ``conflict`` if a change was meant for another state; None asks nothing."""
    if expected is not None and expected != version_of(view):
        raise ManageError(
            ErrorCode.CONFLICT,
            "Somebody else has changed this meanwhile; look at it again, then repeat.",
        )
