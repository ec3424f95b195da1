"""The rules editor: a document becomes a form and back, with nothing lost and nothing made up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xairouter.console.rooms.rules_form import (
    LISTS,
    MOST_ROWS,
    document_of,
    fields_of,
    lines_of,
    rows,
)
from xairouter.domain.rules import LIMIT_NAMES
from xairouter.errors import ManageError

names = st.text("abc-*.4/", min_size=1, max_size=12).map(str.strip).filter(bool)
limits = st.dictionaries(st.sampled_from(LIMIT_NAMES), st.integers(0, 10**12), min_size=1)
documents = st.fixed_dictionaries(
    {},
    optional={
        "allow_models": st.lists(names, max_size=4),
        "allow_paths": st.lists(names, max_size=3),
        "allow_ips": st.lists(st.just("10.0.0.0/8"), max_size=1),
        "allow_levels": st.lists(st.integers(1, 99), max_size=3),
        "limits": limits,
        "model_limits": st.dictionaries(names, limits, min_size=1, max_size=3),
        "budget": st.dictionaries(
            st.sampled_from(["day_usd", "month_usd", "total_usd"]),
            st.integers(0, 10**9).map(lambda cents: cents / 100),
            min_size=1,
        ),
        "model_map": st.dictionaries(names, names, min_size=1, max_size=3),
        "max_output_tokens": st.integers(0, 10**6),
    },
)


@given(documents)
def test_a_document_survives_the_form(document):
    assert document_of(fields_of(document)) == document


def test_an_empty_list_is_not_an_inherited_one():
    assert document_of({}) == {}
    assert document_of({f"{name}_own": "on" for name in LISTS}) == {name: [] for name in LISTS}
    assert document_of({"allow_models": "gpt-4o"}) == {}, "a list that is not ticked is not said"


def test_the_share_of_a_budget_is_typed_in_per_cent():
    assert document_of({"budget.notify_at": "80 %"}) == {"budget": {"notify_at": 0.8}}
    assert fields_of({"budget": {"notify_at": 0.8}})["budget.notify_at"] == "80"


def test_numbers_are_read_as_people_write_them():
    found = document_of({"limits.tpm": "200,000", "budget.day_usd": "$ 1,000.50"})
    assert found == {"limits": {"tpm": 200_000}, "budget": {"day_usd": 1000.5}}


@pytest.mark.parametrize(
    ("fields", "at"),
    [
        ({"limits.rpm": "many"}, "limits.rpm"),
        ({"limits.rpm": "-1"}, "limits.rpm"),
        ({"limits.rpm": "1e9"}, "limits.rpm"),
        ({"limits.rpm": "٣"}, "limits.rpm"),
        ({"budget.day_usd": "five"}, "budget.day_usd"),
        ({"allow_levels_own": "on", "allow_levels": "1, two"}, "allow_levels"),
        ({"model_limits.0.rpm": "5"}, "model_limits.0.pattern"),
        ({"model_map.1.pattern": "a"}, "model_map.1.model"),
        ({"model_map.0.model": "a"}, "model_map.0.pattern"),
        ({"max_output_tokens": "9" * 30}, "max_output_tokens"),
    ],
)
def test_what_is_no_number_is_named_by_its_field(fields, at):
    with pytest.raises(ManageError) as refused:
        document_of(fields)
    assert list(refused.value.fields) == [at]


def test_there_are_rows_to_spare_and_never_too_many():
    assert rows({}, "model_map") == 2
    assert rows({"model_map.3.pattern": "a"}, "model_map") == 6
    assert rows({"model_map.99999.pattern": "a"}, "model_map") == MOST_ROWS
    assert rows({"model_map.x.pattern": "a", "model_map": "b"}, "model_map") == 2


def test_lines_say_whose_each_rule_is():
    sources = [
        {"rule": "allow_models", "account": "top"},
        {"rule": "limits.rpm", "account": "team"},
        {"rule": "model_limits.gpt-4.5*.rpm", "account": "team"},
    ]
    effective = {
        "allow_models": ["a"],
        "limits": {"rpm": 3, "tpm": None},
        "model_limits": {"gpt-4.5*": {"rpm": 1}},
    }
    lines = lines_of(effective, sources)
    assert [(one["rule"], [who["account"] for who in one["from"]]) for one in lines] == [
        ("allow_models", ["top"]),
        ("limits.rpm", ["team"]),
        ("model_limits.gpt-4.5*.rpm", ["team"]),
    ]
