"""The highest epoch this instance has seen of each vault, kept outside the database.

Who rolls the database back to an older epoch brings back slots that a re-key had shut out; an
epoch below the floor is refused. Only epochs above 1 are written, one line each.
"""

from pathlib import Path

from xairouter.errors import CustodyError


class EpochFloor:
    """Reads ``vault-epochs`` in the data directory; appends a line when an epoch rises."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: dict[str, int] = {}
        if path is not None and path.exists():
            for line in path.read_text("ascii").splitlines():
                owner, _, epoch = line.partition(" ")
                if epoch.isdigit():
                    self._seen[owner] = max(self._seen.get(owner, 1), int(epoch))

    def check(self, owner_id: str, epoch: int) -> None:
        """Raises CustodyError if the epoch is older than one already seen; remembers a newer."""
        floor = self._seen.get(owner_id, 1)
        if epoch < floor:
            raise CustodyError("The vault in the database is older than one already seen here.")
        if epoch > floor:
            self._seen[owner_id] = epoch
            if self._path is not None:
                with self._path.open("a", encoding="ascii") as file:
                    file.write(f"{owner_id} {epoch}\n")
