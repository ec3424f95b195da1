"""The check-up of a provider key: requests that cost no tokens.

Is it valid, whose is it, which models and limits has it: what the provider's models endpoint, its
reply headers and, where there is one, its key or balance endpoint tell. What is asked stands in
the provider's row.
"""

import asyncio
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice

import msgspec

from xairouter.custody.room import Strongroom, Withheld
from xairouter.custody.vault import OpenVault, opens
from xairouter.dialects.condense import Condenser
from xairouter.dialects.table import DIALECTS
from xairouter.domain.accounts import ProviderKey
from xairouter.domain.calls import LONGEST_MODEL, Outbound
from xairouter.domain.said import Mark, read_error
from xairouter.errors import CustodyError, ErrorCode, UpstreamError
from xairouter.manage.views import CheckupView, Fact
from xairouter.providers.interface import MISSING_SCOPES, Facts, Probe, Provider
from xairouter.providers.table import probe_for, provider_row
from xairouter.turns import in_slices
from xairouter.upstream.interface import Limits, Reply

_LIMITS = Limits(connect=10, first_byte=15)
_WHOLE_SECONDS = 30.0
_MOST_BYTES = 8 * 1024 * 1024
_STEP_BYTES = 32 * 1024
_KNOWN = Mark(401, message=MISSING_SCOPES)
_MOST_FACTS = 64 * 1024
_MOST_NAMES = 5000
"""Far above any provider's list; what a hostile one sends must not fill the catalogue."""


class ProbeState(StrEnum):
    """What came of a check-up: the key works, its provider rejects it, nobody could be asked, the
    provider has nothing to ask without cost, or nothing was sent because the secret does not open
    under its row."""

    OK = "ok"
    REJECTED = "rejected"
    UNREACHED = "unreached"
    UNPROBED = "unprobed"
    ALTERED = "altered"


ALTERED_ROW = "Its row was changed outside of the router: the sealed secret does not open under it."


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check-up found.

    ``account`` is what the provider tells of the key and its account, ``limits`` what its headers
    state, ``warnings`` are sentences for the owner.
    """

    state: ProbeState
    models: tuple[str, ...] | None = None
    status: int | None = None
    why: str | None = None
    account: Mapping[str, Fact] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def view(self) -> CheckupView:
        """For the management API."""
        found = len(self.models) if self.models is not None else None
        return {
            "state": self.state,
            "models_found": found,
            "status": self.status,
            "why": self.why,
            "account": dict(self.account),
            "limits": dict(self.limits),
            "warnings": list(self.warnings),
        }


async def probe(room: Strongroom, key: ProviderKey, vault: OpenVault) -> Finding:
    """Ask the key's provider for its models and what else it tells, with the key."""
    if not opens(vault, key):
        return Finding(ProbeState.ALTERED, why=ALTERED_ROW)
    row = provider_row(key.provider)
    how = probe_for(row, key.endpoints)
    if how is None:
        return Finding(ProbeState.UNPROBED, why="This provider has no request that costs nothing.")
    answer = await _ask(room, key, vault, how.dialect, how.suffix)
    if isinstance(answer, Finding):
        return answer
    if len(answer.body) <= _MOST_FACTS and _KNOWN.fits(answer.status, read_error(answer.body)):
        return Finding(ProbeState.OK, status=answer.status, why="This key may not list models.")
    if answer.status in (404, 405):
        return Finding(ProbeState.OK, status=answer.status, why="It lists no models.")
    if answer.status != 200:
        return Finding(
            ProbeState.UNREACHED,
            status=answer.status,
            why=f"The provider answered {answer.status}.",
        )
    account: dict[str, Fact] = {
        shown: answer.headers[header]
        for shown, header in row.account_headers.items()
        if header in answer.headers
    }
    warnings: list[str] = []
    for facts in row.facts:
        found, told = await _facts(room, key, vault, facts)
        account |= found
        warnings += told
    names = await in_slices(names_in_steps(answer.body, how), key.owner_id)
    return Finding(
        ProbeState.OK,
        names,
        answer.status,
        why=None if names is not None else "Its list of models cannot be read.",
        account=account,
        limits=_limits(row, answer.headers),
        warnings=tuple(warnings),
    )


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


async def _ask(
    room: Strongroom, key: ProviderKey, vault: OpenVault, dialect: str, suffix: str
) -> _Answer | Finding:
    """One GET with the key; a finding says why there is no answer."""
    path, _, query = suffix.partition("?")
    headers = {
        **DIALECTS[dialect].default_headers,
        "accept": "application/json",
        "accept-encoding": "identity",
    }
    outbound = Outbound(dialect, "GET", path, query, tuple(headers.items()), b"")
    rejections = provider_row(key.provider).rejections
    try:
        async with asyncio.timeout(_WHOLE_SECONDS):
            reply = await room.send(outbound, key, vault, _LIMITS, rejections)
            if isinstance(reply, Withheld):
                if reply.code == ErrorCode.PROVIDER_KEY_REJECTED:
                    return Finding(ProbeState.REJECTED, status=reply.status)
                return Finding(
                    ProbeState.UNREACHED, status=reply.status, why="Its error is withheld."
                )
            return _Answer(reply.status, dict(reply.headers), await _body(reply))
    except TimeoutError:
        return Finding(ProbeState.UNREACHED, why="The provider's answer took too long.")
    except UpstreamError as error:
        return Finding(ProbeState.UNREACHED, why=str(error))
    except CustodyError:
        return Finding(ProbeState.ALTERED, why=ALTERED_ROW)


async def _facts(
    room: Strongroom, key: ProviderKey, vault: OpenVault, facts: Facts
) -> tuple[dict[str, Fact], list[str]]:
    """(what one further request tells, warnings); nothing if it fails, for the key is known to
    work."""
    if facts.dialect not in key.endpoints:
        return {}, []
    answer = await _ask(room, key, vault, facts.dialect, facts.suffix)
    if isinstance(answer, Finding) or answer.status != 200 or len(answer.body) > _MOST_FACTS:
        return {}, []
    try:
        document = msgspec.json.decode(answer.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}, []
    found = {shown: _at(document, path) for shown, path in facts.fields.items()}
    told = [warning for path, warning in facts.warnings.items() if _at(document, path) is True]
    return {shown: value for shown, value in found.items() if value is not None}, told


def _at(value: object, path: str) -> Fact | None:
    """The value at a dotted path; only short words, numbers and lists of words come out."""
    for step in path.split("."):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    if isinstance(value, list):
        return [str(item)[:128] for item in value[:20]]
    if isinstance(value, str):
        return value[:128]
    return value if isinstance(value, bool | int | float) else None


def _limits(row: Provider, headers: Mapping[str, str]) -> dict[str, str]:
    """Limits that the probe's reply states in its headers."""
    return {
        name: value[:64]
        for name, value in headers.items()
        if name.startswith(row.limit_headers) and "reset" not in name and "remaining" not in name
    }


async def _body(reply: Reply) -> bytes:
    parts, size = [], 0
    try:
        while size < _MOST_BYTES and (chunk := await reply.read()):
            parts.append(chunk)
            size += len(chunk)
    finally:
        await reply.close()
    return b"".join(parts)


def names_in_steps(body: bytes, how: Probe) -> Generator[None, None, tuple[str, ...] | None]:
    """The models' names in a list reply, None if it is none; read in short steps."""
    # A star is a pattern's mark, and patterns are the owner's to write.
    usable: dict[str, None] = {}

    def take(item: bytes) -> None:
        name = msgspec.json.decode(item).get(how.name)
        if isinstance(name, str) and 0 < len(name) <= LONGEST_MODEL and "*" not in name:
            usable[name.removeprefix(how.strip)] = None

    reader = Condenser(take, frozenset({how.name}), within=how.items)
    for at in range(0, len(body), _STEP_BYTES):
        reader.feed(body[at : at + _STEP_BYTES])
        if reader.is_over or len(usable) >= _MOST_NAMES:
            break
        yield
    whole = reader.has_list and (reader.is_over or len(usable) >= _MOST_NAMES)
    # A name too large to be kept is left out, as every name is that is too long.
    whole = whole and reader.failures == reader.too_large
    reader.close()
    return tuple(islice(usable, _MOST_NAMES)) if whole else None
