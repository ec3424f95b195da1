"""What keeps a browser from treating a reply of the data plane as a page of the console's origin.

A tenant chooses its provider, and so what a reply says. The headers below stand in every reply;
``is_for_a_page`` finds the requests that a browser makes for anything but a script's ``fetch``;
``CrossOrigin`` lets scripts of named origins read replies; ``ByHost`` gives the console a host of its
own.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

from xairouter.gateway.reply_headers import EXPOSED_HEADERS

App = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]

SAFE_HEADERS: Headers = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"sandbox; default-src 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
"""No sniffing, no script, no embedding by other sites, no copy in a cache."""
SAFE_LINES = b"".join(b"%b: %b\r\n" % header for header in SAFE_HEADERS)
"""The same as they are sent."""


def is_for_a_page(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a browser will use the reply as a document, a frame, a script, a worker, an image…

    Source: Fetch Metadata (https://w3c.github.io/webappsec-fetch-metadata/#sec-fetch-dest-header);
    what a script asks for by ``fetch`` or ``XMLHttpRequest`` is ``empty``. A header that came twice
    is joined by a comma, and so never ``empty``.
    """
    return headers.get(b"sec-fetch-dest", b"empty") != b"empty"


_VARY = (b"vary", b"origin")
_EXPOSED = (b"access-control-expose-headers", ", ".join(EXPOSED_HEADERS).encode())
PREFLIGHT: Headers = (
    (b"access-control-allow-methods", b"GET, HEAD, POST, DELETE"),
    # The credential's header must be named; the wildcard does not cover it.
    (b"access-control-allow-headers", b"authorization, x-api-key, x-goog-api-key, content-type, *"),
    (b"access-control-max-age", b"600"),
)
"""What a preflight of an allowed origin is answered. Cookies are never allowed, so there is no
``access-control-allow-credentials`` anywhere."""


class CrossOrigin:
    """Origins whose scripts may call the data plane (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._headers: dict[bytes, Headers] = {
            origin.encode("ascii"): (
                (b"access-control-allow-origin", origin.encode("ascii")),
                _EXPOSED,
                _VARY,
            )
            for origin in origins
        }

    def headers_for(self, headers: Mapping[bytes, bytes]) -> Headers:
        """What every reply to a request with these headers says; no more than ``vary`` to an origin
        that is not allowed."""
        return self._headers.get(headers.get(b"origin", b""), (_VARY,))

    def allows(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether the request comes from an allowed origin."""
        return headers.get(b"origin") in self._headers


def is_preflight(method: str, headers: Mapping[bytes, bytes]) -> bool:
    """Whether a browser asks if a script may send its request."""
    return (
        method == "OPTIONS" and b"origin" in headers and b"access-control-request-method" in headers
    )


def host_name(host: bytes) -> bytes:
    """The name in a ``Host`` header: in lower case, without port and trailing dot."""
    host = host.strip(b" \t").lower()
    name, colon, port = host.rpartition(b":")
    if colon and (not port or (port.isdigit() and len(port) <= 5 and int(port) < 1 << 16)):
        host = name
    return host.removesuffix(b".")


class ByHost:
    """One application at one host, another at all others: cookies and pages of the one are out of
    reach for whatever the other answers."""

    def __init__(self, host: str, there: App, elsewhere: App) -> None:
        self._host = host_name(host.encode("ascii"))
        self._there = there
        self._elsewhere = elsewhere

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        hosts = [value for name, value in scope.get("headers", ()) if name == b"host"]
        is_there = len(hosts) == 1 and host_name(hosts[0]) == self._host
        await (self._there if is_there else self._elsewhere)(scope, receive, send)
