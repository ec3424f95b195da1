"""The strongroom of one process: vaults opened for a while, and the door out.

Authority is cached under the look-up id of the secret that was presented, and nowhere else; a
provider key is opened for each request, put into its header, and not kept.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from xairouter import __version__
from xairouter.custody.slots import open_slot
from xairouter.custody.vault import OpenVault, unseal
from xairouter.custody.withhold import SEARCHED_BYTES, Search, readable
from xairouter.custody.witness import Witness
from xairouter.domain.accounts import ProviderKey
from xairouter.domain.calls import Outbound
from xairouter.domain.said import Mark, Said, read_error
from xairouter.domain.slots import Slot
from xairouter.domain.steps import Steps
from xairouter.domain.successions import Succession
from xairouter.errors import CustodyError, ErrorCode, StaleConnectionError
from xairouter.turns import in_slices
from xairouter.upstream.interface import Client, Headers, Limits, Reply, WireRequest

ABSOLUTE_SECONDS = 12 * 3600
_SCHEMES: dict[str, Callable[[str], tuple[str, str]]] = {
    "bearer": lambda secret: ("authorization", f"Bearer {secret}"),
    "x-api-key": lambda secret: ("x-api-key", secret),
    "x-goog-api-key": lambda secret: ("x-goog-api-key", secret),
    "api-key": lambda secret: ("api-key", secret),
}


_FRAMING = ("content-type", "content-length", "transfer-encoding", "content-encoding")


@dataclass(frozen=True, slots=True)
class Withheld:
    """A reply that must not pass: ``code`` is ``provider_key_rejected`` or
    ``upstream_error_withheld``; ``status`` is what the provider said."""

    code: ErrorCode
    status: int
    headers: Headers = field(repr=False)


@dataclass(slots=True)
class BufferedReply:
    """An error reply, read and searched; it has passed."""

    status: int
    headers: Headers
    body: bytes = field(repr=False)
    _is_read: bool = False

    async def read(self) -> bytes:
        if self._is_read:
            return b""
        self._is_read = True
        return self.body

    def on_piece(self, take: Callable[[bytes], bool]) -> bool:
        """All of it is here already."""
        return True

    async def close(self) -> None:
        """Its connection was given back when the body was read."""


class _Entry:
    __slots__ = ("idle_seconds", "opened_at", "seal_tag", "used_at", "vault")

    def __init__(
        self, vault: OpenVault, seal_tag: bytes | None, now: float, idle_seconds: float
    ) -> None:
        self.idle_seconds = idle_seconds
        self.vault = vault
        self.seal_tag = seal_tag
        self.opened_at = self.used_at = now


class Strongroom:
    """Opens vaults for presented secrets, and sends requests with opened provider keys."""

    MAX_OPEN = 100_000

    def __init__(
        self,
        client: Client,
        witness: Witness,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self.witness = witness
        self._now = monotonic
        self._open: OrderedDict[bytes, _Entry] = OrderedDict()
        self._of_owner: dict[str, set[bytes]] = {}

    def enter(self, slot: Slot, secret: str, *, idle_seconds: float) -> OpenVault:
        """The vault that the secret's slot opens; raises CustodyError if it does not.

        The result is remembered under the slot's look-up id for ``idle_seconds`` without use, at
        most 12 hours, and only while the slot is sealed as it was. Raises UnknownVaultError where
        it opens and another vault of this owner is known here.
        """
        now = self._now()
        entry = self._open.get(slot.look_up_id)
        if (
            entry is not None
            and entry.seal_tag == slot.seal_tag
            and now - entry.used_at < idle_seconds
            and now - entry.opened_at < ABSOLUTE_SECONDS
        ):
            entry.used_at = now
            self._open.move_to_end(slot.look_up_id)
            return entry.vault
        self.forget(slot.look_up_id)
        vault = open_slot(slot, secret.encode("utf-8"))
        self.witness.check(vault)
        self._keep(slot, vault, idle_seconds)
        return vault

    def follow(
        self, slot: Slot, secret: str, said: Sequence[Succession], *, idle_seconds: float
    ) -> OpenVault:
        """``enter`` for a vault that is not known here, if the known one named it its successor."""
        vault = open_slot(slot, secret.encode("utf-8"))
        self.witness.follow(vault, said)
        self._keep(slot, vault, idle_seconds)
        return vault

    def _keep(self, slot: Slot, vault: OpenVault, idle_seconds: float) -> None:
        now = self._now()
        if idle_seconds > 0:
            self._open[slot.look_up_id] = _Entry(vault, slot.seal_tag, now, idle_seconds)
            self._of_owner.setdefault(vault.owner_id, set()).add(slot.look_up_id)
            if len(self._open) > self.MAX_OPEN:
                self.forget(next(iter(self._open)))

    def at_hand(self, owner_id: str) -> OpenVault | None:
        """The owner's vault if some presented key holds it open now, for unattended work; this
        makes it neither younger nor longer."""
        now = self._now()
        for look_up_id in self._of_owner.get(owner_id, ()):
            entry = self._open[look_up_id]
            if (
                now - entry.used_at < entry.idle_seconds
                and now - entry.opened_at < ABSOLUTE_SECONDS
            ):
                return entry.vault
        return None

    def forget(self, look_up_id: bytes) -> None:
        """Close what a secret opened."""
        entry = self._open.pop(look_up_id, None)
        if entry is not None:
            self._of_owner[entry.vault.owner_id].discard(look_up_id)

    def forget_owner(self, owner_id: str) -> None:
        """Close every vault that was opened for one owner."""
        for look_up_id in self._of_owner.pop(owner_id, set()):
            del self._open[look_up_id]

    def sweep(self) -> None:
        """Close what has been idle, so that memory holds no vault longer than it may."""
        now = self._now()
        for look_up_id, entry in list(self._open.items()):
            if (
                now - entry.used_at >= entry.idle_seconds
                or now - entry.opened_at >= ABSOLUTE_SECONDS
            ):
                self.forget(look_up_id)

    async def send(
        self,
        outbound: Outbound,
        row: ProviderKey,
        vault: OpenVault,
        limits: Limits,
        rejections: tuple[Mark, ...],
        before_send: Callable[[], object] | None = None,
    ) -> Reply | Withheld:
        """Send a request with the row's key to the row's own base URL.

        No byte goes out before the row has opened: raises CustodyError if it does not, and
        UpstreamError if no reply came. ``before_send`` is awaited in between, if given: the
        attempt's place in the ledger; again where a kept connection turned out to be stale and
        the request is sent a second time. Error replies are read, at most 64 KiB, and searched.
        """
        base = row.endpoints.get(outbound.dialect)
        scheme = _SCHEMES.get(row.auth.get(outbound.dialect, ""))
        if base is None or scheme is None:
            raise CustodyError("The provider key is not meant for this dialect.")
        secret = unseal(vault, row).decode("ascii")
        request = _with_credential(outbound, base, scheme, secret, row.id)
        search = Search(secret)
        del secret
        reply: Reply | None = None
        is_fresh = False
        while reply is None:
            if before_send is not None:
                pending = before_send()
                if pending is not None:
                    await pending  # type: ignore[misc]
            try:
                reply = await self._client.send(row.owner_id, request, limits, is_fresh=is_fresh)
            except StaleConnectionError:
                # Once: a new connection cannot be stale. It is an attempt of its own.
                is_fresh = True
        del request
        return await _searched(reply, search, rejections, row.owner_id)


def _with_credential(
    outbound: Outbound,
    base: str,
    scheme: Callable[[str], tuple[str, str]],
    secret: str,
    key_id: str,
) -> WireRequest:
    url = base.rstrip("/") + outbound.suffix
    if outbound.query:
        url += ("&" if "?" in url else "?") + outbound.query
    headers = [*outbound.headers, ("user-agent", f"xairouter/{__version__}")]
    if secret:
        headers.append(scheme(secret))
    return WireRequest(outbound.method, url, tuple(headers), outbound.body, key_id)


async def _searched(
    reply: Reply, search: Search, rejections: tuple[Mark, ...], owner_id: str
) -> Reply | Withheld:
    """The reply if it may pass. 2xx bodies pass unsearched, and SECURITY.md says so. What an error
    says is read in its owner's turns."""
    headers = reply.headers
    if 200 <= reply.status < 300:
        heads = "\n".join(map("\n".join, headers))
        if not search.is_quick(heads) or search.finds_in_header(heads):
            try:
                reply.headers = await in_slices(_without(headers, search), owner_id)
            except asyncio.CancelledError:
                await reply.close()
                raise
        return reply
    if not 400 <= reply.status < 600:
        # Neither an answer nor an error: nothing of it passes, so nothing is waited for.
        await reply.close()
        return BufferedReply(reply.status, (), b"")
    body = await _read_error(reply)
    return await in_slices(_judged(reply.status, headers, body, search, rejections), owner_id)


def _judged(
    status: int, headers: Headers, body: bytes, search: Search, rejections: tuple[Mark, ...]
) -> Steps[BufferedReply | Withheld]:
    """An error reply, if it may pass."""
    encoding = next((value for name, value in headers if name == "content-encoding"), "")
    text = readable(body, encoding)
    said = Said() if text is None else read_error(text)
    yield
    if any(mark.fits(status, said) for mark in rejections):
        return Withheld(ErrorCode.PROVIDER_KEY_REJECTED, status, headers)
    heads = "\n".join(map("\n".join, headers)).encode("latin-1")
    if (
        text is None
        or (yield from search.finds_in_steps(heads))
        or (yield from search.finds_in_steps(text))
    ):
        return Withheld(ErrorCode.UPSTREAM_ERROR_WITHHELD, status, headers)
    kept = tuple(
        (name, value)
        for name, value in headers
        if name not in ("content-length", "content-encoding", "transfer-encoding")
    )
    return BufferedReply(status, kept, text)


def _without(headers: Headers, search: Search) -> Steps[Headers]:
    """The headers that do not hold the secret. Those that say how to read the body stay."""
    kept = []
    for name, value in headers:
        header = f"{name}\n{value}"
        if name in _FRAMING or not (yield from search.finds_in_header_in_steps(header)):
            kept.append((name, value))
        yield
    return tuple(kept)


async def _read_error(reply: Reply) -> bytes:
    """The first 64 KiB of an error body; the rest is cut, and a broken end is an end."""
    parts, size = [], 0
    try:
        while size < SEARCHED_BYTES and (chunk := await reply.read()):
            parts.append(chunk)
            size += len(chunk)
    finally:
        await reply.close()
    return b"".join(parts)[:SEARCHED_BYTES]
