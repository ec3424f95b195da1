"""Refreshing what provider keys serve, without anybody asking.

Only where that is possible without holding anything new: while an owner's vault is open in this
process anyway, or under the owner's automation grant. It extends neither a vault's idle time nor
its absolute life, costs no tokens, and changes only what the provider says: the list of models and
whether the key is accepted.
"""

import asyncio
from collections.abc import Callable

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
from xairouter.observe import log
from xairouter.storage import changes, keys, owners, provider_keys, successions
from xairouter.storage.provider_keys import ProviderKeyChange

CONFIRM_EVERY_SECONDS = 1.0
LOOK_EVERY_SECONDS = 30.0
REFRESH_SECONDS = 3600.0
AT_ONCE = 4


class Refresher:
    """Remembers when each key was last asked about; one per process."""

    def __init__(self, desk: Desk, seconds: Callable[[], float]) -> None:
        self._desk = desk
        self._seconds = seconds
        self._asked_at: dict[str, float] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def run(self, stop: asyncio.Event) -> None:
        """Look every second which keys were rejected, and every half minute which are due for a
        refresh, until told to stop."""
        looked_at = self._seconds()
        while await pause(stop, CONFIRM_EVERY_SECONDS):
            try:
                await self.confirm()
                if self._seconds() - looked_at >= LOOK_EVERY_SECONDS:
                    looked_at = self._seconds()
                    await self.refresh()
            except Exception as error:  # noqa: BLE001 -- a background loop outlives every failure
                log.warning("refresh_failed", reason=str(error))

    async def refresh(self) -> int:
        """Ask about every key that is due and whose vault is at hand; returns how many."""
        due: list[tuple[ProviderKey, OpenVault]] = []
        async with self._desk.database.read() as connection:
            for owner in await owners.list_owners(connection):
                vault = await self._vault_at_hand(owner.id)
                if vault is None:
                    continue
                for key in await provider_keys.list_all(connection, owner.id):
                    if key.status == ProviderKeyStatus.ACTIVE and self._is_due(key):
                        due.append((key, vault))
        await asyncio.gather(*(self._ask(key, vault) for key, vault in due))
        return len(due)

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
        changed = 0
        health = self._desk.health
        for key in health.take_recovered():
            changed += await self._store(key, WELL)
        found = await asyncio.gather(*(self._confirm(key) for key in health.take_rejected()))
        return changed + sum(found)

    async def _confirm(self, key: ProviderKey) -> bool:
        vault = await self._vault_at_hand(key.owner_id)
        state = ProbeState.UNPROBED
        if vault is not None:
            async with self._slots:
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
        async with self._slots:
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
        async with self._desk.database.write() as connection:
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
