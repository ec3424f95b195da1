"""Whose key is it: from a request's credential carriers to an open vault.

Of all carriers exactly one distinct value of XAI shape must come. Strict form first, then the
checksum, then the look-up; authentication is opening the key's own slot.
"""

from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from xairouter.clock import made_at_ms, now_ms
from xairouter.custody.formats import is_api_key, look_up_id
from xairouter.custody.room import Strongroom
from xairouter.custody.vault import OpenVault
from xairouter.custody.witness import OutdatedVaultError, UnknownVaultError
from xairouter.directory.directory import Directory, Known
from xairouter.domain.calls import Refusal
from xairouter.domain.slots import AHEAD_MS, LIVES_MS, Slot, SlotPurpose
from xairouter.errors import CustodyError, ErrorCode, StorageError
from xairouter.observe import log
from xairouter.policy.decide import admit
from xairouter.policy.interface import Caller, OwnerView

MOST_TOLD = 1000
"""Owners of whom it is said once that their vaults are refused."""
_INVALID = Refusal(ErrorCode.INVALID_API_KEY, "No valid XAI API key came with the request.")


@dataclass(frozen=True, slots=True)
class Identity:
    """An accepted key: who calls, the owner's view, and the owner's vault, open."""

    caller: Caller
    view: OwnerView
    vault: OpenVault = field(repr=False)
    look_up_id: bytes = field(repr=False)


class Identifier:
    """Resolves credentials against the directory and the strongroom."""

    def __init__(self, directory: Directory, room: Strongroom) -> None:
        self._directory = directory
        self._room = room
        self._told: set[str] = set()

    async def resolve(self, headers: dict[bytes, bytes], query: bytes) -> Identity | Refusal:
        """The identity behind a request's credential, or why there is none."""
        presented = presented_key(headers, query)
        if isinstance(presented, Refusal):
            return presented
        return await self._open(presented, SlotPurpose.API_KEY)

    async def resolve_session(self, token: str) -> Identity | Refusal:
        """The identity behind a console session's cookie; no such token opens the data plane."""
        return await self._open(token, SlotPurpose.SESSION)

    async def _open(
        self, secret: str, purpose: str, *, is_again: bool = False
    ) -> Identity | Refusal:
        """Look up, admit, and open the secret's own slot."""
        handle = look_up_id(secret)
        try:
            known = await self._directory.resolve(handle)
            if known is None or known.slot.purpose != purpose:
                self._room.forget(handle)
                return _INVALID
            now = now_ms()
            refusal = admit(known.caller, now)
            if refusal is not None:
                return refusal
            if purpose == SlotPurpose.SESSION and not is_living(known.slot, now):
                return _INVALID
            view = await self._directory.owner(known.slot.owner_id)
            idle = view.settings.vault_idle_seconds
            try:
                vault = self._room.enter(known.slot, secret, idle_seconds=idle)
            except UnknownVaultError:
                # Its owner may have taken over on another machine.
                said = await self._directory.successions(known.slot.owner_id)
                vault = self._room.follow(known.slot, secret, said, idle_seconds=idle)
        except StorageError:
            return Refusal(
                ErrorCode.STORAGE_UNAVAILABLE, "The database cannot be used now.", retry_after=1
            )
        except OutdatedVaultError:
            # What was read before a re-key is read once more; a database rolled back stays refused.
            if is_again or known is None:
                return self._refused(known, "it is older than one seen here")
            self._directory.drop(known.slot.owner_id)
            return await self._open(secret, purpose, is_again=True)
        except UnknownVaultError:
            return self._refused(known, "it is another than the one seen here")
        except CustodyError:
            return _INVALID
        return Identity(known.caller, view, vault, handle)

    def _refused(self, known: Known | None, why: str) -> Refusal:
        """Log once an owner why keys are refused that may be right: their clients cannot tell."""
        owner_id = known.slot.owner_id if known is not None else ""
        if owner_id not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(owner_id)
            log.error("vault_refused", owner=owner_id, why=f"By vault-witness, {why}.")
        return _INVALID


def is_living(slot: Slot, now_ms: int) -> bool:
    """Whether a session or an invitation lives: until its expiry, and at the latest for a fixed time
    after it was made, which its id says and its tag binds. One from the future does not."""
    made_at = made_at_ms(slot.id)
    ends = made_at + LIVES_MS[slot.purpose]
    if slot.expires_at_ms is not None:
        ends = min(ends, slot.expires_at_ms)
    return now_ms < ends and made_at <= now_ms + AHEAD_MS


def presented_key(headers: dict[bytes, bytes], query: bytes) -> str | Refusal:
    """The one XAI API key of a request; two different ones are as bad as none."""
    authorization = headers.get(b"authorization")
    if (
        authorization is not None
        and authorization[:7] == b"Bearer "
        and b"," not in authorization
        and not query
        and b"x-api-key" not in headers
        and b"x-goog-api-key" not in headers
    ):
        # One carrier, as nearly every client has it; what follows says the same of it.
        only = authorization[7:].strip().decode("latin-1")
        return only if is_api_key(only) else _INVALID
    values = []
    if authorization is not None:
        scheme, space, rest = authorization.partition(b" ")
        values.append(rest.strip() if space and scheme.lower() == b"bearer" else authorization)
    values += [headers[name] for name in (b"x-api-key", b"x-goog-api-key") if name in headers]
    if b"key=" in query or b"%" in query:
        values += [
            value.encode("utf-8", "replace")
            for name, value in parse_qsl(query.decode("latin-1"), encoding="utf-8")
            if name == "key"
        ]
    # A header sent twice arrives joined by a comma, which no key contains.
    candidates = {part.decode("latin-1") for value in values for part in _parts(value)}
    keys = {text for text in candidates if is_api_key(text)}
    if len(keys) == 1:
        return keys.pop()
    if len(keys) > 1:
        return Refusal(
            ErrorCode.INVALID_API_KEY, "Two different XAI API keys came with the request."
        )
    return _INVALID


def _parts(value: bytes) -> list[bytes]:
    found = []
    for part in value.split(b","):
        word = part.strip()
        found.append(word[7:].strip() if word[:7].lower() == b"bearer " else word)
    return found
