"""Key derivation: HKDF-SHA256 (RFC 5869) with length-prefixed info, and X-Wing private keys.

Sources: RFC 5869; draft-connolly-cfrg-xwing-kem (seed → SHAKE-256 → ML-KEM-768 ‖ X25519).
Everything here is fixed by known-answer vectors in tests/unit/custody/vectors.json.
"""

import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from xairouter.errors import ConfigError

_SLOT_SALT = b"xairouter/slot/v1"
_MLKEM_PUBLIC_BYTES = 1184
PUBLIC_KEY_BYTES = _MLKEM_PUBLIC_BYTES + 32

SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def packed(*parts: str | bytes | int) -> bytes:
    """Parts joined without ambiguity: each behind its length in two bytes, big-endian."""
    encoded = [part if isinstance(part, bytes) else str(part).encode("utf-8") for part in parts]
    return b"".join(len(part).to_bytes(2, "big") + part for part in encoded)


def slot_prk(secret: bytes) -> bytes:
    """HKDF-Extract; the secrets have full entropy, so no slow hash is needed."""
    return hmac.digest(_SLOT_SALT, secret, "sha256")


def expand(key: bytes, *info: str | bytes | int) -> bytes:
    """32 bytes by HKDF-Expand with packed info."""
    return HKDFExpand(SHA256(), 32, packed(*info)).derive(key)


def xwing_keys(seed: bytes) -> tuple[MLKEM768X25519PrivateKey, bytes]:
    """An X-Wing private key from its 32-byte seed, and its public key's 1216 bytes."""
    stretched = hashlib.shake_256(seed).digest(96)
    lattice = MLKEM768PrivateKey.from_seed_bytes(stretched[:64])
    curve = X25519PrivateKey.from_private_bytes(stretched[64:])
    public = lattice.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()
    return MLKEM768X25519PrivateKey(lattice, curve), public


def xwing_public(raw: bytes) -> MLKEM768X25519PublicKey:
    """A public key from its 1216 bytes; raises ValueError if they are none."""
    if len(raw) != PUBLIC_KEY_BYTES:
        raise ValueError("not a public key")
    return MLKEM768X25519PublicKey(
        MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM_PUBLIC_BYTES]),
        X25519PublicKey.from_public_bytes(raw[_MLKEM_PUBLIC_BYTES:]),
    )


def tag(key: bytes, *parts: str | bytes | int) -> bytes:
    """HMAC-SHA256 over packed parts."""
    return hmac.digest(key, packed(*parts), "sha256")


def self_test() -> None:
    """Prove that this build of the library has ML-KEM and HPKE; raises whatever it lacks."""
    private, public = xwing_keys(b"\x00" * 32)
    sealed = SUITE.encrypt(b"test", xwing_public(public), info=b"xairouter")
    if SUITE.decrypt(sealed, private, info=b"xairouter") != b"test":
        raise ValueError("HPKE does not open what it sealed")


def check_cryptography() -> None:
    """Raises ConfigError where this build of the library lacks what custody needs."""
    failed = ""
    try:
        self_test()
    except Exception as error:  # noqa: BLE001 -- whatever is missing, the sentence is the same
        failed = type(error).__name__
    if failed:
        raise ConfigError(
            [
                "The installed `cryptography` package has no working ML-KEM and HPKE "
                f"({failed}); install a build with them. There is no weaker fallback."
            ]
        )
