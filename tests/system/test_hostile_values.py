"""Values that break parsers, in every field, query parameter and form of the management plane: each is
answered by a problem that says so, never by a fault of ours."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import quote

import pytest
import structlog

from tests.rig import Rig
from tests.system.test_console_security import filled, furnished, signed_in
from xairouter.api.application import management_app
from xairouter.policy.owner_prices import UNITS

pytestmark = pytest.mark.shared_rig

DIGITS = "9" * 5000
DEEP = "[" * 10_000 + "]" * 10_000
ALL = {
    "5,000 digits": DIGITS,
    "minus 5,000 digits": f"-{DIGITS}",
    "5,000 digits behind the point": f"0.{DIGITS}e9999",
    "1e400": "1e400",
    "-1e400": "-1e400",
    "NaN": "NaN",
    "Infinity": "Infinity",
    "-Infinity": "-Infinity",
    "2^63": str(2**63),
    "2^64": str(2**64),
    "true": "true",
    "a string": '"1"',
    "deep": DEEP,
    "lone surrogate": r'"\ud800"',
    "NUL": r'"\u0000"',
}
"""JSON (or nearly) that no number field here takes."""
DATES = {
    text: json.dumps(text)
    for text in (
        "0001-01-01",
        "9999-12-31",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "1e400",
        DIGITS,
    )
}
"""Text that some fields read as a moment or a number."""
HOLE = "the value under test"
DOCUMENT = management_app().openapi()
LEFT_OUT = {
    ("post", "/api/v1/me/take-over"),  # it ends the key that the other requests need
}
Place = tuple[str, str, str, dict[str, Any]]


def _resolved(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """A schema itself, of a reference or of a value that may be null as well."""
    for choice in schema.get("anyOf", ()):
        if choice.get("type") != "null":
            return _resolved(choice, root)
    if "$ref" not in schema:
        return schema
    found: Any = root if schema["$ref"].startswith("#/$defs") else DOCUMENT
    for part in schema["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return _resolved(found, root)


def _example(schema: dict[str, Any], root: dict[str, Any]) -> Any:
    """A valid value, as small as can be."""
    schema = _resolved(schema, root)
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    if kind == "object":
        return {
            name: _example(schema["properties"][name], root) for name in schema.get("required", ())
        }
    return {"string": "1", "integer": 1, "number": 1, "boolean": False, "array": []}[kind]


def _holes(schema: dict[str, Any], root: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """(where, type, a value that is valid but for the hole there), for every value of a schema."""
    schema = _resolved(schema, root)
    kind = schema.get("type", "object")
    yield "", kind, HOLE
    if kind == "array":
        for where, inner, value in _holes(schema.get("items", {"type": "string"}), root):
            yield f"[]{where}", inner, [value]
        return
    for name, field in schema.get("properties", {}).items():
        for where, inner, value in _holes(field, root):
            yield f".{name}{where}", inner, {**_example(schema, root), name: value}
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict) and extra:
        for where, inner, value in _holes(extra, root):
            yield f".1{where}", inner, {"1": value}


def _operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            if (method, path) not in LEFT_OUT:
                yield method, path, operation


UNDESCRIBED: dict[tuple[str, str], list[tuple[str, Any]]] = {
    ("post", "/api/v1/accounts"): [
        ("integer", {"name": "1", "rules": {"limits": {"rpm": HOLE}}}),
        ("number", {"name": "1", "rules": {"budget": {"total_usd": HOLE}}}),
    ],
    ("put", "/api/v1/prices"): [
        ("object", {"1": HOLE}),
        *(("price", {"1": {unit: HOLE}}) for unit in UNITS),
    ],
    ("put", "/api/v1/routing"): [
        ("array", {"switch_over": {"1": HOLE}}),
        ("integer", {"switch_over": {"1": [HOLE]}}),
    ],
    ("patch", "/api/v1/provider-keys/{key_id}"): [
        ("string", {"name": HOLE}),
        ("integer", {"level": HOLE}),
        ("integer", {"weight": HOLE}),
        ("array", {"models": HOLE}),
        ("string", {"models": [HOLE]}),
        ("string", {"status": HOLE}),
        ("object", {"endpoints": HOLE}),
        ("string", {"secret": HOLE}),
    ],
    ("post", "/api/v1/audit/check"): [
        (kind, {"epoch": 1, "seq": 1, "hash": "1", "owner_id": "1", name: HOLE})
        for name, kind in (("seq", "integer"), ("epoch", "integer"), ("hash", "string"))
    ],
}
"""Fields of bodies that other code than the described models reads: their type, and a body."""


def _bodies(method: str, path: str, operation: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(type, body with a hole) for every value that an operation's body may hold."""
    content = operation.get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema")
    if schema is None:
        return
    found = [(kind, body) for _, kind, body in _holes(schema, schema)]
    for kind, body in found + UNDESCRIBED.get((method, path), []):
        yield kind, json.dumps(body)


BY_FIELD = {
    **dict.fromkeys(("integer", "number"), ("2^64", "true", "a string")),
    "price": ("2^64", "true"),  # a price may be a decimal as text
    "boolean": ("2^64", "a string"),
    **dict.fromkeys(("object", "array"), ("2^64", "true", "a string")),
    "string": ("true",),
}
"""What each field's own type refuses: sent to every field of the type."""
BY_PARSER = {name: ALL[name] for name in ALL if name not in ("2^63", "2^64", "true", "a string")}
"""What is no JSON, or none that the parser takes, whatever the field: a body's first field gets all, and
each other field the next two."""


def _values(kind: str, number: int) -> Iterator[str]:
    """The values for a body's field of that number."""
    yield from (ALL[name] for name in BY_FIELD[kind])
    every = list(BY_PARSER.values())
    yield from _turn(every, number) if number else every


def _turn(values: list[str], number: int) -> list[str]:
    """Two of the values: the next ones with each number."""
    return [values[(2 * number + more) % len(values)] for more in (0, 1)]


class _Hostile:
    """Sends hostile requests and keeps what was not answered as it should be."""

    def __init__(self, rig: Rig, ids: dict[str, str]) -> None:
        self._rig, self._ids = rig, ids
        self.failed: list[str] = []

    async def send(self, method: str, path: str, body: str | None, *, refused: bool) -> None:
        for name, value in self._ids.items():
            path = path.replace(f"{{{name}}}", value)
        data = None if body is None else body.encode()
        answer = await self._rig.ask(method, path, data)
        shown = f"{method} {path[:160]} {(body or '')[:160]}: {answer.status} {answer.body[:200]!r}"
        if answer.status >= 500 or (refused and answer.status < 400):
            self.failed.append(shown)
        elif answer.status >= 400:
            kind = answer.headers["content-type"]
            problem = answer.json() if kind == "application/problem+json" else {}
            if problem.get("status") != answer.status or not problem["detail"].endswith("."):
                self.failed.append(shown)


@pytest.fixture
async def hostile(rig: Rig) -> AsyncIterator[_Hostile]:
    """Ready to send; at the end, everything was answered well and no fault was logged."""
    made = await rig.add_account("hostile")
    provider_key = await rig.add_provider_key()
    ids = {
        "account_id": made["account"]["id"],
        "key_id": made["key"]["id"],
        "provider_key_id": provider_key["id"],
        "owner_id": rig.owner_id,
        "notice_id": "ntc_1",
    }
    sender = _Hostile(rig, ids)
    with structlog.testing.capture_logs() as logs:
        yield sender
    assert sender.failed == []
    assert [line for line in logs if "exc_info" in line or line["log_level"] == "error"] == []


OPERATIONS = [
    pytest.param(method, path, operation, id=f"{method} {path}")
    for method, path, operation in _operations()
]


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
async def test_no_value_in_a_body_is_a_fault(
    hostile: _Hostile, method: str, path: str, operation: dict[str, Any]
):
    path = path.replace("provider-keys/{key_id}", "provider-keys/{provider_key_id}")
    for number, (kind, body) in enumerate(_bodies(method, path, operation)):
        for value in _values(kind, number):
            await hostile.send(method, path, body.replace(json.dumps(HOLE), value), refused=True)
        if kind == "string":
            for value in _turn(list(DATES.values()), number):
                filled_in = body.replace(json.dumps(HOLE), value)
                await hostile.send(method, path, filled_in, refused=False)


IN_URLS = {
    **{name: value.strip('"') for name, value in {**ALL, **DATES}.items()},
    "NUL": "\0",
    "lone surrogate": "%ed%a0%80",
    "another 1": "\N{SUPERSCRIPT ONE}",
    "nothing": "",
}


def _quoted(value: str) -> str:
    return value if value.startswith("%") else quote(value, safe="")


@pytest.mark.both
async def test_no_value_in_a_path_or_a_query_is_a_fault(hostile: _Hostile):
    short = {name: value for name, value in IN_URLS.items() if len(value) < 10_000}
    odd = list(short.values())
    parameters = (
        (method, path, parameter)
        for method, path, operation in _operations()
        for parameter in operation.get("parameters", ())
    )
    for number, (method, path, parameter) in enumerate(parameters):
        name = parameter["name"]
        kind = _resolved(parameter.get("schema", {}), DOCUMENT).get("type")
        is_read = kind in ("integer", "number") or name in ("from", "to", "at", "cursor")
        for value in odd if is_read else _turn(odd, number):
            if parameter["in"] == "query":
                refused = kind in ("integer", "number") and value not in ("1", "")
                url = f"{path}?{name}={_quoted(value)}"
                await hostile.send(method, url, None, refused=refused)
            elif parameter["in"] == "path" and method != "delete":
                url = path.replace(f"{{{name}}}", _quoted(value)[:2000] or "%20")
                await hostile.send(method, url, None, refused=False)


FIELD = re.compile(r"<(input|select|textarea|button)\b([^>]*)>")
FORM_VALUES = [*IN_URLS.values(), "-0", "inf", "1_0", "999999999999999999"]


def _forms(page: bytes) -> Iterator[tuple[str, str, dict[str, str]]]:
    """(method, action, fields) of every form on a page: what a person does not type has its value."""
    for form in re.findall(r"<form\b.*?</form>", page.decode(), re.S):
        method = re.search(r'method="(\w+)"', form)
        action = re.search(r'action="([^"]*)"', form)
        fields = {}
        for tag, attributes in FIELD.findall(form):
            given = dict(re.findall(r'\b(name|value|type)="([^"]*)"', attributes))
            is_set = tag == "button" or given.get("type") == "hidden"
            if "name" in given:
                fields[given["name"]] = given.get("value", "") if is_set else "1"
        if action:
            yield (method[1].upper() if method else "GET"), action[1], fields


PAGES = (
    "/console/provider-keys",
    "/console/provider-keys/{key_id}",
    "/console/accounts",
    "/console/accounts/new",
    "/console/accounts/{account_id}",
    "/console/accounts/{account_id}/rules",
    "/console/routing",
    "/console/usage",
    "/console/calls",
    "/console/explain",
    "/console/operations",
    "/console/playground",
    "/console/notices",
    "/console/settings",
)
ENDING = ("/sign-out", "/delete", "/status", "/take-over", "/vault", "/theme", "/panic")
"""Forms that end what the others need, and have no field to type in."""


@pytest.mark.parametrize("page", PAGES)
async def test_no_value_in_a_form_or_an_address_of_the_console_is_a_fault(rig: Rig, page: str):
    ids = await furnished(rig)
    browser = await signed_in(rig)
    path = filled(page, ids)
    shown = await browser.ask("GET", path)
    assert shown.status == 200
    failed = []
    with structlog.testing.capture_logs() as logs:
        names = ("q", "at", "from", "to", "range", "status", "cursor", "max_output_tokens")
        short = [value for value in FORM_VALUES if len(value) < 10_000]
        for number, name in enumerate(names, PAGES.index(page)):
            for value in _turn(short, number):
                extra = "&model=m" if "explain" in page else ""
                extra += "&from=2026-01-01" if name == "to" else ""
                answer = await browser.ask("GET", f"{path}?{name}={_quoted(value)}{extra}")
                if answer.status >= 500:
                    failed.append(f"GET {path}?{name}={value[:40]!r}: {answer.status}")
        for method, action, plain in _forms(shown.body):
            if method != "POST" or action.partition("?")[0].endswith(ENDING):
                continue
            plain.pop("version", None)
            sent = [
                {**plain, name: value}
                for number, name in enumerate(plain)
                for value in _turn(FORM_VALUES, number)
            ]
            odd = (DIGITS, "\N{SUPERSCRIPT ONE}")
            sent += [{re.sub(r"\b\d+\b", one, name): "1" for name in plain} for one in odd]
            for fields in sent:
                answer = await browser.ask("POST", action or path, **fields)
                if answer.status >= 500:
                    odd_one = {n: v[:40] for n, v in fields.items() if v != "1"}
                    failed.append(f"POST {action} {odd_one}: {answer.status}")
    assert failed == []
    assert [line for line in logs if "exc_info" in line or line["log_level"] == "error"] == []
