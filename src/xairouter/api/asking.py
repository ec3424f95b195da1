"""Who asks: the same credentials and the same identity as in the data plane."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Header, Query, Request, Response

from xairouter.api.problems import problem
from xairouter.api.reading import MOST_BODY, refuse_beyond
from xairouter.clock import now_ms
from xairouter.directory.identity import Identifier
from xairouter.domain.calls import Refusal
from xairouter.errors import ErrorCode, ManageError
from xairouter.manage.desk import Actor, Desk, StaleVaultError
from xairouter.manage.operators import PLAIN_COOKIE, SECURE_COOKIE, is_operator
from xairouter.manage.paging import encoded_page
from xairouter.manage.versions import version_of
from xairouter.policy.decide import enter

S = TypeVar("S")
T = TypeVar("T")
App = Callable[[Any, Any, Any], Awaitable[None]]
TRIES = 10
RECOVERY = "/api/v1/recover"


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
    """The body unparsed, for custody; not larger than its operation needs."""
    parts, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MOST_BODY:
            raise ManageError(ErrorCode.BODY_TOO_LARGE, "The body is larger than 4 MB.")
        parts.append(chunk)
    body = b"".join(parts)
    refuse_beyond(request, body)
    return body


async def retried(request: Request, actor: Actor, act: Callable[[Actor], Awaitable[T]]) -> T:
    """Do a verb; where the vault has moved meanwhile, open it anew from the presented key and
    repeat, a few times at most."""
    for _ in range(TRIES):
        try:
            return await act(actor)
        except StaleVaultError:
            request.app.state.desk.directory.drop(actor.owner_id)
        actor = await actor_of(request)
    raise ManageError(ErrorCode.CONFLICT, "The vault was changed at the same time; repeat.")


def every_body_is_json(app: App) -> App:
    """Bodies here are JSON whatever their content type says (``curl -d`` calls them a form)."""

    async def read_as_json(scope: Any, receive: Any, send: Any) -> None:
        kept = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
        scope["headers"] = [*kept, (b"content-type", b"application/json")]
        await app(scope, receive, send)

    return read_as_json


def sender_of(management: FastAPI) -> Callable[[Any], Awaitable[str | Refusal]]:
    """Whose a request is, by its head alone: the owner's of its key, or the operator's. Without a key
    only a recovery code is read."""

    async def sender(scope: Any) -> str | Refusal:
        if scope["path"] == RECOVERY:
            return ""
        request = Request({**scope, "app": management})
        if await is_operator(desk_of(request).database, operator_token(request)):
            return "operator"
        try:
            return (await actor_of(request)).owner_id
        except ManageError as error:
            return Refusal(error.code, error.detail)

    return sender


async def refuse(scope: Any, receive: Any, send: Any, refusal: Refusal) -> None:
    """Answer a request whose body is not read."""
    await problem(refusal.code, refusal.message)(scope, receive, send)


def operator_token(request: Request) -> str:
    """The operator's session token as it came."""
    cookies = request.cookies
    return cookies.get(SECURE_COOKIE) or cookies.get(PLAIN_COOKIE, "")


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


async def paged(
    actor: Actor,
    items: Iterable[S],
    next_cursor: str | None = None,
    view: Callable[[S], object] | None = None,
) -> Response:
    """A page of items, or of a view of each, written down in short steps."""
    body = await encoded_page(items, next_cursor, actor.owner_id, view)
    return Response(body, media_type="application/json")


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
"""A body that is checked further in."""
Answer = Mapping[str, object]
"""A reply's JSON object; what it holds is typed where it is made, in ``manage``."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request, and what the request acts on."""

    request: Request
    desk: Desk
    actor: Actor

    async def retried(self, act: Callable[[Actor], Awaitable[T]]) -> T:
        """``retried`` for this request."""
        return await retried(self.request, self.actor, act)


def caller_of(request: Request, desk: TheDesk, actor: TheActor) -> Caller:
    return Caller(request, desk, actor)


TheCaller = Annotated[Caller, Depends(caller_of)]
