"""One error shape: application/problem+json (RFC 9457) with ``code``, ``detail``, ``fields``."""

from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from xairouter.api.reading import UnreadableBodyError
from xairouter.clock import fresh_id
from xairouter.errors import ERRORS, ErrorCode, ManageError, StorageError
from xairouter.manage.fields import refused
from xairouter.observe import log


def problem(
    code: ErrorCode, detail: str, fields: Mapping[str, str] | None = None, status: int | None = None
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


def _status(code: ErrorCode) -> int:
    """The management plane refuses a rejected provider key as a bad value, not as a bad gateway."""
    return 422 if code == ErrorCode.PROVIDER_KEY_REJECTED else ERRORS[code].status


def install(app: FastAPI) -> None:
    """Turn every way to fail into that shape; nothing ever shows its input."""

    @app.exception_handler(ManageError)
    async def _refused(request: Request, error: ManageError) -> Response:
        response = problem(error.code, error.detail, error.fields)
        if error.retry_after is not None:
            response.headers["retry-after"] = str(error.retry_after)
        return response

    @app.exception_handler(UnreadableBodyError)
    async def _unreadable(request: Request, error: UnreadableBodyError) -> Response:
        return problem(error.refused.code, error.refused.detail, error.refused.fields)

    @app.exception_handler(StorageError)
    async def _storage(request: Request, error: StorageError) -> Response:
        return problem(ErrorCode.STORAGE_UNAVAILABLE, error.public)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        rows = error.errors()
        told = refused([(row["loc"], row["type"], row["msg"]) for row in rows])
        return problem(told.code, told.detail, told.fields)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            return problem(
                ErrorCode.NOT_FOUND, f"{request.method} is not possible here.", status=405
            )
        if error.status_code == 404:
            return problem(ErrorCode.NOT_FOUND, f"There is nothing at {request.url.path[:200]}.")
        return problem(ErrorCode.INVALID_REQUEST, "The request cannot be understood.")

    @app.exception_handler(Exception)
    async def _failed(request: Request, error: Exception) -> Response:
        log.error("management_failed", path=request.url.path, exc_info=error)
        return problem(ErrorCode.INTERNAL_ERROR, "The router failed; the log has the cause.")
