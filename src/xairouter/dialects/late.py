"""What a reader of replies leaves for later, because it may take long."""

STEP = 1024
"""Bytes of what is dear to read that are looked at in one step."""


class LateReader:
    """A reader that leaves what may take long: it ``is_late`` with it until ``read_on``
    has read that in parts. What comes meanwhile is left, too. Where it ``leaves`` what may take long,
    ``close`` does not read that either."""

    __slots__ = ("_late", "_late_at", "leaves")

    def __init__(self) -> None:
        self._late = b""
        self._late_at = 0
        self.leaves = False

    @property
    def is_late(self) -> bool:
        return bool(self._late)

    def leave(self, data: bytes, *, is_first: bool = False) -> None:
        """Leave bytes, behind those that are left or before them."""
        left = self._late[self._late_at :]
        self._late = data + left if is_first else left + data
        self._late_at = 0

    def read_on(self) -> None:
        """Read the next part of what was left."""
        at = self._late_at
        part = self._late[at : at + STEP]
        self._late_at = at + STEP
        if self._late_at >= len(self._late):
            self._late, self._late_at = b"", 0
        self._read(part)

    def catch_up(self) -> None:
        """Read all of it."""
        while self._late:
            self.read_on()

    def _read(self, part: bytes) -> bool:
        raise NotImplementedError
