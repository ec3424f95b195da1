"""Where a form came from, and where a visitor may be led to: this very site, and nowhere else."""

from urllib.parse import urlsplit

from starlette.requests import Request


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
