"""One error shape: application/problem+json (RFC 9457) with ``code``, ``detail``, ``fields``."""

from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from xairouter.clock import fresh_id
from xairouter.errors import ERRORS, ManageError, StorageError
from xairouter.observe import log


def problem(
    code: str, detail: str, fields: Mapping[str, str] | None = None, status: int | None = None
) -> JSONResponse:
    """A refusal of the management API."""
    row = ERRORS[code]
    call_id = fresh_id("call")
    body = {
        "type": "about:blank",
        "title": row.meaning,
        "status": status or _status(code),
        "code": code,
        "detail": detail,
        "fields": dict(fields or {}),
    }
    return JSONResponse(
        body,
        status_code=status or _status(code),
        media_type="application/problem+json",
        headers={
            "x-xairouter-error": code,
            "x-xairouter-call-id": call_id,
            "x-request-id": call_id,
            "x-xairouter-origin": "gateway",
        },
    )


def _status(code: str) -> int:
    """The management plane refuses a rejected provider key as a bad value, not as a bad gateway."""
    return 422 if code == "provider_key_rejected" else ERRORS[code].status


def install(app: FastAPI) -> None:
    """Turn every way to fail into that shape; nothing ever shows its input."""

    @app.exception_handler(ManageError)
    async def _refused(request: Request, error: ManageError) -> Response:
        return problem(error.code, error.detail, error.fields)

    @app.exception_handler(StorageError)
    async def _storage(request: Request, error: StorageError) -> Response:
        return problem("storage_unavailable", str(error))

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        fields = {}
        unknown = False
        for row in error.errors():
            place = [str(part)[:64] for part in row["loc"] if part not in ("body", "query")]
            unknown = unknown or row["type"] == "extra_forbidden"
            fields[".".join(place) or "body"] = (
                "unknown" if row["type"] == "extra_forbidden" else str(row["msg"])
            )
        named = ", ".join(f"`{name}`" for name in fields)
        if unknown:
            return problem("unknown_field", f"Unknown or wrong: {named}.", fields)
        return problem("invalid_field", f"Not possible: {named}.", fields)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            return problem("not_found", f"{request.method} is not possible here.", status=405)
        if error.status_code == 404:
            return problem("not_found", f"There is nothing at {request.url.path[:200]}.")
        return problem("invalid_request", "The request cannot be understood.")

    @app.exception_handler(Exception)
    async def _failed(request: Request, error: Exception) -> Response:
        log.error("management_failed", path=request.url.path, exc_info=error)
        return problem("internal_error", "The router failed; the log has the cause.")
