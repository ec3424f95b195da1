"""The forms of our secrets: XAI API keys, recovery codes, one-time links, look-up ids.

XAI API key (51 characters)::

    sk-Xvs | 39 characters of 0-9A-Za-z by chance (232 bits) | CRC-32 of the 45 before, base62 (6)

Recovery code::

    XR1- | 32 Crockford base32 characters by chance (160 bits) | 2 check characters (CRC-32 mod 1024)

The checksums are typing aids and marks for secret scanners, not authentication.
"""

import re
import secrets
from hashlib import blake2b
from zlib import crc32

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PAIRS62 = [high + low for high in _BASE62 for low in _BASE62]
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_KEY = re.compile(r"sk-Xvs[0-9A-Za-z]{45}\Z")
_CODE = re.compile(r"XR1-[0-9A-HJKMNP-TV-Z]{34}\Z")
_READ_AS = str.maketrans("OILoil", "011011")

KEY_MARK = "sk-Xvs"


def new_api_key() -> str:
    """A fresh XAI API key."""
    body = KEY_MARK + "".join(secrets.choice(_BASE62) for _ in range(39))
    return body + _checksum62(body)


def is_api_key(text: str) -> bool:
    """Strict form first, then the checksum; says nothing of whether the key exists."""
    return bool(_KEY.match(text)) and _checksum62(text[:45]) == text[45:]


def _checksum62(body: str) -> str:
    value, low = divmod(crc32(body.encode("ascii")), 62 * 62)
    high, middle = divmod(value, 62 * 62)
    return _PAIRS62[high] + _PAIRS62[middle] + _PAIRS62[low]


def new_recovery_code() -> str:
    """A fresh recovery code."""
    body = "XR1-" + "".join(secrets.choice(_CROCKFORD) for _ in range(32))
    return body + _check_characters(body)


def normalise_recovery_code(text: str) -> str | None:
    """The code as it was issued, from what a person typed (case, spaces, dashes, O for 0);
    None if it is no recovery code."""
    squeezed = re.sub(r"[\s\-]", "", text).upper()
    if not squeezed.startswith("XR1"):
        return None
    code = "XR1-" + squeezed[3:].translate(_READ_AS)
    if not _CODE.match(code) or _check_characters(code[:-2]) != code[-2:]:
        return None
    return code


def _check_characters(body: str) -> str:
    value = crc32(body.encode("ascii")) % 1024
    return _CROCKFORD[value >> 5] + _CROCKFORD[value & 31]


def look_up_id(secret: str) -> bytes:
    """BLAKE2b-256 of a presented secret: the only trace of it in the database."""
    return blake2b(secret.encode(), digest_size=32, person=b"xai-lookup-v1").digest()


def link_hash(token: str) -> bytes:
    """BLAKE2b-256 of a one-time link's token: the only trace of it in the database."""
    return blake2b(token.encode(), digest_size=32, person=b"xai-link-v1").digest()


def new_link_token() -> str:
    """256 bits for a one-time link, URL-safe."""
    return secrets.token_urlsafe(32)
