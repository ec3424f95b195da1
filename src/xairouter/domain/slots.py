"""Key slots as values: one for each secret that can open an owner's vault."""

from dataclasses import dataclass, field

API_KEY, RECOVERY, AUTOMATION, SESSION = "api_key", "recovery", "automation", "session"
INVITATION = "invitation"


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot row. ``ciphertext`` and ``seal_tag`` are None while its key is suspended.

    ``look_up_id`` finds the slot when its secret is presented; nothing in the row opens anything
    without that secret.
    """

    id: str
    owner_id: str
    purpose: str
    account_id: str
    key_id: str
    look_up_id: bytes = field(repr=False)
    public_key: bytes = field(repr=False)
    anchor: bytes = field(repr=False)
    id_tag: bytes = field(repr=False)
    epoch: int
    ciphertext: bytes | None = field(repr=False)
    seal_tag: bytes | None = field(repr=False)
    version: int = 1
    expires_at_ms: int | None = None
