"""Where a form came from, and where a visitor may be led to: this very site, and nowhere else."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.requests import Request

from xairouter.settings import Settings


class Addresses:
    """Under which addresses the router is reached: as the settings say, else as it was asked."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def console(self, request: Request) -> str:
        """The address of console and management API."""
        return self._settings.console_url(str(request.base_url).rstrip("/"))

    def calls(self, request: Request) -> str:
        """The address that clients call."""
        named = self._settings.public_url.rstrip("/")
        if named or not self._settings.console_host:
            return named or str(request.base_url).rstrip("/")
        # The host that was asked answers no calls; the address that it stands for does.
        host, port = request.scope["server"]
        return f"http://{host}:{port}"


def page_headers(headers: Mapping[str, str], url: str, calls_url: str) -> Mapping[str, str]:
    """A page's headers; where calls have another host, its playground may ask that one, too."""
    if calls_url == url:
        return headers
    asks = f"connect-src 'self' {'/'.join(calls_url.split('/')[:3])}"
    policy = headers["content-security-policy"].replace("connect-src 'self'", asks)
    return {**headers, "content-security-policy": policy}


def local_path(wanted: str) -> str:
    """Where to go after signing in: a page of the console, and never anywhere else."""
    parts = urlsplit(wanted)
    is_ours = (
        not parts.scheme
        and not parts.netloc
        and wanted.startswith("/console/")
        and wanted.isascii()
        and wanted.isprintable()
        and "\\" not in wanted
        and ".." not in parts.path
        and len(wanted) <= 2000
    )
    return wanted if is_ours else "/console/"


def is_same_origin(request: Request) -> bool:
    """Whether a form came from this very site, as far as the browser says."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    # "null" is what browsers send from a page whose referrer policy is no-referrer.
    return origin in (None, "null") or urlsplit(origin).netloc == request.headers.get("host")
