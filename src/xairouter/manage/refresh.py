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
from xairouter.domain.accounts import ACTIVE, ProviderKey
from xairouter.domain.notices import ABOUT_KEYS, KEY_REJECTED, Occasion
from xairouter.errors import CustodyError
from xairouter.manage.desk import Desk, write_operation
from xairouter.manage.notices import close_notices, raise_notices
from xairouter.manage.probe import probe
from xairouter.observe import log
from xairouter.storage import changes, keys, owners, provider_keys, successions

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
        while not stop.is_set():
            await pause(stop, CONFIRM_EVERY_SECONDS)
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
                    if key.status == ACTIVE and self._is_due(key):
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

        Without a vault at hand the second rejection in a row is certain enough.
        """
        changed = 0
        health = self._desk.health
        for key in health.take_recovered():
            changed += await self._store(key, dict(_WELL))
        for key in health.take_rejected():
            if key.health == "rejected":
                continue
            vault = await self._vault_at_hand(key.owner_id)
            state = "unprobed"
            if vault is not None:
                async with self._slots:
                    state = (await probe(self._desk.room, key, vault)).state
            in_a_row = max((ailment.count for _, ailment in health.of(key)), default=0)
            if state == "rejected" or (state == "unprobed" and in_a_row > 1):
                changed += await self._store(key, dict(_REJECTED))
        return changed

    async def _ask(self, key: ProviderKey, vault: OpenVault) -> None:
        async with self._slots:
            self._asked_at[key.id] = self._seconds()
            found = await probe(self._desk.room, key, vault)
        values: dict[str, object] = {}
        if found.state == "ok":
            if found.models is not None and found.models != key.discovered:
                values["discovered"] = found.models
            if key.health != "ok":
                values |= _WELL
        elif found.state == "rejected" and key.health != "rejected":
            values = dict(_REJECTED)
        if values:
            await self._store(key, values)

    async def _store(self, key: ProviderKey, values: dict[str, object]) -> bool:
        """Change what is known of a key, with the notice that goes with it."""
        async with self._desk.database.write() as connection:
            stored = await provider_keys.get(connection, key.owner_id, key.id)
            if stored is None or stored.revision != key.revision:
                return False
            await provider_keys.update(connection, key.owner_id, key.id, **values)
            if values.get("health") == "rejected":
                occasion = Occasion(key.owner_id, KEY_REJECTED, key.id, {"name": key.name})
                await raise_notices(connection, [occasion])
            elif values.get("health") == "ok":
                await close_notices(connection, key.owner_id, ABOUT_KEYS, key.id)
            await changes.announce(connection, key.owner_id, "provider_keys.refresh", key.id)
            await write_operation(
                connection,
                owner_id=key.owner_id,
                actor="refresh",
                verb="provider_keys.refresh",
                target_id=key.id,
                detail={"fields": sorted(values)},
            )
        await self._desk.directory.changed(key.owner_id)
        return True


_WELL = {"health": "ok", "health_why": None}
_REJECTED = {"health": "rejected", "health_why": "The provider rejects the key."}
