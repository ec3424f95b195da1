"""Validation problems as our own error: field names and rules, never the input."""

from pydantic import ValidationError

from xairouter.errors import ManageError


def problems_of(error: ValidationError) -> ManageError:
    """A pydantic error as ``unknown_field`` or ``invalid_field``."""
    fields: dict[str, str] = {}
    unknown = False
    for row in error.errors(include_input=False, include_url=False, include_context=False):
        name = ".".join(str(part)[:64] for part in row["loc"]) or "body"
        if row["type"] == "extra_forbidden":
            unknown = True
            fields[name] = "unknown"
        else:
            fields[name] = row["msg"]
    named = ", ".join(f"`{name}`" for name in fields)
    if unknown:
        return ManageError("unknown_field", f"Unknown or wrong: {named}.", fields)
    return ManageError("invalid_field", f"Not possible: {named}.", fields)
