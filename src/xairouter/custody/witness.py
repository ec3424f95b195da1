"""What this instance remembers of each vault outside the database: its root and highest epoch.

Who writes the database can plant a slot that opens a vault of the writer's own making in an
owner's name, or roll the database back to an epoch that a re-key had shut out. Neither agrees with
the witness: the first opening of a vault (or its making) notes a commitment to its root, and from
then on another root, or an older epoch, is refused.

File ``vault-witness`` in the data directory, one line a note, the last one of an owner counts::

    owner-id epoch commitment (HMAC-SHA256 under the root, 64 hexadecimal digits)
"""

import hmac
from pathlib import Path

from xairouter.custody.derive import tag
from xairouter.custody.vault import OpenVault, root_key
from xairouter.errors import CustodyError


class Witness:
    """The notes of one data directory; shared with other processes by appending lines."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._notes: dict[str, tuple[int, str]] = {}
        self._read_to = 0

    def check(self, vault: OpenVault) -> None:
        """Raises CustodyError if the vault contradicts what was seen; notes what is new."""
        commitment = _commitment(vault)
        if vault.owner_id not in self._notes:
            self._read()
        noted = self._notes.get(vault.owner_id)
        if noted is None:
            self.note(vault)
            return
        epoch, root = noted
        if not hmac.compare_digest(root, commitment) or vault.epoch < epoch:
            # Another process may have renewed the vault since.
            self._read()
            epoch, root = self._notes[vault.owner_id]
        if not hmac.compare_digest(root, commitment):
            raise CustodyError("The vault in the database is not the one known here.")
        if vault.epoch < epoch:
            raise CustodyError("The vault in the database is older than one already seen here.")
        if vault.epoch > epoch:
            self.note(vault)

    def note(self, vault: OpenVault) -> None:
        """Remember a vault as the owner's, in place of what was known: made here, or taken over."""
        commitment = _commitment(vault)
        self._notes[vault.owner_id] = (vault.epoch, commitment)
        if self._path is not None:
            with self._path.open("a", encoding="ascii") as file:
                file.write(f"{vault.owner_id} {vault.epoch} {commitment}\n")

    def _read(self) -> None:
        """Take in the lines that were appended since the last look."""
        if self._path is None or not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read_to)
            data = file.read()
        whole, newline, _ = data.rpartition(b"\n")
        self._read_to += len(whole) + len(newline)
        for line in whole.decode("ascii", "replace").splitlines():
            owner, _, rest = line.partition(" ")
            epoch, _, commitment = rest.partition(" ")
            if epoch.isdigit() and len(commitment) == 64:
                self._notes[owner] = (int(epoch), commitment)


def _commitment(vault: OpenVault) -> str:
    return tag(root_key(vault, "witness"), "xairouter/witness/v1", vault.owner_id).hex()
