"""The probe: a request that costs no tokens and says whether a key works and for which models."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from xairouter.custody.room import Strongroom, Withheld
from xairouter.custody.vault import OpenVault
from xairouter.dialects.table import DIALECTS
from xairouter.domain.accounts import ProviderKey
from xairouter.domain.calls import Outbound
from xairouter.errors import CustodyError, UpstreamError
from xairouter.providers.interface import Probe
from xairouter.providers.table import probe_for, provider_row
from xairouter.upstream.interface import Limits, Reply

_LIMITS = Limits(connect=10, first_byte=15)
_WHOLE_SECONDS = 30.0
_MOST_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """What a probe found: ``ok``, ``rejected``, ``unreached`` or ``unprobed``."""

    state: str
    models: tuple[str, ...] | None = None
    status: int | None = None
    why: str | None = None

    def view(self) -> Mapping[str, Any]:
        """For the management API."""
        found = len(self.models) if self.models is not None else None
        return {"state": self.state, "models_found": found, "status": self.status, "why": self.why}


async def probe(room: Strongroom, key: ProviderKey, vault: OpenVault) -> Finding:
    """Ask the key's provider for its models, with the key."""
    row = provider_row(key.provider)
    how = probe_for(row, key.endpoints)
    if how is None:
        return Finding("unprobed", why="This provider has no request that costs nothing.")
    path, _, query = how.suffix.partition("?")
    headers = {
        **DIALECTS[how.dialect].default_headers,
        "accept": "application/json",
        "accept-encoding": "identity",
    }
    outbound = Outbound(how.dialect, "GET", path, query, tuple(headers.items()), b"")
    try:
        async with asyncio.timeout(_WHOLE_SECONDS):
            answer = await room.send(outbound, key, vault, _LIMITS, row.rejections)
            if isinstance(answer, Withheld):
                if answer.code == "provider_key_rejected":
                    return Finding("rejected", status=answer.status)
                return Finding("unreached", status=answer.status, why="Its error is withheld.")
            body = await _body(answer)
    except TimeoutError:
        return Finding("unreached", why="The provider's answer took too long.")
    except UpstreamError as error:
        return Finding("unreached", why=str(error))
    except CustodyError:
        return Finding("rejected", why="The sealed key does not open.")
    if answer.status in (404, 405):
        return Finding("ok", status=answer.status, why="It lists no models.")
    if answer.status != 200:
        return Finding(
            "unreached", status=answer.status, why=f"The provider answered {answer.status}."
        )
    return Finding("ok", _names(body, how), answer.status)


async def _body(reply: Reply) -> bytes:
    parts, size = [], 0
    try:
        while size < _MOST_BYTES and (chunk := await reply.read()):
            parts.append(chunk)
            size += len(chunk)
    finally:
        await reply.close()
    return b"".join(parts)


def _names(body: bytes, how: Probe) -> tuple[str, ...] | None:
    """The models' names in a list reply, None if it is none."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    items = document.get(how.items) if isinstance(document, dict) else document
    if not isinstance(items, list):
        return None
    names = [item.get(how.name) for item in items if isinstance(item, dict)]
    return tuple(
        dict.fromkeys(
            name.removeprefix(how.strip)
            for name in names
            if isinstance(name, str) and 0 < len(name) <= 256
        )
    )
