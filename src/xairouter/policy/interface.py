"""What a decision looks at: an owner's compiled view and the caller's place in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from xairouter.domain.accounts import Account, ApiKey, OwnerSettings, ProviderKey
from xairouter.domain.rules import Routing
from xairouter.policy.catalogue import Catalogue
from xairouter.policy.health import Ailment
from xairouter.policy.owner_prices import OwnerPrices
from xairouter.policy.rules import Compiled, compile_text


@dataclass(frozen=True, slots=True)
class OwnerView:
    """An owner as one revision knows it; dropped and built anew when the revision moves on."""

    owner_id: str
    revision: int
    settings: OwnerSettings
    prices: OwnerPrices
    provider_keys: Mapping[str, ProviderKey]
    catalogue: Catalogue
    routing: Routing = field(default_factory=Routing)
    ways: dict[tuple[int, str, str], tuple["Caller", Any]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    """What ``routing.find_ways`` has found out once; goes with the view."""

    @property
    def zone(self) -> ZoneInfo:
        """The calendar in which the owner's days and months begin."""
        return ZoneInfo(self.settings.time_zone)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who presents a key: the key, and the accounts from the owner down to its own.

    ``chain`` begins with the owner's account and ends with the key's account; ``path`` is the same
    with each account's own rules compiled.
    """

    key: ApiKey
    chain: tuple[Account, ...]
    revision: int
    path: tuple[tuple[Account, Compiled], ...]
    limits: dict[str | None, tuple[Any, ...]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    """What ``limits.demands_of`` has found out once for a model, as columns; goes with the caller."""

    @classmethod
    def of(cls, key: ApiKey, chain: tuple[Account, ...], revision: int) -> "Caller":
        """A caller from what is stored."""
        path = tuple((account, compile_text(account.rules)) for account in chain)
        return cls(key, chain, revision, path)

    @property
    def account(self) -> Account:
        return self.chain[-1]

    @property
    def owner_id(self) -> str:
        return self.key.owner_id

    @property
    def is_owner_account(self) -> bool:
        return len(self.chain) == 1


@dataclass(frozen=True, slots=True)
class Situation:
    """What else holds at the moment of a decision.

    ``seconds`` is a monotonic clock's time, the one of ``ailments``: provider-key id → model or
    ``EVERY_MODEL`` → what ails it. ``bindings`` holds for each provider object that the call
    refers to what is known of it (None: nothing). ``draw`` is a fresh random number that shares
    the load between keys.
    """

    draw: int
    seconds: float = 0.0
    ailments: Mapping[str, Mapping[str, Ailment]] = field(default_factory=dict)
    bindings: Mapping[str, "Binding | None"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Binding:
    """Where a provider object belongs: the account that made it, the provider key that keeps it; and
    the call whose record its end settles, if one waits for that."""

    object_id: str
    account_id: str
    provider_key_id: str
    account_path: tuple[str, ...] = field(default_factory=tuple)
    call_id: str | None = None


class Question(msgspec.Struct, frozen=True):
    """One use of a key as the rules see it; what is not known yet is None.

    ``path`` is the canonical path, ``model`` the name asked for without a provider in front,
    ``mapped`` what the rules map it to; ``max_output_tokens`` what the request declares.
    """

    caller: Caller
    now_ms: int
    address: str
    path: str | None = None
    model: str | None = None
    mapped: str | None = None
    max_output_tokens: int | None = None
