"""What own prices may hold."""

import pytest

from tests.rig import Rig


@pytest.mark.parametrize(
    "document",
    [
        {f"*a{n}*": {"input": 1} for n in range(201)},
        {"a" * 257: {"input": 1}},
        {f"a{n}": {"input": 1} for n in range(2001)},
    ],
    ids=["patterns", "length", "number"],
)
async def test_own_prices_beyond_their_bounds_are_refused(rig: Rig, document: dict[str, object]):
    refused = await rig.ask("PUT", "/api/v1/prices", document)
    assert (refused.status, refused.code) == (422, "invalid_field")
    assert (await rig.ask("GET", "/api/v1/prices")).json() == {}


async def test_the_catalogue_is_one_whole_page(rig: Rig):
    names = [f"m{n:04}" for n in range(1200)]
    await rig.add_provider_key(models=names)
    await rig.ask("PUT", "/api/v1/prices", {"m00*": {"input": 2}})
    listed = (await rig.ask("GET", "/api/v1/models")).json()
    assert [one["id"] for one in listed["items"]] == names
    assert listed["next_cursor"] is None
    assert listed["items"][7]["price"] == {"input": 2}
    assert listed["items"][700]["price"] is None
