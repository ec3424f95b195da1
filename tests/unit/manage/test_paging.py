"""Pages and exports of many records are made in short steps, and hold what they held at once."""

import csv
import io
import json
from typing import Any

import pytest

from tests.contract.test_storage import record
from tests.unit.policy.test_listing_steps import longest_step
from xairouter.manage.paging import page_in_steps, views_in_steps
from xairouter.manage.usage import EXPORTED, lines_in_steps
from xairouter.manage.views import record_view
from xairouter.storage.records import row_of

MOST_BYTECODES = 20_000
"""Of one step: a fraction of a millisecond. All together take a hundred times as many."""


@pytest.fixture(scope="module")
def rows() -> list[Any]:
    used = {f"unit_{number}": number for number in range(20)}
    return [
        row_of(record(number, price_used=used, usage_detail=used, label="=1+1"))
        for number in range(500)
    ]


def test_views_of_records_are_made_in_short_steps(rows: list[Any]):
    longest, views = longest_step(views_in_steps(rows, record_view))
    assert views == [record_view(row) for row in rows]
    assert longest <= MOST_BYTECODES


def test_pages_are_written_in_short_steps(rows: list[Any]):
    longest, body = longest_step(page_in_steps(rows, "call_1", record_view))
    assert json.loads(body) == {
        "items": [record_view(row) for row in rows],
        "next_cursor": "call_1",
    }
    assert longest <= MOST_BYTECODES


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_exports_are_written_in_short_steps(rows: list[Any], form: str):
    views = [record_view(row) for row in rows]
    longest, text = longest_step(lines_in_steps(views, form, has_head=True))
    if form == "csv":
        lines = list(csv.DictReader(io.StringIO(text)))
        assert tuple(lines[0]) == EXPORTED
        assert {line["label"] for line in lines} == {"'=1+1"}
    else:
        lines = [json.loads(line) for line in text.splitlines()]
        assert lines == views
    assert len(lines) == len(rows)
    assert longest <= MOST_BYTECODES
