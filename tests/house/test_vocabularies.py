"""Closed vocabularies have one definition each, and nobody spells their words a second time."""

import ast
import importlib
import inspect
import pkgutil
import typing
from enum import StrEnum
from pathlib import Path

import pytest

import xairouter
from tests.rows import for_each
from xairouter.api import bodies
from xairouter.domain.accounts import (
    AccountStatus,
    KeyHealth,
    KeyScope,
    KeyStatus,
    ProviderKeyStatus,
)
from xairouter.domain.failures import Cause
from xairouter.domain.notices import Notice
from xairouter.domain.permissions import ActedBy, Permission, Reach, Role, SystemChange
from xairouter.domain.records import Outcome, UsageSource
from xairouter.domain.slots import SlotPurpose
from xairouter.errors import ERRORS, ErrorCode
from xairouter.manage.permissions import PERMISSIONS

SOURCE = Path(__file__).parent.parent.parent / "src" / "xairouter"

STORED: dict[type[StrEnum], str] = {
    AccountStatus: "active suspended deleted",
    KeyStatus: "active suspended deleted",
    KeyScope: "call manage",
    ProviderKeyStatus: "active disabled",
    KeyHealth: "ok rejected altered",
    Outcome: "completed upstream_error client_gone interrupted refused",
    UsageSource: "reported estimated none",
    Notice: "key_rejected key_sleeping key_altered price_unknown journal_backlog journal_damaged "
    "usage_damaged budget_threshold test",
    ActedBy: "key operator link invitation recovery refresh expiry",
    SlotPurpose: "api_key recovery automation session invitation",
    Cause: "key_rejected key_limited out_of_credit model_overloaded provider_failed unreachable "
    "endpoint_absent address_limited request_too_large client_fault",
    Role: "owner manager member",
    Reach: "tree below self",
    SystemChange: "owner.create owner.suspend owner.resume owner.delete recover invitation.accept "
    "session.kept slot.expired provider_keys.refresh",
}
"""Words that stand in databases, journals and replies of released versions: never renamed."""


@pytest.mark.parametrize("vocabulary", STORED, ids=lambda one: one.__name__)
def test_stored_words_stay(vocabulary: type[StrEnum]):
    assert " ".join(vocabulary) == STORED[vocabulary]


def test_every_error_code_has_its_row():
    assert list(ERRORS) == list(ErrorCode)
    assert all(code == row.code == code.lower() for code, row in ERRORS.items())


def test_every_permission_has_its_row():
    assert list(PERMISSIONS) == list(Permission)
    assert all(member.name == member.replace(".", "_").upper() for member in Permission)


BODIES: dict[tuple[str, str], type[StrEnum]] = {
    ("AccountChange", "status"): AccountStatus,
    ("KeyNew", "scope"): KeyScope,
    ("KeyChange", "status"): KeyStatus,
    ("OwnerChange", "status"): AccountStatus,
}


def test_request_bodies_take_words_of_a_vocabulary():
    """The bodies state them as literals, so that the schema shows them in place."""
    found = {
        (body.__name__, name): typing.get_args(part)
        for body in vars(bodies).values()
        for name, field in getattr(body, "model_fields", {}).items()
        for part in (field.annotation, *typing.get_args(field.annotation))
        if typing.get_origin(part) is typing.Literal
    }
    assert found.keys() == BODIES.keys()
    for where, words in found.items():
        assert set(words) <= set(BODIES[where]), where


MODULES = [
    importlib.import_module(found.name)
    for found in pkgutil.walk_packages(xairouter.__path__, "xairouter.")
    if ".migrations" not in found.name and not found.name.endswith("__main__")
]
CLASSES = {
    one
    for module in MODULES
    for one in vars(module).values()
    if isinstance(one, type) and one.__module__ == module.__name__
}


def _fields_of_vocabularies() -> set[str]:
    """Names of fields that hold a word of a vocabulary, in any value of ours; most fields of the name
    ``name`` hold none."""
    return {
        name
        for one in CLASSES
        if not issubclass(one, StrEnum)
        for name, hint in inspect.get_annotations(one).items()
        if isinstance(hint, type) and issubclass(hint, StrEnum) and name != "name"
    }


def _literal_comparisons(text: str, fields: set[str]) -> list[str]:
    """Where a field of a vocabulary is compared with a word in quotation marks: such a word may be
    misspelt, and no type checker would see it."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Compare):
            continue
        sides = [node.left, *node.comparators]
        inside = [one for side in sides for one in ast.walk(side)]
        words = [one for one in inside if isinstance(one, ast.Constant)]
        if any(isinstance(side, ast.Attribute) and side.attr in fields for side in sides) and any(
            isinstance(word.value, str) for word in words
        ):
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def test_the_fields_are_found():
    found = _fields_of_vocabularies()
    assert {"status", "scope", "health", "outcome", "usage_source", "purpose", "cause"} <= found
    assert {"code", "actor", "kind", "unit", "state", "verb"} <= found


@for_each(
    "text",
    ['key.health == "rejcted"', 'error.code in ("not_fond",)', '"actve" != account.status'],
)
def test_a_word_in_quotation_marks_is_seen(text: str):
    assert _literal_comparisons(text, _fields_of_vocabularies())


def test_no_word_of_a_vocabulary_is_spelt_in_a_comparison():
    """Migrations say what was true when they were written."""
    fields = _fields_of_vocabularies()
    found = {
        str(path.relative_to(SOURCE)): wrong
        for path in SOURCE.rglob("*.py")
        if "migrations" not in path.parts
        and (wrong := _literal_comparisons(path.read_text(), fields))
    }
    assert found == {}


_TELLING: list[type[StrEnum]] = [ErrorCode, *(STORED.keys() - {Role, Reach, UsageSource, ActedBy})]
WORDS = {word.value for vocabulary in _TELLING for word in vocabulary}
"""Words of vocabularies that hardly anything else is called."""
ELSEWHERE = {
    "api/bodies.py": "active suspended call manage",  # Compared with the vocabularies above.
    "api/problems.py": "call",
    "console/rooms/accounts.py": "suspended",
    "console/rooms/find.py": "call",
    "console/rooms/operations.py": "session",
    "console/rooms/overview.py": "ok refused",
    "console/rooms/settings.py": "recovery",
    "domain/permissions.py": "ok",
    "gateway/asgi.py": "call",
    "gateway/link.py": "call",
    "gateway/readiness.py": "ok",
    "imports/litellm.py": "api_key",
    "imports/litellm_names.py": "api_key",
    "ledger/journal.py": "ok",
    "manage/expire.py": "call",
    "manage/herald.py": "journal_backlog",
    "manage/owners.py": "recovery",
    "manage/vault.py": "automation",
}
"""By file, the same words with another meaning: a key's name, a line of the log, a page's."""
FOREIGN = ("dialects", "providers", "standin", "storage")
"""They speak the providers' words, and name columns."""


def _spelt(text: str) -> set[str]:
    """Words of vocabularies in quotation marks, but for keys of dictionaries, which are names."""
    nodes = list(ast.walk(ast.parse(text)))
    names = {id(key) for node in nodes if isinstance(node, ast.Dict) for key in node.keys}
    names |= {id(node.slice) for node in nodes if isinstance(node, ast.Subscript)}
    names |= {
        id(inside)
        for node in nodes
        if isinstance(node, ast.ClassDef) and "StrEnum" in map(ast.unparse, node.bases)
        for inside in ast.walk(node)
    }
    constants = [node for node in nodes if isinstance(node, ast.Constant)]
    return {
        node.value
        for node in constants
        if id(node) not in names and isinstance(node.value, str) and node.value in WORDS
    }


@for_each(
    "text",
    [
        'form.get("status") == "disabled"',
        'change({"status": "suspended"})',
        'write(actor=x, result="forbidden")',
        'state: str = "rejected"',
        'match x:\n    case "completed":\n        pass',
    ],
)
def test_a_word_that_is_spelt_a_second_time_is_seen(text: str):
    assert _spelt(text)


def test_words_of_vocabularies_stand_in_their_vocabularies_alone():
    found = {
        name: words
        for path in SOURCE.rglob("*.py")
        if (name := str(path.relative_to(SOURCE))).partition("/")[0] not in FOREIGN
        if (words := _spelt(path.read_text()))
    }
    assert found == {name: set(words.split()) for name, words in ELSEWHERE.items()}
