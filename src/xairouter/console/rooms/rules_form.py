"""The rules document as the fields of a form, and back. Pure: text in, text out."""

from collections.abc import Mapping, Sequence
from typing import Any

from xairouter.domain.rules import LIMIT_NAMES
from xairouter.errors import ErrorCode, ManageError
from xairouter.manage.rules import SourceView

LISTS = ("allow_models", "allow_paths", "allow_ips", "allow_levels")
BUDGETS = ("day_usd", "month_usd", "total_usd")
SPARE_ROWS = 2
MOST_ROWS = 200


def fields_of(own: Mapping[str, Any]) -> dict[str, str]:
    """A document as form fields, as a browser would send them."""
    fields: dict[str, str] = {}
    for name in LISTS:
        if own.get(name) is not None:
            fields[f"{name}_own"] = "on"
            fields[name] = "\n".join(str(one) for one in own[name])
    for name, value in (own.get("limits") or {}).items():
        fields[f"limits.{name}"] = _text(value)
    for name, value in (own.get("budget") or {}).items():
        fields[f"budget.{name}"] = _text(value * 100 if name == "notify_at" else value)
    for number, (pattern, limits) in enumerate((own.get("model_limits") or {}).items()):
        fields[f"model_limits.{number}.pattern"] = pattern
        for name, value in (limits or {}).items():
            fields[f"model_limits.{number}.{name}"] = _text(value)
    for number, (pattern, model) in enumerate((own.get("model_map") or {}).items()):
        fields[f"model_map.{number}.pattern"] = pattern
        fields[f"model_map.{number}.model"] = model
    fields["max_output_tokens"] = _text(own.get("max_output_tokens"))
    return fields


def rows(fields: Mapping[str, str], front: str) -> int:
    """How many rows of a group a form shows: those that are filled, and some to spare."""
    filled = [
        int(parts[1])
        for name, value in fields.items()
        if value
        and (parts := name.split("."))[0] == front
        and len(parts) == 3
        and parts[1].isdecimal()
        and len(parts[1]) < 6
    ]
    return min(MOST_ROWS, max(filled, default=-1) + 1 + SPARE_ROWS)


def document_of(fields: Mapping[str, str]) -> dict[str, Any]:
    """The document that a form says; raises ManageError where a field is no number. Whether the
    document holds is for ``manage.rules``."""
    document: dict[str, Any] = {}
    for name in LISTS:
        if fields.get(f"{name}_own"):
            lines = [line.strip() for line in fields.get(name, "").splitlines()]
            found: list[Any] = [line for line in lines if line]
            if name == "allow_levels":
                words = fields.get(name, "").replace(",", " ").split()
                found = [_whole(name, word) for word in words]
            document[name] = found
    limits = {
        name: _whole(f"limits.{name}", text)
        for name in LIMIT_NAMES
        if (text := fields.get(f"limits.{name}", ""))
    }
    budget = {
        name: _money(f"budget.{name}", text)
        for name in BUDGETS
        if (text := fields.get(f"budget.{name}", ""))
    }
    if share := fields.get("budget.notify_at", ""):
        budget["notify_at"] = _money("budget.notify_at", share.rstrip("% ")) / 100
    if limits:
        document["limits"] = limits
    if budget:
        document["budget"] = budget
    document |= _grouped(fields)
    if text := fields.get("max_output_tokens", ""):
        document["max_output_tokens"] = _whole("max_output_tokens", text)
    return document


def _grouped(fields: Mapping[str, str]) -> dict[str, Any]:
    """The limits by model, and the map of models, from their rows."""
    by_model: dict[str, dict[str, int]] = {}
    mapped: dict[str, str] = {}
    for number in range(MOST_ROWS):
        front = f"model_limits.{number}"
        values = {
            name: _whole(f"{front}.{name}", text)
            for name in LIMIT_NAMES
            if (text := fields.get(f"{front}.{name}", ""))
        }
        pattern = fields.get(f"{front}.pattern", "")
        if values and not pattern:
            raise ManageError(
                ErrorCode.INVALID_FIELD,
                "A row of limits names no model.",
                {f"{front}.pattern": "a model, or a pattern such as claude-*"},
            )
        if values:
            by_model[pattern] = values
        asked = fields.get(f"model_map.{number}.pattern", "")
        used = fields.get(f"model_map.{number}.model", "")
        if bool(asked) != bool(used):
            side = "model" if asked else "pattern"
            raise ManageError(
                ErrorCode.INVALID_FIELD,
                "A row of the model map has only one side.",
                {f"model_map.{number}.{side}": "is missing"},
            )
        if asked:
            mapped[asked] = used
    found: dict[str, Any] = {}
    if by_model:
        found["model_limits"] = by_model
    if mapped:
        found["model_map"] = mapped
    return found


def _whole(name: str, text: str) -> int:
    plain = text.replace(",", "").replace("_", "").replace(" ", "")
    if not plain.isascii() or not plain.isdigit() or len(plain) > 15:
        raise ManageError(
            ErrorCode.INVALID_FIELD, f"“{text[:32]}” is no whole number.", {name: "a whole number"}
        )
    return int(plain)


def _money(name: str, text: str) -> float:
    try:
        value = float(text.replace(",", "").lstrip("$ "))
    except ValueError:
        raise ManageError(
            ErrorCode.INVALID_FIELD,
            f"“{text[:32]}” is no amount.",
            {name: "a number such as 12.50"},
        ) from None
    return value


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.9f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def lines_of(
    effective: Mapping[str, object], sources: Sequence[SourceView]
) -> list[dict[str, Any]]:
    """Effective rules as lines: ``rule``, ``value``, and ``from``, the accounts that say it."""
    told: dict[str, list[SourceView]] = {}
    for source in sources:
        told.setdefault(source["rule"], []).append(source)
    lines = []
    for rule, value in _flat(effective):
        fronts = [rule, rule.rpartition(".")[0], rule.partition(".")[0]]
        found = next((told[front] for front in fronts if front in told), [])
        lines.append({"rule": rule, "value": value, "from": found})
    return lines


def _flat(document: Mapping[str, Any], front: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in document.items():
        rule = f"{front}{name}"
        if isinstance(value, Mapping):
            found += _flat(value, f"{rule}.")
        elif value is not None:
            found.append((rule, value))
    return found
