"""What a dialect knows. ``table.py`` lists those there are; each file fills in one ``Dialect``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from xairouter.domain.calls import Match, Peek, Refusal, Usage
from xairouter.errors import ErrorRow

Scalar = int | float | str
MOST_TOKENS = 10**12
"""More than any reply can hold; a larger count is a lie or a mistake, and is not believed."""
_LONGEST_PATH = 128


class Tally:
    """What a reply has said so far: raw usage fields (last statement wins), id, model, failure.

    ``raw`` is keyed by the dotted path of a field in the provider's usage object. Bounded: at most
    ``MAX_FIELDS`` fields, names of at most 128 and strings of at most 64 characters.
    """

    MAX_FIELDS = 96
    __slots__ = ("error", "has_ended", "model", "object_id", "raw", "service_tier", "unreadable")

    def __init__(self) -> None:
        self.raw: dict[str, Scalar] = {}
        self.object_id: str | None = None
        self.model: str | None = None
        self.service_tier: str | None = None
        self.error: str | None = None
        self.unreadable = 0
        self.has_ended = False

    def add_usage(self, usage: object, prefix: str = "") -> None:
        """Merge a usage object field by field; ignores what is not a number or a short word."""
        if not isinstance(usage, dict):
            return
        for name, value in usage.items():
            path = f"{prefix}{name}"
            if isinstance(value, dict):
                if prefix.count(".") < 3:
                    self.add_usage(value, path + ".")
            elif isinstance(value, list):
                self._add_modalities(path, value)
            else:
                self._put(path, value)

    def _add_modalities(self, path: str, rows: list[object]) -> None:
        """Gemini's lists of ``{modality, tokenCount}``."""
        for row in rows:
            if isinstance(row, dict) and isinstance(row.get("modality"), str):
                self._put(f"{path}.{row['modality'][:32]}", row.get("tokenCount"))

    def _put(self, path: str, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return
        if isinstance(value, str) and len(value) > 64:
            return
        if isinstance(value, int) and abs(value) >= 1 << 53:  # No journal takes it.
            return
        if len(path) <= _LONGEST_PATH and (path in self.raw or len(self.raw) < self.MAX_FIELDS):
            self.raw[path] = value

    def note(self, *, object_id: object = None, model: object = None, tier: object = None) -> None:
        """Remember the reply's id (the first), model and service tier (the last) if they are words."""
        if self.object_id is None and isinstance(object_id, str) and len(object_id) <= 128:
            self.object_id = object_id
        if isinstance(model, str) and len(model) <= 256:
            self.model = model
        if isinstance(tier, str) and len(tier) <= 64:
            self.service_tier = tier

    def count(self, *paths: str) -> int | None:
        """The first of the named fields that is a whole number from 0 to ``MOST_TOKENS``."""
        for path in paths:
            value = self.raw.get(path)
            if value is None:
                continue
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            if isinstance(value, int) and 0 <= value <= MOST_TOKENS:
                return value
        return None

    def detail(self, used: frozenset[str]) -> Mapping[str, Scalar]:
        """The fields that are not among the normalised ones, as reported; zeros are left out."""
        return {path: value for path, value in self.raw.items() if path not in used and value != 0}


class Peeker(Protocol):
    """Reads a request body."""

    def __call__(self, match: Match, body: bytes) -> Peek | Refusal: ...


class Preparer(Protocol):
    """Makes the outbound path and body for a route."""

    def __call__(
        self,
        match: Match,
        peek: Peek,
        body: bytes,
        *,
        model: str | None,
        ask_usage: bool,
        bound: tuple[str, int] | None,
    ) -> tuple[str, bytes, bool]:
        """(path behind the base URL, body, whether usage was asked for on the client's behalf).

        ``bound`` is the field that bounds output and the number to put there, where the request
        declares none and the rules do.
        """


@dataclass(frozen=True, slots=True)
class Dialect:
    """One wire format.

    ``peek`` reads a request body. ``prepare`` makes the outbound path and body for a route.
    ``absorb`` reads one JSON document of a reply (a whole body or one stream event) into a Tally
    and may raise on malformed JSON; ``marks`` are byte strings of which one must occur in an event
    for it to be worth reading; ``end_marks`` stand in the event that is a stream's last word.
    ``total`` turns the tally into Usage. ``refuse`` renders our error
    as a body, ``refuse_midstream`` as one event of a running stream. ``output_field`` is the
    request's field that bounds output, where a provider's row names no other.
    """

    name: str
    peek: Peeker
    prepare: Preparer
    absorb: Callable[[Tally, bytes], None]
    total: Callable[[Tally], Usage]
    marks: tuple[bytes, ...]
    end_marks: tuple[bytes, ...]
    refuse: Callable[[ErrorRow, Refusal, str], bytes]
    refuse_midstream: Callable[[ErrorRow, Refusal, str], bytes]
    default_headers: Mapping[str, str] = field(default_factory=dict)
    output_field: str = "max_tokens"
