"""Refreshing what provider keys serve, without anybody asking.

Only where that is possible without holding anything new: while an owner's vault is open in this
process anyway, or under the owner's automation grant. It extends neither a vault's idle time nor
its absolute life, costs no tokens, and changes only what the provider says: the list of models and
whether the key is accepted.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

from xairouter.clock import pause
from xairouter.custody.slots import open_slot
from xairouter.custody.vault import OpenVault
from xairouter.custody.witness import UnknownVaultError
from xairouter.domain.accounts import KeyHealth, ProviderKey, ProviderKeyStatus
from xairouter.domain.notices import ABOUT_KEYS, Occasion
from xairouter.domain.permissions import ActedBy, SystemChange
from xairouter.errors import CustodyError
from xairouter.manage.desk import Desk, OperationEntry, write_operation
from xairouter.manage.key_health import ALTERED, KIND_OF, REJECTED, WELL
from xairouter.manage.notices import close_notices, raise_notices
from xairouter.manage.probe import ProbeState, probe
from xairouter.manage.under_way import UnderWay
from xairouter.observe import log
from xairouter.storage import changes, keys, owners, provider_keys, successions
from xairouter.storage.provider_keys import ProviderKeyChange
from xairouter.turns import Places

CONFIRM_EVERY_SECONDS = 1.0
LOOK_EVERY_SECONDS = 30.0
REFRESH_SECONDS = 3600.0
MOST_CONFIRMED, MOST_REFRESHED = 32, 8
"""Owners whose providers are asked at once, one key of each."""


class Refresher:
    """Remembers when each key was last asked about; one per process.

    Each key is asked about in a task of its own, or of its owner's keys: a provider that does not
    answer holds up its owner's other keys alone.
    """

    def __init__(self, desk: Desk, seconds: Callable[[], float]) -> None:
        self._desk = desk
        self._seconds = seconds
        self._asked_at: dict[str, float] = {}
        self._confirming = UnderWay("refresh_failed")
        self._to_confirm = Places(MOST_CONFIRMED, 1)
        self._refreshing = UnderWay("refresh_failed")
        self._to_refresh = Places(MOST_REFRESHED, 1)

    async def run(self, stop: asyncio.Event) -> None:
        """Look every second which keys were rejected, and every half minute which are due for a
        refresh, until told to stop."""
        looked_at = self._seconds()
        while await pause(stop, CONFIRM_EVERY_SECONDS):
            try:
                await self._begin_confirming()
                if self._seconds() - looked_at >= LOOK_EVERY_SECONDS:
                    looked_at = self._seconds()
                    await self._begin_refreshing()
            except Exception as error:  # noqa: BLE001 -- a background loop outlives every failure
                log.warning("refresh_failed", reason=str(error))
        await self._confirming.stop()
        await self._refreshing.stop()

    async def refresh(self) -> int:
        """Ask about every key that is due and whose vault is at hand, and wait for the answers;
        returns how many."""
        await self._begin_refreshing()
        return await self._refreshing.results()

    async def _begin_refreshing(self) -> None:
        """Begin to ask, one owner's keys one after another, but for owners that are being asked."""
        due: defaultdict[str, list[ProviderKey]] = defaultdict(list)
        async with self._desk.database.read() as connection:
            for owner in await owners.list_owners(connection):
                if owner.id in self._refreshing.names:
                    continue
                if await self._vault_at_hand(owner.id) is None:
                    continue
                for key in await provider_keys.list_all(connection, owner.id):
                    if key.status == ProviderKeyStatus.ACTIVE and self._is_due(key):
                        due[owner.id].append(key)
        for owner_id, found in due.items():
            self._refreshing.begin(owner_id, partial(self._ask_all, owner_id, found))

    async def _ask_all(self, owner_id: str, due: Sequence[ProviderKey]) -> int:
        """Ask about an owner's keys while its vault is at hand; returns how many."""
        asked = 0
        for key in due:
            async with self._to_refresh.place(owner_id):
                vault = await self._vault_at_hand(owner_id)
                if vault is not None:
                    await self._ask(key, vault)
                    asked += 1
        return asked

    async def _vault_at_hand(self, owner_id: str) -> OpenVault | None:
        vault = self._desk.room.at_hand(owner_id)
        secret = self._desk.automation_secret
        if vault is not None or not secret:
            return vault
        async with self._desk.database.read() as connection:
            slot = await keys.find_grant(connection, owner_id)
            said = await successions.list_of(connection, owner_id)
        if slot is None:
            return None
        try:
            vault = open_slot(slot, secret.encode("utf-8"))
            try:
                self._desk.room.witness.check(vault)
            except UnknownVaultError:
                self._desk.room.witness.follow(vault, said)
        except CustodyError:
            log.warning("grant_does_not_open", owner=owner_id)
            return None
        return vault

    def _is_due(self, key: ProviderKey) -> bool:
        """A key is first asked about an hour after this process first saw it."""
        now = self._seconds()
        return now - self._asked_at.setdefault(key.id, now) >= REFRESH_SECONDS

    async def confirm(self) -> int:
        """Ask once more about keys that a provider rejected in a call, and store what is certain:
        that it rejects them, or that one stored as rejected serves again. Returns how many keys
        changed.

        A key that the provider accepts stays as it was: that call failed for reasons of its own.
        Where nobody can be asked, the second rejection in a row is certain enough.
        """
        changed = await self._begin_confirming()
        return changed + await self._confirming.results()

    async def _begin_confirming(self) -> int:
        """Begin to ask about rejected keys, one at a time of each owner; store those that serve again,
        and return how many these are."""
        changed = 0
        health = self._desk.health
        for key in health.take_recovered():
            changed += await self._store(key, WELL)
        for key in health.take_rejected():
            self._confirming.begin(key.id, partial(self._confirm, key))
        return changed

    async def _confirm(self, key: ProviderKey) -> bool:
        async with self._to_confirm.place(key.owner_id):
            return await self._confirm_now(key)

    async def _confirm_now(self, key: ProviderKey) -> bool:
        vault = await self._vault_at_hand(key.owner_id)
        state = ProbeState.UNPROBED
        if vault is not None:
            found = await probe(self._desk.room, key, vault)
            # A provider that has no list of models may not have looked at the key.
            if found.state != ProbeState.OK or found.status == 200:
                state = found.state
        if state == ProbeState.OK:
            self._desk.health.refute(key)
            return False
        in_a_row = self._desk.health.believe(key)
        if state == ProbeState.ALTERED:
            return await self._store(key, ALTERED)
        if state == ProbeState.REJECTED or (state == ProbeState.UNPROBED and in_a_row > 1):
            return await self._store(key, REJECTED)
        return False

    async def _ask(self, key: ProviderKey, vault: OpenVault) -> None:
        self._asked_at[key.id] = self._seconds()
        found = await probe(self._desk.room, key, vault)
        values: ProviderKeyChange = {}
        if found.state == ProbeState.OK:
            if found.models is not None and found.models != key.discovered:
                values["discovered"] = found.models
            if key.health != KeyHealth.OK:
                values.update(WELL)
        elif found.state == ProbeState.REJECTED and key.health != KeyHealth.REJECTED:
            values = REJECTED
        elif found.state == ProbeState.ALTERED and key.health != KeyHealth.ALTERED:
            values = ALTERED
        if values:
            await self._store(key, values)

    async def _store(self, key: ProviderKey, values: ProviderKeyChange) -> bool:
        """Change what is known of a key, with the notice that goes with it."""
        async with self._desk.database.write(key.owner_id) as connection:
            stored = await provider_keys.get(connection, key.owner_id, key.id)
            if stored is None or stored.revision != key.revision:
                return False
            await provider_keys.update(connection, key.owner_id, key.id, **values)
            kind = KIND_OF.get(values.get("health", KeyHealth.OK))
            if kind is not None:
                occasion = Occasion(key.owner_id, kind, key.id, {"name": key.name})
                await raise_notices(connection, [occasion])
            elif values.get("health") == KeyHealth.OK:
                await close_notices(connection, key.owner_id, ABOUT_KEYS, key.id)
            await changes.announce(
                connection, key.owner_id, SystemChange.PROVIDER_KEYS_REFRESH, key.id
            )
            await write_operation(
                connection,
                OperationEntry(
                    owner_id=key.owner_id,
                    actor=ActedBy.REFRESH,
                    verb=SystemChange.PROVIDER_KEYS_REFRESH,
                    target_id=key.id,
                    detail={"fields": sorted(values)},
                ),
            )
        await self._desk.directory.changed(key.owner_id)
        return True
