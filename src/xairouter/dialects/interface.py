"""What a dialect knows. ``table.py`` lists those there are; each file fills in one ``Dialect``."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, islice
from typing import Any, Protocol, TypeGuard

from xairouter.dialects.look import Look
from xairouter.domain.calls import LONGEST_MODEL, Match, Peek, Refusal, Usage
from xairouter.errors import ErrorRow

Scalar = int | float | str
MOST_TOKENS = 10**12
"""More than any reply can hold; a larger count is a lie or a mistake, and is not believed."""
MOST_NUMBER = 1 << 53
"""No journal takes a whole number as large as this."""
LONGEST_ID = 1024
"""Characters of a provider object's id; a longer one is not registered."""
MOST_PARTS = 256
"""Output items and the like that are registered of one reply."""
MOST_LETTERS = 80 * MOST_PARTS
"""Characters of their ids together, all of which are stored."""
_LONGEST_PATH = 128


def _is_id(value: object) -> TypeGuard[str]:
    """Whether a value can be the id of a provider object: short, and of printable ASCII."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= LONGEST_ID
        and value.isascii()
        and value.isprintable()
    )


class Tally:
    """What a reply has said so far: raw usage fields (last statement wins), id, model, failure.

    ``raw`` is keyed by the dotted path of a field in the provider's usage object. Bounded: at most
    ``MAX_FIELDS`` fields, names of at most 128 and strings of at most 64 characters.

    ``is_final`` – the usage stated is the one that the provider bills, and no more comes; each
    dialect's ``absorb`` says when. ``is_over`` – whether a response that may be made in the
    background has come to its end, None where that is not said. ``choices`` – how many answers end
    in the stream (0: it is no stream), ``finished`` – those that have ended. ``parts`` – ids of
    stored output items and containers, at most ``MOST_PARTS``; ``on_parts`` is called when they are
    read. ``shows_use`` – the reply shows by itself how often the provider's tools were used;
    ``is_condensed`` – a part of it was read in small.
    """

    MAX_FIELDS = 96
    __slots__ = (
        "choices",
        "finished",
        "has_ended",
        "has_failed",
        "is_condensed",
        "is_final",
        "is_over",
        "model",
        "object_id",
        "on_parts",
        "parts",
        "raw",
        "service_tier",
        "shows_use",
        "unreadable",
    )

    def __init__(self) -> None:
        self.raw: dict[str, Scalar] = {}
        self.object_id: str | None = None
        self.parts: tuple[str, ...] = ()
        self.on_parts: Callable[[], None] | None = None
        self.model: str | None = None
        self.service_tier: str | None = None
        self.has_failed = False
        self.unreadable = 0
        self.has_ended = False
        self.is_final = self.is_condensed = self.shows_use = False
        self.is_over: bool | None = None
        self.choices = 1
        self.finished = 0

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

    def _put(self, path: str, value: Any) -> None:
        kind = type(value)
        if kind is int:
            fits = abs(value) < MOST_NUMBER
        elif kind is str:
            fits = len(value) <= 64
        else:
            fits = kind is float
        if not fits:
            return
        if len(path) <= _LONGEST_PATH and (path in self.raw or len(self.raw) < self.MAX_FIELDS):
            self.raw[path] = value

    def note_parts(self, ids: Iterable[object]) -> None:
        """Remember the ids of what the provider keeps beside the reply itself, and report them."""
        parts = list(islice(dict.fromkeys(one for one in ids if _is_id(one)), MOST_PARTS))
        sums = accumulate(len(one) for one in parts)
        fitting = tuple(parts[: sum(1 for total in sums if total <= MOST_LETTERS)])
        if fitting != self.parts:
            self.parts = fitting
            if self.on_parts is not None:
                self.on_parts()

    def note_more_parts(self, ids: Iterable[object]) -> None:
        """``note_parts`` of what a further event names."""
        new = [one for one in ids if _is_id(one) and one not in self.parts]
        if new and len(self.parts) < MOST_PARTS:
            self.note_parts((*self.parts, *new))

    def note(self, *, object_id: object = None, model: object = None, tier: object = None) -> None:
        """Remember the reply's id (the first), model and service tier (the last) if they are words."""
        if self.object_id is None and _is_id(object_id):
            self.object_id = object_id
        if isinstance(model, str) and len(model) <= LONGEST_MODEL:
            self.model = model
        if isinstance(tier, str) and len(tier) <= 64:
            self.service_tier = tier

    def count(self, *paths: str) -> int | None:
        """The first of the named fields that is a whole number from 0 to ``MOST_TOKENS``."""
        for value in map(self.raw.get, paths):
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
    """Reads a request body; ``look`` is what ``look_over`` found in it, where it was asked."""

    def __call__(self, match: Match, body: bytes, look: Look | None = None) -> Peek | Refusal: ...


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

        ``bound`` is the field that bounds output at this provider, and the most that the rules
        allow; it is put in where the request does not say less in that very field.
        """


@dataclass(frozen=True, slots=True)
class Dialect:
    """One wire format.

    ``peek`` reads a request body. ``prepare`` makes the outbound path and body for a route.
    ``absorb`` reads one JSON document of a reply (a whole body or one stream event) into a Tally
    and may raise on malformed JSON; ``marks`` are byte strings of which one must occur in an event
    for it to be worth reading; ``end_marks`` are lines of an event (``name: value``) that say that
    the stream has ended: whole lines only, for a model may write such words.
    ``total`` turns the tally into Usage. ``refuse`` renders our error
    as a body, ``refuse_midstream`` as one event of a running stream. ``reply_fields`` are
    what ``absorb`` reads at the top of a document, ``reply_holders`` the objects in which it reads
    them once more: all that is kept of a large one. ``text`` finds the
    strings that a model wrote in a piece of a reply, the last of which may be cut.
    ``reply_lists`` are arrays of objects, of which those fields are read; ``beginning`` reads the
    beginning of a body of which else little is kept. Where
    ``end_is_final``, a stream's last word makes the usage final that was stated before it.
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
    text: re.Pattern[bytes]
    default_headers: Mapping[str, str] = field(default_factory=dict)
    reply_fields: frozenset[str] = frozenset()
    reply_holders: frozenset[str] = frozenset()
    reply_lists: Mapping[str, frozenset[str]] = field(default_factory=dict)
    end_is_final: bool = False
    beginning: Callable[[Tally, bytes], None] | None = None


def strings_of(*fields: str) -> re.Pattern[bytes]:
    """Finds the values of some fields that are strings, without their quotes."""
    names = "|".join(fields).encode()
    return re.compile(rb'"(?:' + names + rb')"\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)', re.DOTALL)
