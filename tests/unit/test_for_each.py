"""What one test with a table of cases says when some of them fail."""

import pytest

from tests.rows import for_each


def test_every_row_is_tried_and_every_one_that_fails_is_named():
    tried = []

    @for_each("last", [0, 1])
    @for_each(("first", "second"), [(1, 2), (3, 3), (5, 6)])
    def unequal(first: int, second: int, last: int) -> None:
        tried.append((first, second, last))
        assert first == second or last

    with pytest.raises(ExceptionGroup, match="1 of 2 rows fail") as caught:
        unequal()
    assert tried == [(a, b, last) for last in (0, 1) for a, b in ((1, 2), (3, 3), (5, 6))]
    (inner,) = caught.value.exceptions
    assert inner.__notes__ == ["in the row {'last': 0}"]
    assert isinstance(inner, ExceptionGroup)
    assert [error.__notes__ for error in inner.exceptions] == [
        ["in the row {'first': 1, 'second': 2}"],
        ["in the row {'first': 5, 'second': 6}"],
    ]


@for_each("row", ["a", "b"])
def test_fixtures_are_given_as_to_any_test(row: str, request: pytest.FixtureRequest):
    assert row in "ab"
    assert request.node.name == "test_fixtures_are_given_as_to_any_test"


def test_a_table_without_rows_or_with_crooked_ones_is_no_test():
    for names, rows in (("a", []), (("a", "b"), [(1,)])):
        with pytest.raises(AssertionError):
            for_each(names, rows)
    with pytest.raises(AssertionError, match="each name"):
        for_each("a", [1])(lambda b: None)
