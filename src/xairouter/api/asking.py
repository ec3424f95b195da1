"""Who asks: the same credentials and the same identity as in the data plane."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, Query, Request, Response

from xairouter.clock import now_ms
from xairouter.directory.identity import Identifier
from xairouter.domain.calls import Refusal
from xairouter.errors import ManageError
from xairouter.manage.desk import Actor, Desk, StaleVaultError
from xairouter.manage.versions import version_of
from xairouter.policy.decide import enter

T = TypeVar("T")
App = Callable[[Any, Any, Any], Awaitable[None]]
MOST_BODY = 4 * 1024 * 1024
TRIES = 6


def desk_of(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


async def actor_of(request: Request) -> Actor:
    """The actor behind the request's XAI API key; raises ManageError with the 401 codes."""
    identifier: Identifier = request.app.state.identifier
    headers: dict[bytes, bytes] = {}
    for name, value in request.scope["headers"]:
        headers[name] = headers[name] + b", " + value if name in headers else value
    identity = await identifier.resolve(headers, b"")
    if isinstance(identity, Refusal):
        raise ManageError(identity.code, identity.message)
    address = address_of(request)
    refused = enter(identity.caller, now_ms(), address, None)
    if refused is not None:
        raise ManageError(refused.code, refused.message)
    return Actor(identity.caller, identity.vault, address)


def address_of(request: Request) -> str:
    """The client's address, forwarded ones only from trusted proxies."""
    find: Callable[[Any, dict[bytes, bytes]], str] = request.app.state.client_address
    return find(request.scope, dict(request.scope["headers"]))


async def raw_body(request: Request) -> bytes:
    """The body unparsed, for custody; at most 4 MB."""
    parts, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MOST_BODY:
            raise ManageError("body_too_large", "The body is larger than 4 MB.")
        parts.append(chunk)
    return b"".join(parts)


async def retried(request: Request, actor: Actor, act: Callable[[Actor], Awaitable[T]]) -> T:
    """Do a verb; where the vault has moved meanwhile, open it anew from the presented key and
    repeat, a few times at most."""
    for _ in range(TRIES):
        try:
            return await act(actor)
        except StaleVaultError:
            request.app.state.desk.directory.drop(actor.owner_id)
        actor = await actor_of(request)
    raise ManageError("conflict", "The vault was changed at the same time; repeat.")


def every_body_is_json(app: App, body_idle_seconds: float) -> App:
    """Bodies here are JSON whatever their content type says (``curl -d`` calls them a form), and a
    client that falls silent within one is not waited for."""

    async def read_as_json(scope: Any, receive: Any, send: Any) -> None:
        kept = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
        scope["headers"] = [*kept, (b"content-type", b"application/json")]
        is_read = False

        async def receive_in_time() -> Any:
            nonlocal is_read
            if is_read:
                return await receive()
            try:
                async with asyncio.timeout(body_idle_seconds):
                    message = await receive()
            except TimeoutError:
                raise ManageError("invalid_request", "The body did not arrive in time.") from None
            is_read = not message.get("more_body", False)
            return message

        await app(scope, receive_in_time, send)

    return read_as_json


def if_match(
    tag: Annotated[str | None, Header(alias="if-match", max_length=200)] = None,
) -> str | None:
    """The version that a change is meant for (RFC 9110 §13.1.1), None for any."""
    if tag is None or tag.strip() == "*":
        return None
    return tag.strip().removeprefix("W/").strip('"')


def tagged(response: Response, view: Mapping[str, Any]) -> None:
    """Name the state that is shown, for ``If-Match``."""
    response.headers["etag"] = f'"{version_of(view)}"'


TheDesk = Annotated[Desk, Depends(desk_of)]
TheActor = Annotated[Actor, Depends(actor_of)]
RawBody = Annotated[bytes, Depends(raw_body)]
Limit = Annotated[int, Query(ge=1, le=500)]
"""Items of a page."""


def rehearsed(dry_run: bool = False, days: Annotated[int, Query(ge=1, le=90)] = 7) -> int | None:
    """Over how many days a change is only to be rehearsed; None to make it."""
    return days if dry_run else None


Rehearsed = Annotated[int | None, Depends(rehearsed)]
IfMatch = Annotated[str | None, Depends(if_match)]
Json = dict[str, Any]
