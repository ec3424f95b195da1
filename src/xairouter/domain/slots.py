"""Key slots as values: one for each secret that can open an owner's vault."""

from dataclasses import dataclass, field
from enum import StrEnum


class SlotPurpose(StrEnum):
    """What a slot's secret is: it opens the vault for this and for nothing else."""

    API_KEY = "api_key"
    RECOVERY = "recovery"
    AUTOMATION = "automation"
    SESSION = "session"
    INVITATION = "invitation"


LIVES_MS = {SlotPurpose.SESSION: 12 * 3_600_000, SlotPurpose.INVITATION: 72 * 3_600_000}
"""How long a slot of a purpose lives at most, from the instant in its id, which its tag binds: what
the column of its expiry says can only be sooner."""
AHEAD_MS = 3_600_000
"""By how much a clock may be behind the one that made something. What lives a fixed time and seems to
be made later than that was made by a clock that was ahead, and would live as much too long."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot row. ``ciphertext`` and ``seal_tag`` are None while its key is suspended.

    ``look_up_id`` finds the slot when its secret is presented; nothing in the row opens anything
    without that secret.
    """

    id: str
    owner_id: str
    purpose: SlotPurpose
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
