"""The leaf of a row: which bytes are hashed, whatever they are made of."""

import hashlib
import json
from typing import Any

import pytest

from xairouter.storage import chain


@pytest.mark.parametrize(
    ("row", "hashed"),
    [
        ({"b": 1, "a": None}, {"a": None, "b": 1}),
        ({"b": 1, "settled": None}, {"b": 1}),
        (
            {"settled": None, "counted_nano": 0, "counted_tokens": None, "a": None},
            {"a": None, "counted_nano": 0},
        ),
        ({"settled": "x", "counted_nano": 5, "counted_tokens": 7}, None),
    ],
)
def test_columns_that_older_rows_had_not_are_no_part_of_a_leaf_while_they_are_null(
    row: dict[str, Any], hashed: dict[str, Any] | None
):
    before = dict(row)
    content = json.dumps(hashed or row, sort_keys=True, separators=(",", ":")).encode()
    assert chain.leaf_of(b"salt", row) == hashlib.sha256(b"salt" + content).digest()
    assert row == before
