"""Bodies of the management plane: how much they may hold, and validation problems as our own error:
field names and rules, never the input.

What a validator does with a body is one step of the event loop, and each fault costs as much as many
right values. So a body with more members than there are fields to name is refused as a whole.
"""

from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from xairouter.errors import ErrorCode, ManageError

Fields = TypeVar("Fields", bound=BaseModel)
MOST_MEMBERS = 64
"""Members of an object whose fields are known."""
UNKNOWN = "extra_forbidden"
MOST_PROBLEMS = 20
"""Problems that are named."""


class Document(BaseModel):
    """Base of all bodies: no unknown fields, and none of very many."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _has_few_members(cls, given: object) -> object:
        return _few(given, MOST_MEMBERS)


def at_most(count: int) -> BeforeValidator:
    """A list or map of so many at most, found out before any of them is looked at."""
    return BeforeValidator(lambda given: _few(given, count))


def _few(given: object, most: int) -> object:
    if isinstance(given, dict | list) and len(given) > most:
        raise ValueError(f"has {len(given)} members; at most {most}")
    return given


def refused(rows: Sequence[tuple[Sequence[int | str], str, str]]) -> ManageError:
    """The first of some problems (place, kind, words), as ``unknown_field`` or ``invalid_field``."""
    fields: dict[str, str] = {}
    unknown = False
    for where, kind, words in rows:
        place = [str(part)[:64] for part in where if part not in ("body", "query")]
        unknown = unknown or kind == UNKNOWN
        fields[".".join(place)[:300] or "body"] = "unknown" if kind == UNKNOWN else words
        if len(fields) == MOST_PROBLEMS:
            break
    named = ", ".join(f"`{name}`" for name in fields)
    if len(rows) > MOST_PROBLEMS:
        named += f" and more, {len(rows)} in all"
    if unknown:
        return ManageError(ErrorCode.UNKNOWN_FIELD, f"Unknown or wrong: {named}.", fields)
    return ManageError(ErrorCode.INVALID_FIELD, f"Not possible: {named}.", fields)


def validated(model: type[Fields], given: object) -> Fields:
    """A body as ``model``; raises ManageError that names what is wrong."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        failed = problems_of(error)
    raise failed


def problems_of(error: ValidationError) -> ManageError:
    """A pydantic error as ``unknown_field`` or ``invalid_field``."""
    rows = error.errors(include_input=False, include_url=False, include_context=False)
    return refused([(row["loc"], row["type"], row["msg"]) for row in rows])
