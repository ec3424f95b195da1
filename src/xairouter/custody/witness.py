"""What this data directory remembers of each vault outside the database: its root and highest epoch.

Who writes the database can plant a slot that opens a vault of the writer's own making in an
owner's name, or roll the database back to an epoch that a re-key had shut out. Neither agrees with
the witness: the first opening of a vault (or its making) notes a commitment to its root, and from
then on another root, or an older epoch, is refused.

An owner who takes over gets a new root, which other machines cannot tell from a planted one. So the
old vault signs the new one (ML-DSA-65, FIPS 204, with a key derived from its root): whoever noted
the old vault follows its word, and nobody else's. The commitment is the hash of that key's public
half.

File ``vault-witness`` in the data directory, one line a note, the last one of an owner counts::

    owner-id epoch v3 commitment checksum

The commitment is the SHA-256 of the public key, in 64 hexadecimal digits; the checksum the CRC-32 of
the line before it, in 8, so that a line that the disk has altered locks nobody out: it counts as not
there, and is told. Lines of form v2 end with the commitment.
"""

import hmac
import re
from collections.abc import Sequence
from hashlib import sha256
from io import SEEK_END
from pathlib import Path
from zlib import crc32

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey

from xairouter.custody.derive import packed
from xairouter.custody.vault import OpenVault, root_key
from xairouter.domain.successions import Succession
from xairouter.errors import CustodyError

_FORM, _WITHOUT_CHECKSUM = "v3", "v2"


class UnknownVaultError(CustodyError):
    """The vault is not the one known here; it may be its rightful successor."""


class OutdatedVaultError(CustodyError):
    """A later epoch of the vault has been seen here: the slot may have been read before a re-key."""


class Witness:
    """The notes of one data directory; shared with other processes by appending lines."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._notes: dict[str, tuple[int, str]] = {}
        self._read_to = 0
        self._unwritten = b""
        self.damaged: list[int] = []
        """Where lines begin that are none, as far as the file was read."""

    @property
    def owners(self) -> int:
        """Of how many owners a vault is known here."""
        self.read()
        return len(self._notes)

    def check(self, vault: OpenVault) -> None:
        """Raises CustodyError if the vault contradicts what was seen; notes what is new."""
        commitment = commitment_of(vault)
        if vault.owner_id not in self._notes:
            self.read()
        noted = self._notes.get(vault.owner_id)
        if noted is None:
            self.note(vault)
            return
        epoch, root = noted
        if not hmac.compare_digest(root, commitment) or vault.epoch < epoch:
            # Another process may have renewed the vault since.
            self.read()
            epoch, root = self._notes[vault.owner_id]
        if not hmac.compare_digest(root, commitment):
            raise UnknownVaultError("The vault in the database is not the one known here.")
        if vault.epoch < epoch:
            raise OutdatedVaultError(
                "The vault in the database is older than one already seen here."
            )
        if vault.epoch > epoch:
            self.note(vault)

    def note(self, vault: OpenVault) -> None:
        """Remember a vault as the owner's, in place of what was known: made here, or taken over."""
        commitment = commitment_of(vault)
        self._notes[vault.owner_id] = (vault.epoch, commitment)
        line = f"{vault.owner_id} {vault.epoch} {_FORM} {commitment}"
        self._unwritten += f"{line} {_checksum(line)}\n".encode("ascii")
        self.write()

    def write(self) -> str:
        """Write what was noted and is not in the file yet; why that is not possible now, else "".

        A vault is noted when it is in the database: its owner must get its secrets all the same.
        """
        if self._path is None or not self._unwritten:
            return ""
        try:
            with self._path.open("a+b") as file:
                # Behind a line that was cut off, the next one would be a part of it.
                if file.tell():
                    file.seek(-1, SEEK_END)
                cut_off = file.read(1) not in (b"", b"\n")
                file.write((b"\n" if cut_off else b"") + self._unwritten)
        except OSError as error:
            return error.strerror or str(error)
        self._unwritten = b""
        return ""

    def follow(self, vault: OpenVault, said: Sequence[Succession]) -> None:
        """Accept a vault that the known one named its successor, in one step or several; raises
        UnknownVaultError if it did not."""
        noted = self._notes.get(vault.owner_id)
        for one in sorted(said, key=lambda one: one.epoch):
            if noted is not None and one.owner_id == vault.owner_id and _follows(noted, one):
                noted = one.epoch, one.successor
        if noted is None or not hmac.compare_digest(noted[1], commitment_of(vault)):
            raise UnknownVaultError("The vault in the database is not the one known here.")
        if vault.epoch < noted[0]:
            raise CustodyError("The vault in the database is older than one already seen here.")
        self.note(vault)

    def read(self) -> None:
        """Take in the lines that were appended since the last look."""
        if self._path is None or not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read_to)
            data = file.read()
        whole, newline, _ = data.rpartition(b"\n")
        at = self._read_to
        self._read_to += len(whole) + len(newline)
        for line in whole.split(b"\n"):
            noted = _noted(line)
            if noted is not None:
                self._notes[noted[0]] = noted[1]
            elif line:
                self.damaged.append(at)
            at += len(line) + 1


_LINE = re.compile(rb"(([!-~]+) ([0-9]{1,10}) (v2|v3) ([0-9a-f]{64}))(?: ([0-9a-f]{8}))?")


def _noted(line: bytes) -> tuple[str, tuple[int, str]] | None:
    """What a line notes: of which owner, and the epoch and the commitment. None if it is none."""
    found = _LINE.fullmatch(line)
    if found is None:
        return None
    said, owner_id, epoch, form, commitment, checksum = (
        "" if part is None else part.decode() for part in found.groups()
    )
    if checksum != ("" if form == _WITHOUT_CHECKSUM else _checksum(said)):
        return None
    return owner_id, (int(epoch), commitment)


def _checksum(said: str) -> str:
    return f"{crc32(said.encode('ascii')):08x}"


def succession(vault: OpenVault, successor: OpenVault) -> Succession:
    """A vault's word that another one takes its place."""
    key = _signing_key(vault)
    named = commitment_of(successor)
    said = _said(successor.owner_id, successor.epoch, named)
    public_key = key.public_key().public_bytes_raw()
    return Succession(successor.owner_id, successor.epoch, named, public_key, key.sign(said))


def commitment_of(vault: OpenVault) -> str:
    """What tells a vault's root from every other without showing it: 64 hexadecimal digits."""
    return sha256(_signing_key(vault).public_key().public_bytes_raw()).hexdigest()


def _signing_key(vault: OpenVault) -> MLDSA65PrivateKey:
    return MLDSA65PrivateKey.from_seed_bytes(root_key(vault, "witness"))


def _said(owner_id: str, epoch: int, successor: str) -> bytes:
    return packed("xairouter/succession/v1", owner_id, epoch, successor)


def _follows(noted: tuple[int, str], said: Succession) -> bool:
    """Whether the vault that was noted said so itself."""
    epoch, commitment = noted
    if said.epoch <= epoch or sha256(said.public_key).hexdigest() != commitment:
        return False
    try:
        MLDSA65PublicKey.from_public_bytes(said.public_key).verify(
            said.signature, _said(said.owner_id, said.epoch, said.successor)
        )
    except (InvalidSignature, ValueError):
        return False
    return True
