"""How a described body is read: by the parser that reads every other body of the plane too."""

import re
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from xairouter.custody.intake import parse_json
from xairouter.errors import ErrorCode, ManageError

PREFIX = "/api/v1"
MOST_BODY = 4 * 1024 * 1024
SMALL = (64 * 1024, 2_000)
"""The largest body of most operations: bytes, and values in it."""
LARGE = (
    (re.compile(r"/accounts(/[^/]+/rules)?"), (MOST_BODY, 20_000)),
    (re.compile(r"/explain"), (MOST_BODY, MOST_BODY)),
    (re.compile(r"/prices"), (MOST_BODY, 20_000)),
    (re.compile(r"/provider-keys(/[^/]+)?"), (MOST_BODY, 5_000)),
    (re.compile(r"/routing"), (MOST_BODY, 30_000)),
)
"""Those that hold rules, prices, lists of models, a call's own body."""
_TOP = msgspec.json.Decoder(dict[str, msgspec.Raw])


def refuse_beyond(request: Request, body: bytes) -> None:
    """Raises ManageError where a body is larger than its operation needs, or may have more values in
    it: to read it is one step of the event loop."""
    path = request.scope["path"].removeprefix(PREFIX)
    size, values = next((most for one, most in LARGE if one.fullmatch(path)), SMALL)
    # Each value but the first stands behind a comma or a bracket.
    if len(body) > size:
        why = f"has {len(body)} bytes; here at most {size}"
    elif (found := 1 + sum(map(body.count, (b",", b"[", b"{")))) > values:
        why = f"may have {found} values; here at most {values}"
    else:
        return
    raise ManageError(ErrorCode.BODY_TOO_LARGE, f"The body {why}.")


def read_apart(body: bytes, name: str) -> tuple[object, bytes | None]:
    """A JSON object without one of its members, and that member as it came, None where there is none
    or it is null: nothing of it is read. Raises ManageError."""
    try:
        top = _TOP.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        top = None
    if top is None:
        raise ManageError(
            ErrorCode.INVALID_FIELD, "The body must be a JSON object.", {"body": "not JSON"}
        )
    own = bytes(top.pop(name, b"null")).strip()
    rest = b",".join(msgspec.json.encode(key) + b":" + bytes(value) for key, value in top.items())
    if len(rest) > SMALL[0]:
        raise ManageError(ErrorCode.BODY_TOO_LARGE, f"The body is too large beside `{name}`.")
    if own != b"null" and not own.startswith(b"{"):
        raise ManageError(
            ErrorCode.INVALID_FIELD, f"Not possible: `{name}`.", {name: "must be an object"}
        )
    return parse_json(b"{" + rest + b"}"), None if own == b"null" else own


def described(schema: dict[str, Any]) -> dict[str, Any]:
    """For the OpenAPI document: a body that is read further in."""
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


class UnreadableBodyError(HTTPException):
    """The refusal of a body's syntax: FastAPI passes on only its own kind of error from there."""

    def __init__(self, refused: ManageError) -> None:
        super().__init__(422)
        self.refused = refused


class _StrictRequest(Request):
    async def json(self) -> Any:
        body = await self.body()
        try:
            refuse_beyond(self, body)
            return parse_json(body)
        except ManageError as error:
            refused = error
        raise UnreadableBodyError(refused)


class StrictRoute(APIRoute):
    """A route whose body is JSON by RFC 8259: Python's own parser takes more, and fails at some."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return strict
