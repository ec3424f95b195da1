"""Input items that refer to the output of an earlier response, as clients do that let the provider
store it: whose they may be, and which provider key they are sent to."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import start_cluster
from tests.rig import Answer, Rig
from xairouter.custody.formats import look_up_id
from xairouter.dialects.interface import LONGEST_ID
from xairouter.directory import directory
from xairouter.ledger.drain import Drain
from xairouter.standin import replies

USER = {"role": "user", "content": "hello"}
TOOL = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}
STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["JSON", "stream"])


@pytest.fixture
async def keys(rig: Rig) -> dict[str, str]:
    """Two sub-accounts and the owner; two provider keys that serve in turn."""
    for name in ("one", "two"):
        await rig.add_provider_key(name=name, secret=f"sk-{name}-0123456789abcdefgh")
    made = {name: (await rig.add_account(name))["api_key"] for name in ("red", "blue")}
    return {**made, "owner": ""}


async def respond(rig: Rig, key: str, items: list[Any], **fields: Any) -> Answer:
    body = {"model": "m", "input": items, **fields}
    return await rig.ask("POST", "/v1/responses", body, key=key)


def output_of(reply: Answer) -> list[Any]:
    """The output items, of JSON or of a stream's last event."""
    assert reply.status == 200, reply.body
    if not reply.headers["content-type"].startswith("text/event-stream"):
        return list(reply.json()["output"])
    last = reply.body.rsplit(b"data: {", 1)[1]
    return list(json.loads(b"{" + last.partition(b"\n")[0])["response"]["output"])


def reference(item_id: str) -> dict[str, str]:
    return {"type": "item_reference", "id": item_id}


async def _are_the_makers(rig: Rig, keys: dict[str, str], item_id: str, maker: str) -> None:
    items = [USER, reference(item_id), USER]
    for _ in range(4):
        follow = await respond(rig, keys["red"], items)
        assert follow.status == 200, follow.body
        assert rig.standin.requests[-1].secret == maker
    assert (await respond(rig, keys["owner"], items)).status == 200
    count = len(rig.standin.requests)
    for key, one in (("blue", item_id), ("blue", "msg_unknown"), ("red", "msg_unknown")):
        refused = await respond(rig, keys[key], [USER, reference(one)])
        assert (refused.status, refused.code) == (404, "object_not_found")
    assert len(rig.standin.requests) == count


@pytest.mark.both
@STREAMS
async def test_items_belong_to_the_subtree_that_made_them(
    rig: Rig, keys: dict[str, str], stream: bool, monkeypatch: pytest.MonkeyPatch
):
    """Before their record is stored, after it, and in a process that knows what is stored alone."""

    async def nothing(_: Drain) -> None:
        return

    with monkeypatch.context() as before:
        before.setattr(Drain, "_drain", nothing)
        [item] = output_of(await respond(rig, keys["red"], [USER], stream=stream))
        maker = rig.standin.requests[-1].secret
        assert await rig.sql("SELECT object_id FROM provider_objects") == []
        await _are_the_makers(rig, keys, item["id"], maker)
    await rig.house.drain.drain()
    await _are_the_makers(rig, keys, item["id"], maker)
    rig.house.directory._bindings.clear()
    await _are_the_makers(rig, keys, item["id"], maker)


@STREAMS
async def test_of_a_response_that_is_not_stored_no_item_is_registered(
    rig: Rig, keys: dict[str, str], stream: bool
):
    [item] = output_of(await respond(rig, keys["red"], [USER], stream=stream, store=False))
    refused = await respond(rig, keys["red"], [reference(item["id"])])
    assert (refused.status, refused.code) == (404, "object_not_found")
    await rig.house.drain.drain()
    stored = await rig.sql("SELECT object_id FROM provider_objects")
    assert item["id"] not in [object_id for (object_id,) in stored]


@STREAMS
async def test_a_client_s_loop_of_references_works(rig: Rig, keys: dict[str, str], stream: bool):
    """User, tool call by reference and its result, answer by reference, user again; as the AI SDK
    sends them by default."""
    items: list[Any] = [USER]
    makers = set()
    for _ in range(2):
        fields = {"tools": [TOOL], "stream": stream}
        [call] = output_of(await respond(rig, keys["red"], items, **fields))
        makers.add(rig.standin.requests[-1].secret)
        assert call["type"] == "function_call"
        result = {"type": "function_call_output", "call_id": call["call_id"], "output": "sun"}
        items += [reference(call["id"]), result]
        [answer] = output_of(await respond(rig, keys["red"], items, **fields))
        makers.add(rig.standin.requests[-1].secret)
        assert answer["type"] == "message"
        items = [*items[:-2], reference(call["id"]), reference(answer["id"]), USER]
    assert len(makers) == 1
    await rig.house.drain.drain()
    # A row for each of the four responses, and for each item.
    rows = await rig.sql("SELECT object_id FROM provider_objects")
    assert len(rows) == 8


async def test_what_an_account_made_stays_its_own_when_one_above_uses_it_again(
    rig: Rig, keys: dict[str, str]
):
    """The stand-in's ids repeat, as that of a container does which a later response uses again."""
    [item] = output_of(await respond(rig, keys["red"], [USER]))
    maker, before = rig.standin.requests[-1].secret, len(rig.standin.requests) - 1
    await rig.house.drain.drain()
    for forget in (True, False):
        if forget:
            rig.house.directory._bindings.clear()
        for key in ("owner", "blue"):
            del rig.standin.requests[before:]
            [again] = output_of(await respond(rig, keys[key], [USER], stream=True))
            assert again["id"] == item["id"]
        await _are_the_makers(rig, keys, item["id"], maker)


async def _is_reached(rig: Rig, keys: dict[str, str], object_id: str, maker: str) -> None:
    """Whose a stored response is: red's."""
    for _ in range(3):
        follow = await respond(rig, keys["red"], [USER], previous_response_id=object_id)
        assert follow.status == 200, follow.body
        assert rig.standin.requests[-1].secret == maker
    refused = await respond(rig, keys["blue"], [USER], previous_response_id=object_id)
    assert (refused.status, refused.code) == (404, "object_not_found")


@STREAMS
@pytest.mark.parametrize("other", ["blue", "owner"])
async def test_a_provider_that_repeats_an_id_does_not_take_the_object_to_itself(
    rig: Rig, keys: dict[str, str], stream: bool, other: str, monkeypatch: pytest.MonkeyPatch
):
    """Known here, known in the database alone, and where the first one's record is late."""
    made_by = replies._response
    monkeypatch.setattr(
        replies, "_response", lambda body, call: {**made_by(body, call), "id": "resp_the_same"}
    )

    async def nothing(_: Drain) -> None:
        return

    with monkeypatch.context() as before:
        before.setattr(Drain, "_drain", nothing)
        assert (await respond(rig, keys["red"], [USER], stream=stream)).status == 200
        maker = rig.standin.requests[-1].secret
        for _ in range(2):
            assert (await respond(rig, keys[other], [USER], stream=stream)).status == 200
            await _is_reached(rig, keys, "resp_the_same", maker)
    await rig.house.drain.drain()
    for forget in (False, True):
        if forget:
            rig.house.directory._bindings.clear()
        for _ in range(2):
            assert (await respond(rig, keys[other], [USER], stream=stream)).status == 200
            await _is_reached(rig, keys, "resp_the_same", maker)


async def test_the_first_record_of_an_id_decides_at_every_instance(tmp_path: Path):
    async with start_cluster(tmp_path, 2) as cluster:
        first, second = cluster.rigs
        await first.add_provider_key()
        teams = {name: (await first.add_account(name))["api_key"] for name in ("red", "blue")}
        made = await respond(first, teams["red"], [USER])
        response_id = made.json()["id"]
        second.house.directory._bindings.clear()
        # The second instance has not heard of it when its provider makes the same one.
        known = await second.house.directory.resolve(look_up_id(teams["blue"]))
        assert known is not None
        second.house.directory.remember_objects(known.caller, [response_id], "pk_other")
        await first.house.drain.drain()
        for name, status in (("red", 200), ("blue", 404)):
            found = await respond(second, teams[name], [USER], previous_response_id=response_id)
            assert found.status == status, (name, found.body)


@pytest.mark.parametrize("length", [129, 397, LONGEST_ID])
async def test_long_ids_are_objects_too(
    rig: Rig, keys: dict[str, str], length: int, monkeypatch: pytest.MonkeyPatch
):
    """Some gateways wrap more than an id in theirs."""
    made_by = replies._response

    def long(body: Any, call: int) -> Any:
        made = made_by(body, call)
        made["id"] = "r" * length
        made["output"][0]["id"] = "m" * length
        return made

    monkeypatch.setattr(replies, "_response", long)
    assert (await respond(rig, keys["red"], [USER])).status == 200
    await rig.house.drain.drain()
    rig.house.directory._bindings.clear()
    for fields in ({}, {"previous_response_id": "r" * length}):
        items = [USER] if fields else [reference("m" * length)]
        assert (await respond(rig, keys["red"], items, **fields)).status == 200
        assert (await respond(rig, keys["blue"], items, **fields)).status == 404


@STREAMS
async def test_an_item_made_at_one_instance_is_known_at_the_next_at_once(
    tmp_path: Path, stream: bool, monkeypatch: pytest.MonkeyPatch
):
    # As often as it takes where the machine is busy and the record is stored late.
    monkeypatch.setattr(directory, "BINDING_TRIES", 240)
    async with start_cluster(tmp_path, 2) as cluster:
        first, second = cluster.rigs
        await first.add_provider_key()
        team = (await first.add_account())["api_key"]
        [item] = output_of(await respond(first, team, [USER], stream=stream))
        found = await respond(second, team, [reference(item["id"])])
        assert found.status == 200, found.body
