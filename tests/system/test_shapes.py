"""What is cast to a type, where no type checker looks, has that type's fields and no others."""

from typing import Any, get_type_hints

import msgspec
import pytest

from tests.rig import Rig
from xairouter.domain.notices import Notice, Occasion
from xairouter.manage.audit import CheckpointView
from xairouter.manage.notices import raise_notices
from xairouter.manage.routing import RoutingView
from xairouter.manage.settings import SettingsView
from xairouter.manage.usage import GroupTotals
from xairouter.manage.views import RecordView
from xairouter.storage import chain, notices, operations, records, rollups
from xairouter.storage.sums import SumRow

pytestmark = pytest.mark.shared_rig


def _fits(value: Any, kind: type[Any], *, optional: str = "") -> None:
    """Whether a value has a typed dictionary's fields with values of their types, and none besides."""
    found = msgspec.convert({str(name): one for name, one in value.items()}, kind)
    fields = set(get_type_hints(kind))
    assert set(value) | set(optional.split()) == fields, set(value) ^ fields
    assert {name: value[name] for name in found} == found


@pytest.fixture
async def used(rig: Rig) -> Rig:
    await rig.add_provider_key()
    await rig.ask("PUT", "/api/v1/prices", {"*": {"input": 1, "output": 2}})
    await rig.chat(max_tokens=9)
    await rig.records(expect=1)
    return rig


async def test_rows_have_the_shape_that_storage_promises(used: Rig):
    async with used.house.database.write() as connection:
        await raise_notices(connection, [Occasion(used.owner_id, Notice.TEST, "x", {"n": 1})])
    async with used.house.database.read() as connection:
        owner, every, newest = used.owner_id, rollups.Filters(), {"before": None, "limit": 9}
        [record] = await records.page(connection, owner, every, **newest)
        [notice] = await notices.page(connection, owner, is_open=True, **newest)
        (operation, *_), _ = await operations.page(connection, owner, **newest)
        entry, *_ = await chain.page(connection, owner, 0, 10**9, 9)
        [whole] = await rollups.totals(connection, owner, every, None)
        [of_model] = await rollups.totals(connection, owner, every, "model", top=3)
    _fits(record, records.RecordRow)
    _fits(notice, notices.NoticeRow)
    _fits(operation, operations.OperationRow)
    _fits(entry, chain.Entry)
    for row in (whole, of_model, rollups.summed([of_model])):
        _fits(row, SumRow)


async def test_views_have_the_shape_that_the_management_plane_promises(used: Rig):
    async def shown(path: str) -> Any:
        return (await used.ask("GET", f"/api/v1/{path}")).json()

    [record] = (await shown("usage/records"))["items"]
    _fits(record, RecordView)
    [of_model] = (await shown("usage?group_by=model"))["items"]
    others = "account key provider_key provider label day hour"
    _fits(of_model, GroupTotals, optional=others)
    _fits(await shown("settings"), SettingsView, optional="webhook_secret")
    _fits(await shown("routing"), RoutingView)
    _fits((await shown("audit"))["checkpoint"], CheckpointView)
