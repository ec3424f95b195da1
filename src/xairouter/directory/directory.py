"""Callers by look-up id, owners by id, bindings of provider objects; and following the changes."""

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncConnection

from xairouter.clock import pause
from xairouter.directory.bus import HEARTBEAT_SECONDS, Bus, Changed, Message, NoBus
from xairouter.domain.accounts import Account
from xairouter.domain.slots import Slot, SlotPurpose
from xairouter.domain.successions import Succession
from xairouter.errors import StorageError
from xairouter.observe import log
from xairouter.policy.catalogue import catalogue_in_steps
from xairouter.policy.interface import Binding, Caller, OwnerView
from xairouter.policy.owner_prices import read_prices
from xairouter.policy.rules import read_routing
from xairouter.storage import changes, keys, owners, provider_keys, records, successions
from xairouter.storage.database import Database
from xairouter.turns import in_slices

POLL_SECONDS = 0.25
POLL_LIMIT_SECONDS = 1.0
BINDING_TRIES = 3
LOAD_SECONDS = 5.0
BLIND_AFTER_SECONDS = 1.5
"""With neither a look into the database nor a word on the bus for so long, an instance is blind."""
MAX_CALLERS = 100_000
MAX_BINDINGS = 50_000
_UNCONFIRMED = -1
"""No generation: the database may know better."""


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
        bus: Bus | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._blind_seconds = blind_seconds
        self._bus = bus or NoBus()
        self._now = monotonic
        self._callers: OrderedDict[bytes, Known] = OrderedDict()
        self._of_owner: dict[str, set[bytes]] = {}
        self._owners: dict[str, OwnerView] = {}
        self._generation: dict[str, int] = {}
        self._bindings: OrderedDict[tuple[str, str], tuple[int, Binding]] = OrderedDict()
        self._listeners: list[Callable[[str], Awaitable[None]]] = []
        self._read_to = 0
        self._known_to = 0
        self._read_at = self._heard_at = monotonic()
        self._hurry = asyncio.Event()
        self._unreviewed: dict[str, None] = {}
        self._reviews = asyncio.Event()

    def on_change(self, listener: Callable[[str], Awaitable[None]]) -> None:
        """Ask to be told of each owner that changed, after its picture was dropped."""
        self._listeners.append(listener)

    @property
    def blind_for(self) -> float:
        """Seconds since the changes were last known, from the database or from the bus."""
        return self._now() - max(self._read_at, self._heard_at)

    @property
    def unread_for(self) -> float:
        """Seconds since this instance itself last read the changes in the database."""
        return self._now() - self._read_at

    @property
    def is_too_blind(self) -> bool:
        """Whether what is known here is too old to trust: changes were neither read nor heard of
        for ``BLIND_AFTER_SECONDS`` and ``XAIROUTER_BLIND_SECONDS`` together."""
        return self.blind_for > BLIND_AFTER_SECONDS + self._blind_seconds

    async def resolve(self, look_up_id: bytes) -> Known | None:
        """The key behind a look-up id, None if there is none.

        Raises StorageError if that is not known and the database is away, or if it has been away
        for longer than ``XAIROUTER_BLIND_SECONDS``.
        """
        known = self._callers.get(look_up_id)
        if known is not None:
            if self.is_too_blind:
                raise StorageError("The database has been away for too long to trust old keys.")
            self._callers.move_to_end(look_up_id)
            return known
        return await self._load(look_up_id)

    async def _load(self, look_up_id: bytes) -> Known | None:
        async with self._database.read(seconds=LOAD_SECONDS) as connection:
            slot = await keys.find_slot(connection, look_up_id)
            if slot is None or slot.purpose not in (SlotPurpose.API_KEY, SlotPurpose.SESSION):
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
        known = Known(slot, Caller.of(key, chain, owner.revision))
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
        async with self._database.read(seconds=LOAD_SECONDS) as connection:
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
            await in_slices(catalogue_in_steps(found), owner_id),
            read_routing(row.routing),
        )
        if self._generation.get(owner_id, 0) == generation:
            self._owners[owner_id] = view
        return view

    async def successions(self, owner_id: str) -> Sequence[Succession]:
        """What an owner's former vaults said of their successors; raises StorageError."""
        async with self._database.read(seconds=LOAD_SECONDS) as connection:
            return await successions.list_of(connection, owner_id)

    async def bindings(
        self, owner_id: str, object_ids: Iterable[str]
    ) -> Mapping[str, Binding | None]:
        """What is known of each provider object; None for unknown ones."""
        found: dict[str, Binding | None] = {}
        unsure: dict[str, Binding | None] = {}
        generation = self._generation.get(owner_id, 0)
        for object_id in object_ids:
            known, binding = self._bindings.get((owner_id, object_id), (_UNCONFIRMED, None))
            # Since the tree changed, the account may stand elsewhere in it.
            (found if known == generation else unsure)[object_id] = binding
        if unsure:
            async with self._database.read(seconds=LOAD_SECONDS) as connection:
                stored = await self._stored(connection, owner_id, unsure)
                paths: dict[str, tuple[str, ...]] = {}
                for object_id, remembered in unsure.items():
                    binding = stored.get(object_id, remembered)
                    if binding is not None:
                        maker = binding.account_id
                        if maker not in paths:
                            chain = await owners.chain_of(connection, owner_id, maker)
                            paths[maker] = tuple(account.id for account in chain)
                        binding = replace(binding, account_path=paths[maker])
                        is_stored = object_id in stored
                        self._remember(owner_id, generation if is_stored else _UNCONFIRMED, binding)
                    found[object_id] = binding
        return found

    async def _stored(
        self, connection: AsyncConnection, owner_id: str, unsure: Mapping[str, Binding | None]
    ) -> dict[str, Binding]:
        """Bindings in the database. One that is unknown may just be on its way there from another
        instance, where there are others: it is looked for a little longer."""
        tries = BINDING_TRIES if self._bus.others else 1
        stored: dict[str, Binding] = {}
        while True:
            for row in await records.find_objects(connection, owner_id, list(unsure)):
                stored[row.object_id] = Binding(
                    row.object_id, row.account_id, row.provider_key_id, call_id=row.call_id
                )
            tries -= 1
            missing = [one for one, known in unsure.items() if not known and one not in stored]
            if not missing or not tries:
                return stored
            await asyncio.sleep(POLL_SECONDS)

    def let_go(self, owner_id: str, object_id: str) -> None:
        """The object's end has been seen; whoever shows it again settles nothing."""
        known = self._bindings.get((owner_id, object_id))
        if known is not None:
            self._bindings[owner_id, object_id] = (known[0], replace(known[1], call_id=None))

    async def accounts_to(self, owner_id: str, account_id: str) -> tuple[Account, ...]:
        """The accounts from the owner down to one, none if that is deleted; raises StorageError."""
        async with self._database.read(seconds=LOAD_SECONDS) as connection:
            return await owners.chain_of(connection, owner_id, account_id)

    def remember_objects(
        self,
        caller: Caller,
        ids: Iterable[str],
        provider_key_id: str,
        call_id: str | None = None,
    ) -> None:
        """Bind what a running call has just made, before its record is stored; ``call_id`` is that
        call where the object's end settles its record.

        Some of it may be older, of a call of another account (a container that is used again, or
        an id that a provider made up): what is known here stays, and the database, in which the
        first one stands, is asked before this one counts.
        """
        path = tuple(account.id for account in caller.chain)
        for one in ids:
            if (caller.owner_id, one) not in self._bindings:
                binding = Binding(one, caller.account.id, provider_key_id, path, call_id)
                self._remember(caller.owner_id, _UNCONFIRMED, binding)

    def _remember(self, owner_id: str, generation: int, binding: Binding) -> None:
        self._bindings[(owner_id, binding.object_id)] = (generation, binding)
        if len(self._bindings) > MAX_BINDINGS:
            self._bindings.popitem(last=False)

    def known_owners(self) -> list[str]:
        """Owners of whom a caller is known here."""
        return [owner_id for owner_id, callers in self._of_owner.items() if callers]

    def callers_of(self, owner_id: str) -> list[Caller]:
        """An owner's callers that are known here."""
        known = (self._callers.get(one) for one in self._of_owner.get(owner_id, ()))
        return [one.caller for one in known if one is not None]

    def drop(self, owner_id: str) -> None:
        """Forget what is known of an owner; loads under way do not bring it back."""
        self._generation[owner_id] = self._generation.get(owner_id, 0) + 1
        self._owners.pop(owner_id, None)
        for look_up_id in self._of_owner.pop(owner_id, set()):
            self._callers.pop(look_up_id, None)

    async def changed(self, owner_id: str) -> None:
        """This process changed an owner: forget it, tell the listeners, and let the others know."""
        self.drop(owner_id)
        self._hurry.set()
        await self._tell_listeners(owner_id)

    async def start(self) -> None:
        """Note where the changes stand, before anything is cached."""
        async with self._database.read() as connection:
            self._read_to = self._known_to = await changes.last_seq(connection)
        self._read_at = self._now()
        self._bus.listen(self.hear)

    def hear(self, message: Message) -> None:
        """Another instance tells how far it has read the changes, and of whom they were."""
        if not isinstance(message, Changed):
            return
        if message.to > self._known_to:
            self._forget(message.owners)
        if message.after <= self._known_to:
            self._known_to = max(self._known_to, message.to)
            self._heard_at = self._now()

    async def follow(self, stop: asyncio.Event) -> None:
        """Read the changes as they come, whoever made them (another process, the CLI)."""
        reviewing = asyncio.create_task(self._review())
        was_blind = False
        try:
            while not stop.is_set():
                try:
                    await self._follow_while_connected(stop)
                    was_blind = False
                except Exception as error:  # noqa: BLE001 -- a background loop outlives every failure
                    if not was_blind:
                        log.warning("changes_cannot_be_read", reason=str(error))
                    was_blind = True
                    await pause(stop, POLL_SECONDS)
        finally:
            reviewing.cancel()

    async def _follow_while_connected(self, stop: asyncio.Event) -> None:
        async with self._database.read(seconds=None) as connection:
            version: int | None = None
            told_at = 0.0
            while not stop.is_set():
                self._hurry.clear()
                async with asyncio.timeout(POLL_LIMIT_SECONDS):
                    now = await self._database.version(connection)
                    behind: int = self._read_to
                    changed: Sequence[str] = ()
                    if now != version:
                        version = now
                        self._read_to, changed = await changes.since(connection, behind)
                self._read_at = self._now()
                if changed or self._read_at - told_at >= HEARTBEAT_SECONDS:
                    told_at = self._read_at
                    self._bus.tell(
                        Changed(self._bus.instance, behind, self._read_to, tuple(changed))
                    )
                if self._read_to > self._known_to:
                    self._known_to = self._read_to
                    self._forget(changed)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._hurry.wait(), POLL_SECONDS)

    def _forget(self, owner_ids: Iterable[str]) -> None:
        """Forget owners now; the listeners are told in the background."""
        for owner_id in owner_ids:
            self.drop(owner_id)
            self._unreviewed[owner_id] = None
        self._reviews.set()

    async def _tell_listeners(self, owner_id: str) -> bool:
        """Whether every listener could do what the change demands; if not, once more later."""
        try:
            for listener in self._listeners:
                await listener(owner_id)
        except StorageError as error:
            log.warning("review_is_repeated", owner=owner_id, reason=str(error))
            self._unreviewed[owner_id] = None
            self._reviews.set()
            return False
        return True

    async def _review(self) -> None:
        while True:
            await self._reviews.wait()
            self._reviews.clear()
            waiting, self._unreviewed = self._unreviewed, {}
            done = await asyncio.gather(*(self._tell_listeners(owner) for owner in waiting))
            if not all(done):
                await asyncio.sleep(POLL_SECONDS)
