"""Sending with a provider key: a request on a connection that had been closed is sent a second time,
once and announced; what a reply's headers may not say."""

from collections.abc import Callable
from typing import cast

import pytest

from xairouter.custody.room import Strongroom, Withheld
from xairouter.custody.vault import new_vault, seal
from xairouter.custody.witness import Witness
from xairouter.domain.accounts import KeyHealth, ProviderKey, ProviderKeyStatus
from xairouter.domain.calls import Outbound
from xairouter.errors import ErrorCode, LedgerError, StaleConnectionError, UpstreamError
from xairouter.upstream.interface import Headers, Limits, Reply, WireRequest

VAULT = new_vault("acc_a")
ENDPOINTS, AUTH = {"openai_chat": "https://p.example/v1"}, {"openai_chat": "bearer"}
SECRET = b"sk-proj-A1b2C3d4E5f6G7h8J9"
OUTBOUND = Outbound("openai_chat", "POST", "/chat/completions", "", (), b"{}")
STALE = StaleConnectionError(ErrorCode.UPSTREAM_UNREACHABLE, "It broke off.", sent=True)
BROKEN = UpstreamError(ErrorCode.UPSTREAM_UNREACHABLE, "It broke off.", sent=True)


def _row(key_id: str, secret: bytes) -> ProviderKey:
    sealed = seal(VAULT, secret, key_id=key_id, revision=1, auth=AUTH, endpoints=ENDPOINTS)
    return ProviderKey(
        id=key_id,
        owner_id="acc_a",
        name="one",
        provider="custom",
        endpoints=ENDPOINTS,
        auth=AUTH,
        level=1,
        weight=1,
        models=None,
        discovered=None,
        status=ProviderKeyStatus.ACTIVE,
        revision=1,
        sealed=sealed,
        last4=None,
        fingerprint="",
        health=KeyHealth.OK,
        health_why=None,
        created_at_ms=0,
    )


class _Reply:
    status = 200
    headers: Headers = ()

    async def read(self) -> bytes:
        return b""

    def on_piece(self, take: Callable[[bytes], bool]) -> bool:
        return True

    async def close(self) -> None:
        pass


class Scripted:
    """A client that answers with what it is given; ``log`` holds what happened in which order."""

    def __init__(self, *answers: Reply | UpstreamError) -> None:
        self._answers = list(answers)
        self.log: list[object] = []

    async def send(
        self, pool: str, request: WireRequest, limits: Limits, *, is_fresh: bool = False
    ) -> Reply:
        self.log.append(("sent", pool, request.key_id, is_fresh))
        answer = self._answers.pop(0)
        if isinstance(answer, UpstreamError):
            raise answer
        return answer

    async def close(self) -> None:
        pass


async def _send(
    client: Scripted, key_id: str = "pk_1", refuses_at: int = 0, secret: bytes = SECRET
) -> object:
    announced = 0

    async def announce() -> None:
        nonlocal announced
        announced += 1
        if announced == refuses_at:
            raise LedgerError("The journal is full.")
        client.log.append("announced")

    room = Strongroom(client, Witness(None))
    return await room.send(OUTBOUND, _row(key_id, secret), VAULT, Limits(1, 1), (), announce)


async def test_a_stale_connection_costs_one_more_announced_attempt_on_a_fresh_one():
    reply = _Reply()
    client = Scripted(STALE, cast(Reply, reply))
    assert await _send(client) is reply
    assert client.log == [
        "announced",
        ("sent", "acc_a", "pk_1", False),
        "announced",
        ("sent", "acc_a", "pk_1", True),
    ]


async def test_a_request_is_sent_twice_at_most():
    client = Scripted(STALE, BROKEN)
    with pytest.raises(UpstreamError):
        await _send(client)
    assert len(client.log) == 4


@pytest.mark.parametrize(
    "error", [BROKEN, UpstreamError(ErrorCode.UPSTREAM_TIMEOUT, "Too late.", sent=True)]
)
async def test_any_other_failure_is_not_tried_again(error: UpstreamError):
    client = Scripted(error)
    with pytest.raises(UpstreamError):
        await _send(client)
    assert len(client.log) == 2


async def test_what_the_journal_does_not_take_is_not_sent_a_second_time():
    client = Scripted(STALE)
    with pytest.raises(LedgerError):
        await _send(client, refuses_at=2)
    assert client.log == ["announced", ("sent", "acc_a", "pk_1", False)]


async def test_each_provider_key_has_connections_of_its_own():
    client = Scripted(cast(Reply, _Reply()), cast(Reply, _Reply()))
    await _send(client, "pk_1")
    await _send(client, "pk_2")
    assert [entry[2] for entry in client.log if isinstance(entry, tuple)] == ["pk_1", "pk_2"]


def _reply(status: int, *headers: tuple[str, str]) -> Reply:
    reply = _Reply()
    reply.status, reply.headers = status, headers
    return cast(Reply, reply)


async def test_a_header_is_dropped_by_name_and_by_value_and_framing_stays():
    secret = SECRET.decode()
    framing = (
        ("content-type", f"text/event-stream; x={secret}"),
        ("content-length", "1"),
        ("content-encoding", "gzip"),
        ("transfer-encoding", "chunked"),
    )
    told = (("x-debug", secret), (secret.lower(), "y"), ("x-fine", "yes"))
    reply = cast(Reply, await _send(Scripted(_reply(200, *framing, *told))))
    assert reply.headers == (*framing, ("x-fine", "yes"))


@pytest.mark.parametrize(
    "header", [("x-debug", SECRET.decode()), (SECRET.decode(), "x"), ("content-type", SECRET.hex())]
)
async def test_an_error_with_the_secret_in_a_header_is_withheld(header: tuple[str, str]):
    assert isinstance(await _send(Scripted(_reply(500, header))), Withheld)


@pytest.mark.parametrize("secret", [b"-", b"x", b"event", b"text/event"])
async def test_a_placeholder_takes_no_header_from_a_reply(secret: bytes):
    headers = (("content-type", "text/event-stream"), ("x-id", "x-1"))
    for status in (200, 500):
        answer = await _send(Scripted(_reply(status, *headers)), secret=secret)
        assert cast(Reply, answer).headers == headers
