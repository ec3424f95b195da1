"""The management API against its own OpenAPI document: whatever the schema allows, and much that it
does not, is answered in the shapes that the document promises, and never with a fault of ours."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings

from tests.system.process import create_owner, start_router
from xairouter.api.application import management_app

EXAMPLES = 12
LEFT_OUT = {
    ("POST", "/api/v1/me/take-over"),  # it ends the key that the other calls need
    ("POST", "/api/v1/owners"),  # the operator's: 401 for every key, see test_tenancy.py
}
DOCUMENT = management_app().openapi()
NAMES = [
    (method.upper(), path)
    for path, methods in DOCUMENT["paths"].items()
    for method in methods
    if (method.upper(), path) not in LEFT_OUT
]


@pytest.fixture(scope="module")
def operations() -> dict[tuple[str, str], Any]:
    """Every operation of the document by method and path."""
    import schemathesis  # only here: it takes seconds, and every process collects all tests

    found = schemathesis.openapi.from_dict(DOCUMENT).get_all_operations()
    return {(one.ok().method.upper(), one.ok().path): one.ok() for one in found}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A router's URL and a key of its only owner."""
    data_dir = tmp_path_factory.mktemp("api") / "data"
    data_dir.mkdir()
    loop = asyncio.new_event_loop()
    key = loop.run_until_complete(create_owner(data_dir))
    router = loop.run_until_complete(start_router(data_dir))
    yield router.url, key
    loop.run_until_complete(router.kill())
    loop.close()


@pytest.mark.parametrize("name", NAMES, ids=" ".join)
def test_every_answer_is_one_that_the_document_promises(
    name: tuple[str, str], operations: dict[tuple[str, str], Any], served: tuple[str, str]
):
    url, key = served

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operations[name].as_strategy())
    def ask(case: Any) -> None:
        headers = {**(case.headers or {}), "authorization": f"Bearer {key}"}
        try:
            reply = case.call(base_url=url, headers=headers, timeout=120)
        except requests.exceptions.InvalidHeader:
            return
        assert reply.status_code < 500, (reply.status_code, reply.text[:500])
        if reply.status_code >= 400:
            problem = reply.json()
            assert problem["detail"].endswith("."), problem
            assert problem["code"], problem
            assert reply.headers["x-xairouter-call-id"][0].startswith("call_")
            assert key not in reply.text

    ask()
