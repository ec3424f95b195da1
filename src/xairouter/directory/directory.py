"""Callers by look-up id, owners by id, bindings of provider objects; and following the changes."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from xairouter.domain.slots import API_KEY, SESSION, Slot
from xairouter.errors import StorageError
from xairouter.observe import log
from xairouter.policy.interface import Binding, Caller, OwnerView
from xairouter.policy.owner_prices import read_prices
from xairouter.policy.routing import compile_catalogue
from xairouter.storage import changes, keys, owners, provider_keys, records
from xairouter.storage.database import Database

POLL_SECONDS = 0.25
MAX_CALLERS = 100_000
MAX_BINDINGS = 50_000


@dataclass(frozen=True, slots=True)
class Known:
    """A key's slot and who it is; one revision's picture."""

    slot: Slot
    caller: Caller


class Directory:
    """All methods belong to the event loop's thread."""

    def __init__(
        self,
        database: Database,
        *,
        blind_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._blind_seconds = blind_seconds
        self._now = monotonic
        self._callers: OrderedDict[bytes, Known] = OrderedDict()
        self._of_owner: dict[str, set[bytes]] = {}
        self._owners: dict[str, OwnerView] = {}
        self._generation: dict[str, int] = {}
        self._bindings: OrderedDict[tuple[str, str], tuple[int, Binding]] = OrderedDict()
        self._listeners: list[Callable[[str], Awaitable[None]]] = []
        self._seq = 0
        self._seen_at = monotonic()

    def on_change(self, listener: Callable[[str], Awaitable[None]]) -> None:
        """Ask to be told of each owner that changed, after its picture was dropped."""
        self._listeners.append(listener)

    @property
    def blind_for(self) -> float:
        """Seconds since the changes were last read; above two, revocation may lag."""
        return self._now() - self._seen_at

    async def resolve(self, look_up_id: bytes) -> Known | None:
        """The key behind a look-up id, None if there is none.

        Raises StorageError if that is not known and the database is away, or if it has been away
        for longer than ``XAIROUTER_BLIND_SECONDS``.
        """
        known = self._callers.get(look_up_id)
        if known is not None:
            if self.blind_for > 2 + self._blind_seconds:
                raise StorageError("The database has been away for too long to trust old keys.")
            self._callers.move_to_end(look_up_id)
            return known
        return await self._load(look_up_id)

    async def _load(self, look_up_id: bytes) -> Known | None:
        async with self._database.read() as connection:
            slot = await keys.find_slot(connection, look_up_id)
            if slot is None or slot.purpose not in (API_KEY, SESSION):
                return None
            generation = self._generation.get(slot.owner_id, 0)
            key = await keys.get_key(connection, slot.owner_id, slot.key_id)
            # Slot and key must agree: a moved row is nobody.
            if key is None or key.account_id != slot.account_id:
                return None
            chain = await owners.chain_of(connection, slot.owner_id, slot.account_id)
            owner = await owners.get_owner(connection, slot.owner_id)
        if not chain or owner is None or not chain[0].is_owner:
            return None
        known = Known(slot, Caller(key, chain, owner.revision))
        if self._generation.get(slot.owner_id, 0) == generation:
            self._callers[look_up_id] = known
            self._of_owner.setdefault(slot.owner_id, set()).add(look_up_id)
            if len(self._callers) > MAX_CALLERS:
                old, gone = self._callers.popitem(last=False)
                self._of_owner[gone.slot.owner_id].discard(old)
        return known

    async def owner(self, owner_id: str) -> OwnerView:
        """The owner's settings, prices and provider keys; raises StorageError."""
        view = self._owners.get(owner_id)
        if view is not None:
            return view
        generation = self._generation.get(owner_id, 0)
        async with self._database.read() as connection:
            row = await owners.get_owner(connection, owner_id)
            found = await provider_keys.list_all(connection, owner_id)
        if row is None:
            raise StorageError("The owner of this key is not in the database.")
        view = OwnerView(
            owner_id,
            row.revision,
            row.settings,
            read_prices(row.prices),
            {key.id: key for key in found},
            compile_catalogue(found),
        )
        if self._generation.get(owner_id, 0) == generation:
            self._owners[owner_id] = view
        return view

    async def bindings(
        self, owner_id: str, object_ids: Iterable[str]
    ) -> Mapping[str, Binding | None]:
        """What is known of each provider object; None for unknown ones."""
        found: dict[str, Binding | None] = {}
        unsure: dict[str, Binding | None] = {}
        generation = self._generation.get(owner_id, 0)
        for object_id in object_ids:
            known, binding = self._bindings.get((owner_id, object_id), (-1, None))
            # Since the tree changed, the account may stand elsewhere in it.
            (found if known == generation else unsure)[object_id] = binding
        if unsure:
            async with self._database.read() as connection:
                stored = {
                    row.object_id: Binding(row.object_id, row.account_id, row.provider_key_id)
                    for row in await records.find_objects(connection, owner_id, list(unsure))
                }
                for object_id, remembered in unsure.items():
                    binding = stored.get(object_id, remembered)
                    if binding is not None:
                        chain = await owners.chain_of(connection, owner_id, binding.account_id)
                        path = tuple(account.id for account in chain)
                        binding = replace(binding, account_path=path)
                        self._remember(owner_id, generation, binding)
                    found[object_id] = binding
        return found

    def remember_object(self, caller: Caller, object_id: str, provider_key_id: str) -> None:
        """Bind an object that a running call has just made, before its record is stored."""
        path = tuple(account.id for account in caller.chain)
        binding = Binding(object_id, caller.account.id, provider_key_id, path)
        self._remember(caller.owner_id, self._generation.get(caller.owner_id, 0), binding)

    def _remember(self, owner_id: str, generation: int, binding: Binding) -> None:
        self._bindings[(owner_id, binding.object_id)] = (generation, binding)
        if len(self._bindings) > MAX_BINDINGS:
            self._bindings.popitem(last=False)

    def drop(self, owner_id: str) -> None:
        """Forget what is known of an owner; loads under way do not bring it back."""
        self._generation[owner_id] = self._generation.get(owner_id, 0) + 1
        self._owners.pop(owner_id, None)
        for look_up_id in self._of_owner.pop(owner_id, set()):
            self._callers.pop(look_up_id, None)

    async def changed(self, owner_id: str) -> None:
        """An owner changed: forget it and tell the listeners."""
        self.drop(owner_id)
        for listener in self._listeners:
            await listener(owner_id)

    async def start(self) -> None:
        """Note where the changes stand, before anything is cached."""
        async with self._database.read() as connection:
            self._seq = await changes.last_seq(connection)
        self._seen_at = self._now()

    async def follow(self, stop: asyncio.Event) -> None:
        """Read the changes as they come, whoever made them (another process, the CLI)."""
        while not stop.is_set():
            try:
                await self._follow_while_connected(stop)
            except Exception as error:  # noqa: BLE001 -- a background loop outlives every failure
                log.warning("directory_is_blind", reason=str(error))
                await _pause(stop, POLL_SECONDS)

    async def _follow_while_connected(self, stop: asyncio.Event) -> None:
        async with self._database.read() as connection:
            version: int | None = None
            while not stop.is_set():
                now = await self._database.data_version(connection)
                if now != version:
                    version = now
                    self._seq, changed = await changes.since(connection, self._seq)
                    for owner_id in changed:
                        await self.changed(owner_id)
                self._seen_at = self._now()
                await _pause(stop, POLL_SECONDS)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
