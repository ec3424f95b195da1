"""Every fixture folder, run through peek, the meter under chunkings, and the whole pipeline.

tests/fixtures/<provider>/<case>/ holds ``request.json`` (what a client sends), ``upstream_request.json``
(what the provider must receive), ``upstream_response.http`` (what it answers) and ``expected.json``
(the usage record; ``client_body`` where a splice changes what the client gets). A new provider or
case is a folder; there is no case-specific code here.
"""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.rig import Rig
from xairouter.dialects.meter import Meter
from xairouter.dialects.paths import find
from xairouter.dialects.table import DIALECTS
from xairouter.domain.calls import Peek
from xairouter.providers.table import PROVIDERS
from xairouter.standin.faults import Reply

pytestmark = pytest.mark.shared_rig

ROOT = Path(__file__).parent.parent / "fixtures"
CASES = sorted(str(path.parent.relative_to(ROOT)) for path in ROOT.glob("*/*/expected.json"))
TOKENS = (
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
)


def load(case: str, name: str) -> Any:
    return json.loads((ROOT / case / name).read_text())


def response(case: str) -> tuple[int, str, bytes]:
    """(status, content type, body) of a recorded answer."""
    head, _, body = (ROOT / case / "upstream_response.http").read_bytes().partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    return int(lines[0].split()[1]), lines[1].partition(": ")[2], body


def test_every_provider_has_fixtures_and_every_fixture_a_provider():
    assert {case.partition("/")[0] for case in CASES} == set(PROVIDERS)


@pytest.mark.parametrize("case", CASES)
def test_meter_reads_the_usage_under_any_chunking(case: str):
    asked, expected = load(case, "request.json"), load(case, "expected.json")
    match = find("POST", asked["path"].partition("?")[0].encode())
    assert match is not None
    if not match.operation.metered:
        pytest.skip("token counts are not metered")
    _, content_type, body = response(case)
    dice = random.Random(case)
    for size in (len(body), 1, 3, 17, dice.randint(2, 200)):
        meter = Meter(DIALECTS[match.operation.dialect], content_type, "")
        for at in range(0, len(body), size):
            meter.feed(body[at : at + size])
        usage = meter.finish()
        assert {name: getattr(usage, name) for name in TOKENS} == {
            name: expected[name] for name in TOKENS
        }
        assert dict(usage.detail) == expected["usage_detail"]


@pytest.mark.parametrize("case", CASES)
async def test_the_pipeline_sends_and_answers_and_records_as_expected(rig: Rig, case: str):
    provider = case.partition("/")[0]
    asked, wanted = load(case, "request.json"), load(case, "upstream_request.json")
    expected = load(case, "expected.json")
    path = asked["path"].partition("?")[0]
    match = find("POST", path.encode())
    assert match is not None
    dialect = match.operation.dialect
    row = PROVIDERS[provider]
    # The provider's own path behind its host, served by the stand-in.
    base = row.endpoints.get(dialect, "https://x.example/openai/v1").split("/", 3)
    prefix = "/" + base[3] if len(base) > 3 else ""
    await rig.add_provider_key(
        provider=provider, endpoints={dialect: rig.standin_url + prefix}, models=["*"]
    )
    status, content_type, body = response(case)
    parts = tuple(body[at : at + 13] for at in range(0, len(body), 13))
    rig.standin.scripted = Reply(status, (("content-type", content_type),), events=parts)
    sent = json.dumps(asked["body"], ensure_ascii=False).encode()
    answer = await rig.ask("POST", asked["path"], sent, **asked["headers"])

    peek = DIALECTS[dialect].peek(match, sent)
    assert isinstance(peek, Peek)
    received = rig.standin.requests[-1]
    assert received.json() == wanted["body"]
    if wanted["body"] == asked["body"]:
        assert received.body == sent
    assert received.path == prefix + (
        wanted["path"].partition("?")[0].removeprefix("/v1")
        if dialect.startswith("openai")
        else wanted["path"].partition("?")[0]
    )
    assert answer.status == status == expected["status"]
    assert answer.body == expected.get("client_body", body.decode()).encode()
    record = await rig.record()
    for name, value in expected.items():
        if name not in ("source", "client_body"):
            assert record[name] == value, name
    assert record["provider"] == provider
    assert record["dialect"] == dialect
