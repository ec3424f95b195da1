"""An owner's routing: which level serves a model, where to go on when a level or a model fails."""

from collections.abc import Mapping
from typing import Annotated, TypedDict, cast

from pydantic import AfterValidator, Field

from xairouter.domain.calls import LONGEST_MODEL
from xairouter.domain.permissions import Permission
from xairouter.manage.desk import Actor, Desk, change, require
from xairouter.manage.fields import Document, at_most, validated
from xairouter.manage.versions import refuse_stale
from xairouter.policy.patterns import MOST_STARS
from xairouter.policy.routing import is_model_name
from xairouter.storage import owners


def _pattern(text: str) -> str:
    if not 0 < len(text) <= LONGEST_MODEL or not text.isprintable():
        raise ValueError(f"must have 1 to {LONGEST_MODEL} visible characters")
    if text.count("*") > MOST_STARS:
        raise ValueError(f"has at most {MOST_STARS} stars")
    return text


def _model(text: str) -> str:
    if "*" in text:
        raise ValueError("must be a name, which has no star")
    if not is_model_name(text):
        raise ValueError("must be a name, which has no segment of dots")
    return _pattern(text)


Level = Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
LevelName = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,6}$")]
Pattern = Annotated[str, AfterValidator(_pattern)]
Model = Annotated[str, AfterValidator(_model)]


class RoutingBody(Document):
    """``level_map``: model pattern → level. ``switch_over``: level → levels to go on to.
    ``model_failover``: model pattern → models to go on to."""

    level_map: Annotated[dict[Pattern, Level], Field(max_length=500), at_most(500)] = Field({})
    switch_over: Annotated[
        dict[LevelName, Annotated[list[Level], Field(fail_fast=True, max_length=50)]],
        Field(max_length=200),
        at_most(200),
    ] = Field({})
    model_failover: Annotated[
        dict[Pattern, Annotated[list[Model], Field(fail_fast=True, max_length=20)]],
        Field(max_length=500),
        at_most(500),
    ] = Field({})


class RoutingView(TypedDict):
    """The same as it is shown and stored."""

    level_map: dict[str, int]
    switch_over: dict[str, list[int]]
    model_failover: dict[str, list[str]]


def _view(stored: Mapping[str, object]) -> RoutingView:
    return cast(RoutingView, RoutingBody.model_validate(stored).model_dump())


async def get_routing(desk: Desk, actor: Actor) -> RoutingView:
    require(actor, Permission.ROUTING_READ)
    async with desk.database.read() as connection:
        owner = await owners.get_owner(connection, actor.owner_id)
    assert owner is not None
    return _view(owner.routing)


async def put_routing(
    desk: Desk, actor: Actor, document: Mapping[str, object], expected: str | None = None
) -> RoutingView:
    """Replace the owner's routing; raises ManageError with the fields that are wrong, or where
    ``expected`` is not the version that there is."""
    require(actor, Permission.ROUTING_CHANGE)
    wanted = checked_routing(document)
    async with change(desk, actor, Permission.ROUTING_CHANGE, actor.owner_id) as made:
        owner = await owners.get_owner(made.connection, actor.owner_id)
        assert owner is not None
        refuse_stale(expected, _view(owner.routing))
        await owners.update_owner(made.connection, actor.owner_id, routing=wanted)
        made.detail = {"before": dict(owner.routing), "after": wanted}
    return wanted


def checked_routing(document: Mapping[str, object]) -> RoutingView:
    """A whole routing document; raises ManageError."""
    return cast(RoutingView, validated(RoutingBody, document).model_dump())
