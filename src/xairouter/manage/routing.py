"""An owner's routing: which level serves a model, where to go on when a level or a model fails."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from xairouter.manage.desk import Actor, Desk, change, require
from xairouter.manage.fields import problems_of
from xairouter.manage.versions import refuse_stale
from xairouter.storage import owners


def _pattern(text: str) -> str:
    if not 0 < len(text) <= 256 or not text.isprintable():
        raise ValueError("must have 1 to 256 visible characters")
    return text


def _model(text: str) -> str:
    if "*" in text:
        raise ValueError("must be a name, which has no star")
    return _pattern(text)


Level = Annotated[int, Field(ge=1, le=1_000_000, strict=True)]
LevelName = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,6}$")]
Pattern = Annotated[str, AfterValidator(_pattern)]
Model = Annotated[str, AfterValidator(_model)]


class RoutingBody(BaseModel):
    """``level_map``: model pattern → level. ``switch_over``: level → levels to go on to.
    ``model_failover``: model pattern → models to go on to."""

    model_config = ConfigDict(extra="forbid")

    level_map: Annotated[dict[Pattern, Level], Field(max_length=500)] = {}
    switch_over: Annotated[
        dict[LevelName, Annotated[list[Level], Field(max_length=50)]], Field(max_length=200)
    ] = {}
    model_failover: Annotated[
        dict[Pattern, Annotated[list[Model], Field(max_length=20)]], Field(max_length=500)
    ] = {}


async def get_routing(desk: Desk, actor: Actor) -> dict[str, Any]:
    require(actor, "routing.read")
    async with desk.database.read() as connection:
        owner = await owners.get_owner(connection, actor.owner_id)
    assert owner is not None
    return RoutingBody.model_validate(owner.routing).model_dump()


async def put_routing(
    desk: Desk, actor: Actor, document: dict[str, Any], expected: str | None = None
) -> dict[str, Any]:
    """Replace the owner's routing; raises ManageError with the fields that are wrong, or where
    ``expected`` is not the version that there is."""
    require(actor, "routing.change")
    wanted = checked_routing(document)
    async with change(desk, actor, "routing.change", actor.owner_id) as made:
        owner = await owners.get_owner(made.connection, actor.owner_id)
        assert owner is not None
        refuse_stale(expected, RoutingBody.model_validate(owner.routing).model_dump())
        await owners.update_owner(made.connection, actor.owner_id, routing=wanted)
        made.detail = {"before": dict(owner.routing), "after": wanted}
    return wanted


def checked_routing(document: dict[str, Any]) -> dict[str, Any]:
    """A whole routing document; raises ManageError."""
    try:
        return RoutingBody.model_validate(document).model_dump()
    except ValidationError as error:
        failed = problems_of(error)
    raise failed
