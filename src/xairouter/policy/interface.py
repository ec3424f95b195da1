"""What a decision looks at: an owner's compiled view and the caller's place in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from xairouter.domain.accounts import Account, ApiKey, OwnerSettings, ProviderKey
from xairouter.policy.pricing import OwnerPrices
from xairouter.policy.routing import Catalogue


@dataclass(frozen=True, slots=True)
class OwnerView:
    """An owner as one revision knows it; dropped and built anew when the revision moves on."""

    owner_id: str
    revision: int
    settings: OwnerSettings
    prices: OwnerPrices
    provider_keys: Mapping[str, ProviderKey]
    catalogue: Catalogue


@dataclass(frozen=True, slots=True)
class Caller:
    """Who presents a key: the key, and the accounts from the owner down to its own.

    ``chain`` begins with the owner's account and ends with the key's account.
    """

    key: ApiKey
    chain: tuple[Account, ...]
    revision: int

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
class Binding:
    """Where a provider object belongs: the account that made it, the provider key that keeps it."""

    object_id: str
    account_id: str
    provider_key_id: str
    account_path: tuple[str, ...] = field(default_factory=tuple)
