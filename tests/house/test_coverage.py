"""The list of files of which the tests reach too little: it has a reason for each, and only shrinks."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
_spec = importlib.util.spec_from_file_location("uncovered", ROOT / "scripts" / "uncovered.py")
assert _spec is not None
assert _spec.loader is not None
uncovered = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(uncovered)


def test_each_listed_file_is_there_below_the_mark_and_has_a_reason():
    for name, one in uncovered.read(uncovered.LIST.read_text()).items():
        assert (ROOT / name).is_file(), name
        assert one.percent < uncovered.ENOUGH, name
        assert one.rest, name


LISTED = {"a.py": (70.0, "races")}


@pytest.mark.parametrize(
    ("found", "listed", "wrong"),
    [
        ({"a.py": 70.0, "b.py": 90.0}, LISTED, []),
        ({"a.py": 69.1}, LISTED, []),
        ({"a.py": 68.9}, LISTED, ["a.py fell from 70.0 % to 68.9 %: add tests."]),
        ({"a.py": 90.0}, LISTED, ["a.py is at 90.0 %: take it off the list."]),
        ({"b.py": 89.9}, {}, ["b.py is at 89.9 %: add tests, 90 % is the mark."]),
        ({}, LISTED, ["a.py is listed and was not measured: take it off the list."]),
        (
            {"a.py": 70.0},
            {"a.py": (70.0, "")},
            ["a.py is listed without a word on what the rest is for."],
        ),
    ],
)
def test_the_list_may_only_shrink(found, listed, wrong):
    known = {name: uncovered.Listed(*one) for name, one in listed.items()}
    assert uncovered.compared(found, known) == wrong


def test_new_figures_keep_the_words_and_files_that_are_well_go():
    listed = {"a.py": uncovered.Listed(70.0, "races “x”"), "gone.py": uncovered.Listed(1.0, "y")}
    text = uncovered.written({"a.py": 71.26, "b.py": 95.0, "c.py": 12.0}, listed)
    assert uncovered.read(text) == {
        "a.py": uncovered.Listed(71.3, "races “x”"),
        "c.py": uncovered.Listed(12.0, ""),
    }


def test_a_report_is_read():
    report = {"files": {"b.py": {"summary": {"percent_covered": 12.5}}}}
    assert uncovered.found_in(report) == {"b.py": 12.5}
