"""The live health of provider keys, as the calls of this instance have met it, and of the others
that share its bus.

Empty while all is well, so that a healthy key costs a call nothing. Nothing here is stored: what
must outlive the process (a key that its provider rejects) is written by ``manage.refresh``.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace

from xairouter.directory.bus import Ailing, Bus, Message, NoBus, Well
from xairouter.domain.accounts import KeyHealth, ProviderKey
from xairouter.domain.failures import Cause, Failure
from xairouter.policy.failures import LONGEST_WAIT
from xairouter.policy.health import EVERY_MODEL, Ailment, on_trial, scope_of, suspicion, worse

MOST_MODELS = 200
"""Ailing models of one key that are remembered; a client may invent names."""
MOST_KEYS = 20_000

Ailments = Mapping[str, Ailment]


class Health:
    """All methods belong to the event loop's thread."""

    def __init__(
        self, bus: Bus | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.now = monotonic
        self._bus = bus or NoBus()
        self._bus.listen(self.hear)
        self._keys: OrderedDict[str, OrderedDict[str, Ailment]] = OrderedDict()
        self._owners: dict[str, str] = {}
        self._told: set[str] = set()
        self._rejected: dict[str, ProviderKey] = {}
        self._recovered: dict[str, ProviderKey] = {}

    @property
    def ailing(self) -> Mapping[str, Ailments]:
        """Provider-key id → model (or ``EVERY_MODEL``) → ailment."""
        return self._keys

    def of(self, key: ProviderKey) -> list[tuple[str, Ailment]]:
        """What ails a key now: (model or ``EVERY_MODEL``, ailment), the longest first."""
        now = self.now()
        found = [
            (scope, ailment)
            for scope, ailment in self._keys.get(key.id, {}).items()
            if ailment.revision == key.revision and ailment.keeps_away(now)
        ]
        return sorted(found, key=lambda one: one[1].until, reverse=True)

    def may_try(self, key: ProviderKey, model: str | None) -> bool:
        """Whether a call may be sent now. Of the calls that come after a sleep one goes ahead and
        the others are kept away until it knows more."""
        scopes = self._keys.get(key.id)
        if not scopes:
            return True
        now = self.now()
        for scope in (EVERY_MODEL, model or EVERY_MODEL):
            ailment = scopes.get(scope)
            if ailment is None or ailment.revision != key.revision or not ailment.sleeps:
                continue
            if ailment.keeps_away(now):
                return False
            scopes[scope] = on_trial(ailment, now)
        return True

    def failed(self, key: ProviderKey, model: str | None, failure: Failure) -> None:
        """A call failed for this reason. That a provider rejects a key that served until now is
        only suspected, for one call's own fault may look the same: other keys are tried first until
        ``believe`` or ``refute``."""
        if failure.cause == Cause.REJECTED and key.health == KeyHealth.OK:
            self._rejected[key.id] = key
            self._let_another_try(key, model)
            if self._ailment(key.id, EVERY_MODEL) is None:
                suspected = suspicion(key.revision, self.now())
                self._note(key.owner_id, key.id, EVERY_MODEL, suspected)
        else:
            self._ail(key, model, failure)

    def believe(self, key: ProviderKey) -> int:
        """Whoever asked once more could not refute that the key is rejected: it sleeps. Returns how
        many times in a row that was so."""
        self._ail(key, None, Failure(Cause.REJECTED))
        ailment = self._ailment(key.id, EVERY_MODEL)
        return 0 if ailment is None else ailment.count

    def refute(self, key: ProviderKey) -> None:
        """The provider accepts the key: that it was rejected is forgotten, nothing else is."""
        ailment = self._ailment(key.id, EVERY_MODEL)
        if ailment is not None and ailment.cause == Cause.REJECTED:
            self._recover(key.id, EVERY_MODEL)
            self._bus.tell(Well(self._bus.instance, key.id, EVERY_MODEL))

    def _let_another_try(self, key: ProviderKey, model: str | None) -> None:
        """The call that tried a key after its sleep found out nothing: the others wait no longer."""
        scopes = self._keys.get(key.id)
        if scopes is None:
            return
        for scope in (EVERY_MODEL, model or EVERY_MODEL):
            ailment = scopes.get(scope)
            if ailment is not None and ailment.is_on_trial:
                scopes[scope] = replace(ailment, until=self.now(), is_on_trial=False)

    def _ail(self, key: ProviderKey, model: str | None, failure: Failure) -> None:
        scope = scope_of(failure, model)
        if scope is None:
            self._let_another_try(key, model)
            return
        now = self.now()
        before = self._ailment(key.id, scope)
        after = worse(before, failure, key.revision, now)
        self._note(key.owner_id, key.id, scope, after)
        if before is None or after.until > before.until or after.cause != before.cause:
            self._bus.tell(
                Ailing(
                    self._bus.instance,
                    key.owner_id,
                    key.id,
                    scope,
                    after.cause,
                    after.sleeps,
                    after.until - now,
                    now - after.since,
                    after.count,
                    after.revision,
                )
            )

    def _ailment(self, key_id: str, scope: str) -> Ailment | None:
        scopes = self._keys.get(key_id)
        return None if scopes is None else scopes.get(scope)

    def _note(self, owner_id: str, key_id: str, scope: str, ailment: Ailment) -> None:
        scopes = self._keys.setdefault(key_id, OrderedDict())
        self._owners[key_id] = owner_id
        scopes[scope] = ailment
        scopes.move_to_end(scope)
        if len(scopes) > MOST_MODELS:
            scopes.popitem(last=False)
        if len(self._keys) > MOST_KEYS:
            self._forget(next(iter(self._keys)))

    def hear(self, message: Message) -> None:
        """Another instance found a key ailing, or well again."""
        match message:
            case Ailing():
                now = self.now()
                heard = Ailment(
                    message.cause,
                    message.sleeps,
                    now + min(message.wait, LONGEST_WAIT),
                    now - max(0.0, message.lasted),
                    message.count,
                    message.revision,
                )
                own = self._ailment(message.key_id, message.scope)
                if own is None or own.revision < heard.revision or own.until < heard.until:
                    self._note(message.owner_id, message.key_id, message.scope, heard)
            case Well(scope=None):
                self._forget(message.key_id)
            case Well():
                self._recover(message.key_id, message.scope)

    def served(self, key: ProviderKey, model: str | None) -> None:
        """A call was served: whatever ailed the key or the model is over."""
        if key.health != KeyHealth.OK:
            self._recovered[key.id] = key
        if key.id in self._keys:
            self._recover(key.id, model)
            self._bus.tell(Well(self._bus.instance, key.id, model or EVERY_MODEL))

    def _recover(self, key_id: str, model: str | None) -> None:
        scopes = self._keys.get(key_id)
        if scopes is None:
            return
        scopes.pop(EVERY_MODEL, None)
        scopes.pop(model or EVERY_MODEL, None)
        if not scopes:
            self._forget(key_id)

    def forget(self, key_id: str) -> None:
        """A key serves again, was tested, or was replaced: begin anew, here and elsewhere."""
        self._forget(key_id)
        self._bus.tell(Well(self._bus.instance, key_id))

    def _forget(self, key_id: str) -> None:
        for known in (self._keys, self._owners, self._rejected):
            known.pop(key_id, None)
        self._told.discard(key_id)

    def take_rejected(self) -> list[ProviderKey]:
        """Keys that a provider rejected in a call, for whoever asks the provider once more, and
        then says ``believe`` or ``refute``."""
        taken = list(self._rejected.values())
        self._rejected.clear()
        return taken

    def take_recovered(self) -> list[ProviderKey]:
        """Keys that are stored as rejected and have served a call all the same."""
        taken = list(self._recovered.values())
        self._recovered.clear()
        return taken

    def long_asleep(self, seconds: float) -> list[tuple[str, str, Ailment]]:
        """(owner, key id, ailment) of keys that have served nothing for so long and still sleep,
        without those that were told of."""
        now = self.now()
        found = []
        for key_id, scopes in self._keys.items():
            for ailment in scopes.values():
                is_long = ailment.keeps_away(now) and now - ailment.since >= seconds
                if is_long and key_id not in self._told:
                    found.append((self._owners[key_id], key_id, ailment))
                    break
        return found

    def told(self, key_id: str) -> None:
        """The owner knows by now that this key sleeps."""
        self._told.add(key_id)
