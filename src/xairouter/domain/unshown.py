"""A base for objects that hold secrets: they show nothing of themselves, anywhere."""


class Unshown:
    """No repr, text, equality, hash or pickle: such an object cannot reach a log line, a set, a
    comparison's message or a file by accident."""

    __slots__ = ()

    def _closed(self, *_: object) -> str:
        raise TypeError("This object shows nothing of itself.")

    __repr__ = _closed
    __str__ = _closed
    __reduce__ = _closed
    __reduce_ex__ = _closed
    __eq__ = _closed  # type: ignore[assignment]
    __hash__ = _closed  # type: ignore[assignment]
