"""Request heads that are refused for their framing: what two servers in a row may read differently
(RFC 9112 §3.2, §6, §11.2), and what is not served at all. Pure."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
_METHODS = frozenset(method.encode() for method in METHODS)
_VERSIONS = frozenset({"1.0", "1.1"})
_HOST = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]*\Z")
"""A host and a port, in the characters of RFC 3986 §3.2.2 and §3.2.3."""
_ONCE = (b"host", b"content-length", b"transfer-encoding")

Problem = tuple[int, str]
"""An HTTP status and a sentence for the client."""


def problem_of(
    version: str,
    method: bytes,
    headers: Sequence[tuple[bytes, bytes]],
    fields: Mapping[bytes, bytes],
) -> Problem | None:
    """Why a request head is refused, None if it is not. ``fields`` are ``headers`` by their name,
    which is in lower case."""
    if version not in _VERSIONS:
        return 505, "Only HTTP/1.1 and HTTP/1.0 are spoken here."
    if method not in _METHODS:
        return 405, "This method is not served here."
    if len(fields) != len(headers):
        counts = Counter(name for name, _ in headers)
        for name in _ONCE:
            if counts[name] > 1:
                return 400, f"The header {name.decode()} may come only once."
    host = fields.get(b"host")
    if host is None:
        if version == "1.1":
            return 400, "An HTTP/1.1 request needs the header host."
    elif not _HOST.match(host):
        return 400, "The header host is not a host and a port."
    if b"transfer-encoding" in fields:
        return _coding_problem(version, fields)
    return None


def _coding_problem(version: str, fields: Mapping[bytes, bytes]) -> Problem | None:
    if version == "1.0":
        return 400, "HTTP/1.0 knows no transfer-encoding."
    if fields[b"transfer-encoding"].lower() != b"chunked":
        return 400, "The only transfer-encoding of a request is chunked."
    if b"content-length" in fields:
        return 400, "A request has a content-length or a transfer-encoding, not both."
    return None
