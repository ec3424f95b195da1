"""The types of rows and of what is shown are those of the tables and of the usage record."""

import typing
from enum import StrEnum

import pytest
import sqlalchemy as sa

from xairouter.domain.records import UNSHOWN, UsageRecord
from xairouter.manage.usage import EXPORTED, Asked, GroupTotals, Totals
from xairouter.manage.views import RecordView, operation_view, record_view
from xairouter.storage import (
    chain,
    keys,
    notices,
    operations,
    owners,
    records,
    rollups,
    tables,
)
from xairouter.storage.provider_keys import ProviderKeyChange
from xairouter.storage.sums import SumRow

UNITS = {"cost_nano": "cost_usd", "provider_cost_nano": "provider_cost_usd"}
UNITS |= {"reserved_nano": "reserved_usd", "started_at_ms": "started_at"}


def _kind(column: sa.Column) -> type:
    kind = column.type
    return (
        kind.impl_instance.python_type if isinstance(kind, sa.TypeDecorator) else kind.python_type
    )


def _hint(column: sa.Column) -> object:
    """The annotation that a column's values have."""
    kind = _kind(column)
    return kind | None if column.nullable else kind


def _stored(hint: object) -> object:
    """The annotation as it is stored: a vocabulary's words are text."""
    return str if isinstance(hint, type) and issubclass(hint, StrEnum) else hint


@pytest.mark.parametrize(
    ("row", "table"),
    [
        (notices.NoticeRow, tables.notices),
        (operations.OperationRow, tables.operations),
        (records.RecordRow, tables.usage_records),
        (chain.Entry, tables.chain),
    ],
)
def test_a_row_has_the_columns_of_its_table_and_their_types(row: type, table: sa.Table):
    hints = {name: _stored(hint) for name, hint in typing.get_type_hints(row).items()}
    assert hints == {one.name: _hint(one) for one in table.columns}


def test_a_change_has_columns_of_its_table():
    for change, table in (
        (notices.Delivery, tables.notices),
        (ProviderKeyChange, tables.provider_keys),
        (owners.OwnerColumns, tables.owners),
        (owners.AccountColumns, tables.accounts),
        (keys.KeyColumns, tables.api_keys),
    ):
        assert set(typing.get_type_hints(change)) <= set(table.columns.keys())


def test_sums_are_typed_as_they_are_named():
    assert set(typing.get_type_hints(SumRow)) == {"group", *rollups.SUMS}
    shown = {name for name in rollups.SUMS if name != "cost_nano"}
    assert set(Totals.__annotations__) == shown | {"cost_usd", "first_byte_ms", "total_ms"}
    assert GroupTotals.__optional_keys__ == set(rollups.GROUPS)
    assert Asked().equal == {}


def _row(table: sa.Table) -> dict[str, object]:
    values: dict[type, object] = {str: "{}", int: 1, bool: True}
    return {one.name: values[_kind(one)] for one in table.columns}


def test_a_record_is_shown_with_the_fields_that_its_type_names():
    fields = [UNITS.get(name, name) for name in UsageRecord.__struct_fields__]
    assert set(EXPORTED) == set(RecordView.__annotations__) == set(fields) - set(UNSHOWN)
    assert set(record_view(_row(tables.usage_records))) == set(EXPORTED)


def test_an_operation_is_shown_with_its_columns():
    shown = operation_view(_row(tables.operations))
    assert set(shown) == {"at", *tables.operations.columns.keys()} - {"at_ms"}
