"""An owner's vault: its key V, its root R, and provider keys sealed under V.

Sealed provider key, version 1::

    version (1) | epoch (4, big-endian) | nonce (12) | ciphertext and tag (AES-256-GCM)

under HKDF-Expand(V, ("seal", owner)). Associated data: that header, owner, provider-key id, row
revision, the auth scheme by dialect and the base URL by dialect, both sorted by dialect. Moving a
row, or changing any of these in place, makes it unopenable.
"""

import hmac
import secrets
from collections.abc import Mapping

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from xairouter.custody.derive import expand, packed
from xairouter.domain.accounts import ProviderKey
from xairouter.domain.unshown import Unshown
from xairouter.errors import CustodyError

VERSION = 1
_HEADER_BYTES = 17
FINGERPRINT_BYTES = 10
LAST4_MINIMUM = 20
_TAG_BYTES = 16


class OpenVault(Unshown):
    """Authority over one owner's vault, for as long as somebody holds this object.

    V and R are in private slots that only this package reads.
    """

    __slots__ = ("_bound", "_cipher", "_root", "_vault_key", "epoch", "owner_id")

    def __init__(self, owner_id: str, epoch: int, vault_key: bytes, root: bytes) -> None:
        self.owner_id = owner_id
        self.epoch = epoch
        self._vault_key = vault_key
        self._root = root
        self._cipher: AESGCM | None = None
        # What a row is bound to, packed; for that very object only, so that no other row passes.
        self._bound: dict[str, tuple[ProviderKey, bytes]] = {}


def new_vault(owner_id: str, epoch: int = 1) -> OpenVault:
    """A vault with a fresh key and root; take-over goes on behind the old vault's epoch."""
    return OpenVault(owner_id, epoch, secrets.token_bytes(32), secrets.token_bytes(32))


def next_epoch(vault: OpenVault) -> OpenVault:
    """The same vault with a fresh key in the next epoch; the root stays."""
    return OpenVault(vault.owner_id, vault.epoch + 1, secrets.token_bytes(32), vault._root)


def fingerprint(vault: OpenVault, secret: bytes) -> str:
    """20 hexadecimal digits that tell an owner's provider keys apart without showing them."""
    key = expand(vault._root, "fingerprint", vault.owner_id)
    return hmac.digest(key, secret, "sha256")[:FINGERPRINT_BYTES].hex()


def last4(secret: str) -> str | None:
    """The last four characters, None for secrets so short that four would say too much."""
    return secret[-4:] if len(secret) >= LAST4_MINIMUM else None


def secret_length(row: ProviderKey) -> int:
    """How many characters a row's secret has: the cipher hides what they are, not how many."""
    return len(row.sealed) - _HEADER_BYTES - _TAG_BYTES


def seal(
    vault: OpenVault,
    secret: bytes,
    *,
    key_id: str,
    revision: int,
    auth: Mapping[str, str],
    endpoints: Mapping[str, str],
) -> bytes:
    """Seal a provider key for one row."""
    nonce = secrets.token_bytes(12)
    header = bytes([VERSION]) + vault.epoch.to_bytes(4, "big") + nonce
    bound = _associated(header, vault.owner_id, key_id, revision, auth, endpoints)
    return header + _cipher_of(vault).encrypt(nonce, secret, bound)


def unseal(vault: OpenVault, row: ProviderKey) -> bytes:
    """The plaintext of a row; for this package only. Raises CustodyError if it does not open."""
    sealed = row.sealed
    header = sealed[:_HEADER_BYTES]
    opened: bytes | None = None
    if (
        row.owner_id == vault.owner_id
        and len(header) == _HEADER_BYTES
        and header[0] == VERSION
        and int.from_bytes(header[1:5], "big") == vault.epoch
    ):
        known = vault._bound.get(row.id)
        if known is None or known[0] is not row:
            bound = _associated(header, row.owner_id, row.id, row.revision, row.auth, row.endpoints)
            known = vault._bound[row.id] = (row, bound)
        bound = known[1]
        try:
            opened = _cipher_of(vault).decrypt(header[5:], sealed[_HEADER_BYTES:], bound)
        except (InvalidTag, ValueError):
            opened = None
    if opened is None:
        raise CustodyError("The provider key does not open; replace it.")
    return opened


def opens(vault: OpenVault, row: ProviderKey) -> bool:
    """Whether a row is still the one that its secret was sealed for: addresses, schemes and all."""
    try:
        unseal(vault, row)
    except CustodyError:
        return False
    return True


def _cipher_of(vault: OpenVault) -> AESGCM:
    """The cipher under the vault's seal key, derived once: it says no more than V does."""
    if vault._cipher is None:
        vault._cipher = AESGCM(expand(vault._vault_key, "seal", vault.owner_id))
    return vault._cipher


def _associated(
    header: bytes,
    owner_id: str,
    key_id: str,
    revision: int,
    auth: Mapping[str, str],
    endpoints: Mapping[str, str],
) -> bytes:
    return packed(
        b"xairouter/provider-key/v1",
        header,
        owner_id,
        key_id,
        revision,
        msgspec.json.encode(sorted(auth.items())),
        msgspec.json.encode(sorted(endpoints.items())),
    )


def root_key(vault: OpenVault, label: str) -> bytes:
    """A key for authentication, derived from the root; for this package only."""
    return expand(vault._root, label, vault.owner_id)


def keys_of(vault: OpenVault) -> tuple[bytes, bytes]:
    """(V, R), for issuing slots; for this package only."""
    return vault._vault_key, vault._root


def audit_mac(vault: OpenVault, content: bytes) -> str:
    """HMAC-SHA256 under the root's ``audit`` key, in hexadecimal: who holds no XAI key of the owner
    cannot make one."""
    return hmac.digest(root_key(vault, "audit"), content, "sha256").hex()
