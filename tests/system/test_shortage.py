"""Where this machine has no file descriptors left: calls are told so, and no provider is blamed."""

import contextlib
import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.rig import Rig
from xairouter.doctor import examine
from xairouter.process import allow_descriptors
from xairouter.settings import Settings

pytestmark = pytest.mark.own_rig


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Nothing more can be opened in this process."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = [os.dup(0)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (held[0] + 100, before[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for descriptor in held:
            os.close(descriptor)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_local_shortage_is_overloaded_and_no_failure_of_the_providers(rig: Rig, host: str):
    endpoint = f"http://{host}:{rig.standin_port}/v1"
    key = await rig.add_provider_key(endpoints={"openai_chat": endpoint})
    # The client's connection, and what the router reads once for a key, is there before.
    assert (await rig.ask("GET", "/v1/models")).status == 200
    with no_descriptors():
        answers = [await rig.chat() for _ in range(3)]
    assert [(one.status, one.code) for one in answers] == [(503, "overloaded")] * 3
    assert all(one.headers["retry-after"] == "1" for one in answers)
    assert rig.house.health.ailing == {}
    assert (await rig.chat()).status == 200
    records = await rig.records(expect=4)
    assert [row["outcome"] for row in records] == ["completed", *["refused"] * 3]
    assert {row["error_code"] for row in records[1:]} == {"overloaded"}
    assert {row["provider_key_id"] for row in records} == {key["id"]}
    # None of them counts for what it might have used.
    assert not any(row["cost_usd"] for row in records[1:])


SHORT = ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EAGAIN", "EADDRNOTAVAIL")


@pytest.mark.parametrize("name", SHORT)
async def test_whatever_this_machine_is_short_of_no_provider_is_blamed(
    rig: Rig, name: str, monkeypatch: pytest.MonkeyPatch
):
    """Ports, memory, buffers: as the system's own connect says it."""
    await rig.add_provider_key()
    assert (await rig.ask("GET", "/v1/models")).status == 200

    async def fails(*_: object, **__: object) -> None:
        number = getattr(errno, name)
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as short:
        short.setattr("xairouter.upstream.http_client.start_connection", fails)
        answer = await rig.chat()
        assert (answer.status, answer.code) == (503, "overloaded")
    assert rig.house.health.ailing == {}
    assert (await rig.chat()).status == 200


async def test_the_soft_limit_is_raised_to_what_the_system_allows_and_told(rig: Rig):
    raised = (
        "import resource; from xairouter.process import allow_descriptors; "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (300, 700)); "
        "print(allow_descriptors(), *resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", raised], capture_output=True, check=True)
    assert done.stdout.split() == [b"700", b"700", b"700"]
    may = allow_descriptors()
    for max_running, state in ((10, "ok"), (may, "note")):
        settings = Settings(data_dir=rig.house.settings.data_dir, max_running=max_running)
        found = {one.what: one for one in await examine(settings, offline=True)}
        assert found["file descriptors"].state == state
        assert str(may) in found["file descriptors"].says
