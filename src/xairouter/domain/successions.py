"""One vault's word that another takes its place, as it stands in the database."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Succession:
    """The vault of ``public_key`` says that the owner's vault from ``epoch`` on is the one of
    ``successor`` (a commitment, 64 hexadecimal digits). All of it is public."""

    owner_id: str
    epoch: int
    successor: str
    public_key: bytes
    signature: bytes
